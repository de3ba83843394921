//! `DELETE /v1/dashboard/ws/{slug}`, and the way back.

use axum::{Json, extract::State};
use http::StatusCode;
use proto::problem::Problem;

use super::{GRACE_DAYS, GRACE_US, Status, object::Workspace, store, upkeep};
use crate::{
    api::{Conflicting, MemberFailure, PersonFailure},
    app::App,
    audit::{self, Deed},
    error::Error,
    keys::Owner,
    people::Member,
    request::Query,
};

/// Delete a workspace
///
/// Its API keys stop working and its sessions end at once. Its owners can restore it for 30
/// days; then everything in it is deleted for good. Deleting it again changes nothing.
#[utoipa::path(delete, path = "/v1/dashboard/ws/{slug}", tag = "workspaces",
    operation_id = "deleteWorkspace",
    params(("slug" = String, Path, description = "The workspace's slug", example = "search-team")),
    security(("access_token" = ["workspace:owner"]), ("access_cookie" = ["workspace:owner"])),
    responses(
        (status = 204, description = "Deleted, now or before"),
        MemberFailure,
        PersonFailure,
    ))]
pub async fn delete(
    State(app): State<App>,
    member: Member<Owner>,
    query: Query,
) -> Result<StatusCode, Problem> {
    query.allow_none()?;
    mark(&app, &member).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn mark(app: &App, member: &Member<Owner>) -> Result<(), Error> {
    let mut tx = app.db.begin().await?;
    let (workspace, _) = member.lock_closed(&mut tx).await?;
    if workspace.status() == Status::Deleted {
        return Ok(());
    }
    // Refuses a suspended one.
    member.lock(&mut tx).await?;
    let now = tx.now_us().await?;
    store::set_deleted(&mut tx, workspace.id, Some(now)).await?;
    audit::record(
        &mut tx,
        workspace.id,
        &member.person.actor,
        deed("workspace.delete", &workspace.id.to_string()),
    )
    .await?;
    tx.commit().await?;
    // Should this fail, the next look does it.
    upkeep::end_sessions(app).await?;
    Ok(())
}

/// Restore a deleted workspace
///
/// Within 30 days of its deletion. Its keys work again; its sessions stay over.
#[utoipa::path(post, path = "/v1/dashboard/ws/{slug}/restore", tag = "workspaces",
    operation_id = "restoreWorkspace",
    params(("slug" = String, Path, description = "The workspace's slug", example = "search-team")),
    security(("access_token" = ["workspace:owner"]), ("access_cookie" = ["workspace:owner"])),
    responses(
        (status = 200, description = "The workspace, as it was", body = Workspace),
        Conflicting,
        MemberFailure,
        PersonFailure,
    ))]
pub async fn restore(
    State(app): State<App>,
    member: Member<Owner>,
    query: Query,
) -> Result<Json<Workspace>, Problem> {
    query.allow_none()?;
    Ok(Json(unmark(&app, &member).await?))
}

async fn unmark(app: &App, member: &Member<Owner>) -> Result<Workspace, Error> {
    let mut tx = app.db.begin().await?;
    let (workspace, role) = member.lock_closed(&mut tx).await?;
    let Some(since) = workspace.deleted_us else {
        return Err(Error::Conflict("the workspace is not deleted".to_owned()));
    };
    if since <= tx.now_us().await? - GRACE_US {
        let detail = format!("its {GRACE_DAYS} days are over: the workspace is being purged");
        return Err(Error::Conflict(detail));
    }
    let row = store::set_deleted(&mut tx, workspace.id, None).await?;
    audit::record(
        &mut tx,
        row.id,
        &member.person.actor,
        deed("workspace.restore", &row.id.to_string()),
    )
    .await?;
    tx.commit().await?;
    Ok(Workspace::of(row, role))
}

fn deed<'a>(action: &'static str, id: &'a str) -> Deed<'a> {
    Deed { action, target_kind: "workspace", target_id: id, detail: &[] }
}
