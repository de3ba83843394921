//! `DELETE /v1/dashboard/ws/{slug}/api-keys/{key_id}`

use axum::extract::{Path, State};
use http::StatusCode;
use proto::{id::KeyId, problem::Problem};

use super::{ADMIN, Write, store};
use crate::{
    api::{MemberFailure, PersonFailure},
    app::App,
    audit::{self, Deed},
    error::Error,
    people::Member,
    request::Query,
};

/// Revoke an API key
///
/// The next request with it is refused; sessions that it created run on. Members revoke those
/// that they made, admins and owners all. Revoking a key again changes nothing.
#[utoipa::path(delete, path = "/v1/dashboard/ws/{slug}/api-keys/{key_id}", tag = "api-keys",
    operation_id = "revokeApiKey",
    params(
        ("slug" = String, Path, description = "The workspace's slug", example = "search-team"),
        ("key_id" = String, Path, description = "The key's id", example = "01KAW3ZJ8E5T7M1V9C4X2N6R0S"),
    ),
    security(("access_token" = ["sessions:write"]), ("access_cookie" = ["sessions:write"])),
    responses(
        (status = 204, description = "Revoked, now or before"),
        MemberFailure,
        PersonFailure,
    ))]
pub async fn handler(
    State(app): State<App>,
    member: Member<Write>,
    path: Path<(String, String)>,
    query: Query,
) -> Result<StatusCode, Problem> {
    query.allow_none()?;
    let Path((_, id)) = path;
    let id = id.parse().map_err(|_| no_such_key())?;
    revoke(&app, &member, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn revoke(app: &App, member: &Member<Write>, id: KeyId) -> Result<(), Error> {
    let workspace = member.workspace.id;
    let mut tx = app.db.begin().await?;
    let role = member.lock(&mut tx).await?;
    let found = store::find(&mut tx, id).await?;
    // The keys of others are not even there for those who do not see them.
    let found = found.filter(|key| {
        key.workspace_id == workspace
            && (role.allows(ADMIN) || key.created_by == Some(member.person.id))
    });
    let key = found.ok_or_else(no_such_key)?;
    if store::revoke(&mut tx, id).await? {
        let deed = Deed {
            action: "api_key.revoke",
            target_kind: "api_key",
            target_id: &id.to_string(),
            detail: &[("label", key.label.into())],
        };
        audit::record(&mut tx, workspace, &member.person.actor, deed).await?;
    }
    tx.commit().await?;
    Ok(())
}

fn no_such_key() -> Error {
    Error::NoSuch("no API key that you may see has this id")
}
