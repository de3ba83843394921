//! `GET /v1/dashboard/ws/{slug}/api-keys`

use axum::{Json, extract::State};
use proto::problem::Problem;
use serde::Serialize;
use utoipa::ToSchema;

use super::{ADMIN, ApiKey, Read, store};
use crate::{
    api::{MemberFailure, PersonFailure},
    app::App,
    error::Error,
    people::Member,
    request::Query,
};

/// All keys that you may see.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApiKeys {
    items: Vec<ApiKey>,
}

/// List API keys
///
/// Newest first. Viewers and members see those that they made, admins and owners all. Revoked
/// keys stay listed for 90 days.
#[utoipa::path(get, path = "/v1/dashboard/ws/{slug}/api-keys", tag = "api-keys",
    operation_id = "listApiKeys",
    params(("slug" = String, Path, description = "The workspace's slug", example = "search-team")),
    security(("access_token" = ["sessions:read"]), ("access_cookie" = ["sessions:read"])),
    responses(
        (status = 200, description = "The keys, without their secrets", body = ApiKeys),
        MemberFailure,
        PersonFailure,
    ))]
pub async fn handler(
    State(app): State<App>,
    member: Member<Read>,
    query: Query,
) -> Result<Json<ApiKeys>, Problem> {
    query.allow_none()?;
    let mut tx = app.db.read().await.map_err(Error::from)?;
    let mut keys = store::listed(&mut tx, member.workspace.id).await.map_err(Error::from)?;
    if !member.role.allows(ADMIN) {
        keys.retain(|key| key.created_by == Some(member.person.id));
    }
    Ok(Json(ApiKeys { items: keys.into_iter().map(ApiKey::from).collect() }))
}
