//! `GET /v1/dashboard/ws/{slug}`

use axum::Json;
use proto::problem::Problem;

use super::object::Workspace;
use crate::{
    api::{MemberFailure, PersonFailure},
    keys::Read,
    people::Member,
    request::Query,
};

/// Get a workspace
///
/// A deleted workspace is shown to its owners alone.
#[utoipa::path(get, path = "/v1/dashboard/ws/{slug}", tag = "workspaces",
    operation_id = "getWorkspace",
    params(("slug" = String, Path, description = "The workspace's slug", example = "search-team")),
    security(("access_token" = ["sessions:read"]), ("access_cookie" = ["sessions:read"])),
    responses(
        (status = 200, description = "The workspace", body = Workspace),
        MemberFailure,
        PersonFailure,
    ))]
pub async fn handler(member: Member<Read>, query: Query) -> Result<Json<Workspace>, Problem> {
    query.allow_none()?;
    Ok(Json(Workspace::of(member.workspace, member.role)))
}
