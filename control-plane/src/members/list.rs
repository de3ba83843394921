//! `GET /v1/dashboard/ws/{slug}/members`

use axum::{Json, extract::State};
use proto::problem::Problem;
use serde::Serialize;
use utoipa::ToSchema;

use super::{MemberObject, store};
use crate::{
    api::{MemberFailure, PersonFailure},
    app::App,
    error::Error,
    keys::Read,
    people::{Member, Role},
    request::Query,
};

/// All members that you may see.
#[derive(Debug, Serialize, ToSchema)]
pub struct Members {
    items: Vec<MemberObject>,
}

/// List members
///
/// By address. Viewers see themselves alone.
#[utoipa::path(get, path = "/v1/dashboard/ws/{slug}/members", tag = "members",
    operation_id = "listMembers",
    params(("slug" = String, Path, description = "The workspace's slug", example = "search-team")),
    security(("access_token" = ["sessions:read"]), ("access_cookie" = ["sessions:read"])),
    responses(
        (status = 200, description = "The members", body = Members),
        MemberFailure,
        PersonFailure,
    ))]
pub async fn handler(
    State(app): State<App>,
    member: Member<Read>,
    query: Query,
) -> Result<Json<Members>, Problem> {
    query.allow_none()?;
    let mut tx = app.db.read().await.map_err(Error::from)?;
    let mut all = store::all(&mut tx, member.workspace.id).await.map_err(Error::from)?;
    if member.role == Role::Viewer {
        all.retain(|other| other.user_id == member.person.id);
    }
    Ok(Json(Members { items: all.into_iter().map(MemberObject::from).collect() }))
}
