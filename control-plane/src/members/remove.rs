//! `DELETE /v1/dashboard/ws/{slug}/members/{user_id}`

use axum::extract::{Path, State};
use http::StatusCode;
use proto::{id::UserId, problem::Problem};

use super::{keep_an_owner, named, no_such_member, store};
use crate::{
    api::{LastOwner, MemberFailure, PersonFailure},
    app::App,
    audit::{self, Deed},
    error::Error,
    keys::{self, ADMIN, Read},
    people::Member,
    request::Query,
};

/// Remove a member
///
/// Admins remove viewers and members, owners anybody but the last owner; everybody may leave
/// by removing themselves. The API keys that the person made in this workspace are revoked.
#[utoipa::path(delete, path = "/v1/dashboard/ws/{slug}/members/{user_id}", tag = "members",
    operation_id = "removeMember",
    params(
        ("slug" = String, Path, description = "The workspace's slug", example = "search-team"),
        ("user_id" = String, Path, description = "The person's id; your own to leave", example = "01KAW40Q2V8D6M3T7B9N5R1XKE"),
    ),
    security(("access_token" = ["sessions:read"]), ("access_cookie" = ["sessions:read"])),
    responses(
        (status = 204, description = "Removed"),
        LastOwner,
        MemberFailure,
        PersonFailure,
    ))]
pub async fn handler(
    State(app): State<App>,
    member: Member<Read>,
    path: Path<(String, String)>,
    query: Query,
) -> Result<StatusCode, Problem> {
    query.allow_none()?;
    let Path((_, user)) = path;
    // Whoever may not remove others is told so before anything of the others.
    if user != member.person.id.to_string() && !member.role.allows(ADMIN) {
        let detail = format!("the role {} can remove nobody but yourself", member.role);
        return Err(Error::Forbidden(detail).into());
    }
    remove(&app, &member, named(&user)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(app: &App, member: &Member<Read>, user: UserId) -> Result<(), Error> {
    let workspace = member.workspace.id;
    let mut tx = app.db.begin().await?;
    let own = member.lock(&mut tx).await?;
    let other = store::get(&mut tx, workspace, user).await?.ok_or_else(no_such_member)?;
    let leaves = user == member.person.id;
    if !leaves && !own.governs(other.role) {
        let detail = format!("the role {own} cannot remove a {}", other.role);
        return Err(Error::Forbidden(detail));
    }
    keep_an_owner(&mut tx, workspace, other.role).await?;
    let revoked = keys::store::revoke_all_of(&mut tx, workspace, user).await?;
    store::remove(&mut tx, workspace, user).await?;
    let deed = Deed {
        action: if leaves { "member.leave" } else { "member.remove" },
        target_kind: "user",
        target_id: &user.to_string(),
        detail: &[
            ("email", other.email.as_str().into()),
            ("role", other.role.as_str().into()),
            ("keys_revoked", revoked.into()),
        ],
    };
    audit::record(&mut tx, workspace, &member.person.actor, deed).await?;
    tx.commit().await?;
    Ok(())
}
