//! `GET /v1/profiles`

use axum::{Json, extract::State};
use proto::problem::Problem;
use serde::Serialize;
use utoipa::ToSchema;

use super::{object::Profile, store};
use crate::{
    api::Failure,
    app::App,
    error::Error,
    keys::{Caller, Read},
    paging::{Wanted, unfiltered},
    request::Query,
};

unfiltered!(All, "profiles");

/// One page of profiles, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProfilePage {
    items: Vec<Profile>,
    /// Give it as `cursor` for the next page. Null on the last one.
    next_cursor: Option<String>,
    /// Whether there is a next page.
    has_more: bool,
}

/// List profiles
///
/// Newest first. Pages are stable while profiles come and go.
#[utoipa::path(get, path = "/v1/profiles", tag = "profiles", operation_id = "listProfiles",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Most items of a page; 50 if not given"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
    ),
    security(("api_key" = ["sessions:read"])),
    responses((status = 200, description = "A page", body = ProfilePage), Failure))]
pub async fn handler(
    State(app): State<App>,
    caller: Caller<Read>,
    query: Query,
) -> Result<Json<ProfilePage>, Problem> {
    let wanted = Wanted::<All>::read(query)?;
    let after = wanted.after(&app.secrets, caller.workspace)?;
    let mut tx = app.db.read().await.map_err(Error::from)?;
    let rows = store::page(&mut tx, caller.workspace, after, wanted.rows()).await;
    let mut rows = rows.map_err(Error::from)?;
    let next_cursor = wanted.cut(&mut rows, &app.secrets, caller.workspace, |row| row.id);
    Ok(Json(ProfilePage {
        items: rows.into_iter().map(Profile::from).collect(),
        has_more: next_cursor.is_some(),
        next_cursor,
    }))
}
