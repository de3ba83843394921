//! `DELETE /v1/dashboard/ws/{slug}/invitations/{id}`

use axum::extract::{Path, State};
use http::StatusCode;
use proto::{id::InvitationId, problem::Problem};

use super::store;
use crate::{
    api::{MemberFailure, PersonFailure},
    app::App,
    audit::{self, Deed},
    error::Error,
    keys::Admin,
    people::Member,
    request::Query,
};

/// Withdraw an invitation
///
/// Its link stops working. Admins withdraw those of viewers and members, owners all.
#[utoipa::path(delete, path = "/v1/dashboard/ws/{slug}/invitations/{id}", tag = "members",
    operation_id = "withdrawInvitation",
    params(
        ("slug" = String, Path, description = "The workspace's slug", example = "search-team"),
        ("id" = String, Path, description = "The invitation's id", example = "01KAW42H7C3N9V5Z8S1Q6T4WMB"),
    ),
    security(("access_token" = ["admin"]), ("access_cookie" = ["admin"])),
    responses(
        (status = 204, description = "Withdrawn"),
        MemberFailure,
        PersonFailure,
    ))]
pub async fn handler(
    State(app): State<App>,
    member: Member<Admin>,
    path: Path<(String, String)>,
    query: Query,
) -> Result<StatusCode, Problem> {
    query.allow_none()?;
    let Path((_, id)) = path;
    let id = id.parse().map_err(|_| no_such_invitation())?;
    withdraw(&app, &member, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn withdraw(app: &App, member: &Member<Admin>, id: InvitationId) -> Result<(), Error> {
    let mut tx = app.db.begin().await?;
    let own = member.lock(&mut tx).await?;
    let found = store::get(&mut tx, id).await?;
    let found = found.filter(|found| found.workspace_id == member.workspace.id);
    let found = found.ok_or_else(no_such_invitation)?;
    if !own.governs(found.role) {
        let detail = format!("the role {own} cannot withdraw the invitation of an {}", found.role);
        return Err(Error::Forbidden(detail));
    }
    if !store::take(&mut tx, id).await? {
        return Err(no_such_invitation());
    }
    let deed = Deed {
        action: "invitation.withdraw",
        target_kind: "invitation",
        target_id: &id.to_string(),
        detail: &[("email", found.email.into()), ("role", found.role.as_str().into())],
    };
    audit::record(&mut tx, member.workspace.id, &member.person.actor, deed).await?;
    tx.commit().await?;
    Ok(())
}

fn no_such_invitation() -> Error {
    Error::NoSuch("no invitation of this workspace has this id")
}
