//! `GET /v1/profiles`

use axum::{Json, extract::State};
use proto::problem::Problem;
use serde::Serialize;
use utoipa::ToSchema;

use super::{object::Profile, store};
use crate::{
    api::Failure,
    app::App,
    cursor::{self, Paging},
    error::Error,
    keys::{Caller, Read},
    request::Query,
};

/// Tells the cursors of this list from those of others.
const LIST: &str = "profiles";

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
    let paging = Paging::read(query)?;
    let after = paging.after(&app.secrets, caller.workspace, LIST)?;
    let mut tx = app.db.read().await.map_err(Error::from)?;
    // One more than wanted tells whether there is a next page.
    let rows = store::page(&mut tx, caller.workspace, after, paging.limit + 1).await;
    let mut rows = rows.map_err(Error::from)?;
    let limit = usize::try_from(paging.limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor = rows
        .last()
        .filter(|_| has_more)
        .map(|last| cursor::encode(&app.secrets, caller.workspace, LIST, last.id));
    Ok(Json(ProfilePage {
        items: rows.into_iter().map(Profile::from).collect(),
        next_cursor,
        has_more,
    }))
}
