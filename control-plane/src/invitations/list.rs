//! `GET /v1/dashboard/ws/{slug}/invitations`

use axum::{Json, extract::State};
use proto::problem::Problem;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Invitation, store};
use crate::{
    api::{MemberFailure, PersonFailure},
    app::App,
    error::Error,
    keys::Admin,
    people::Member,
    request::Query,
};

/// All invitations that are open.
#[derive(Debug, Serialize, ToSchema)]
pub struct Invitations {
    items: Vec<Invitation>,
}

/// List invitations
///
/// Those that can still be accepted, newest first.
#[utoipa::path(get, path = "/v1/dashboard/ws/{slug}/invitations", tag = "members",
    operation_id = "listInvitations",
    params(("slug" = String, Path, description = "The workspace's slug", example = "search-team")),
    security(("access_token" = ["admin"]), ("access_cookie" = ["admin"])),
    responses(
        (status = 200, description = "The invitations", body = Invitations),
        MemberFailure,
        PersonFailure,
    ))]
pub async fn handler(
    State(app): State<App>,
    member: Member<Admin>,
    query: Query,
) -> Result<Json<Invitations>, Problem> {
    query.allow_none()?;
    let mut tx = app.db.read().await.map_err(Error::from)?;
    let open = store::open(&mut tx, member.workspace.id).await.map_err(Error::from)?;
    Ok(Json(Invitations { items: open.into_iter().map(Invitation::from).collect() }))
}
