//! `PATCH` and `DELETE /v1/sessions/{id}`: release a session, or change its labels.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use proto::{
    id::{SessionId, WorkspaceId},
    problem::Problem,
    session::EndReason,
};
use serde::Deserialize;
use tracing::info;
use utoipa::ToSchema;

use super::{get::named, object::Session, store, validate};
use crate::{
    api::{BodyFailure, Failure, NoSuchSession},
    app::App,
    audit::{self, Actor, Deed},
    error::Error,
    keys::{Caller, Write},
    request::{Body, Query, Reached},
};

/// Exactly one of the two.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ChangeSession {
    /// Ends the session.
    Release(ReleaseSession),
    /// Changes its labels.
    Label(LabelSession),
}

/// Ends a session.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described")]
pub struct ReleaseSession {
    status: ReleaseRequest,
}

/// What ends a session.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReleaseRequest {
    /// End it.
    RequestRelease,
}

/// Changes the labels of a session.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described")]
pub struct LabelSession {
    /// New labels in place of the old ones.
    labels: BTreeMap<String, String>,
}

/// Release a session
///
/// Ends the session and closes its browser; its clients are closed with 1001. Releasing a
/// session that is over changes nothing and answers the same.
#[utoipa::path(delete, path = "/v1/sessions/{id}", tag = "sessions",
    operation_id = "releaseSession",
    params(("id" = String, Path, description = "The session's id")),
    security(("api_key" = ["sessions:write"])),
    responses(
        (status = 204, description = "Released, now or before"),
        NoSuchSession,
        Failure,
    ))]
pub async fn delete(
    State(app): State<App>,
    caller: Caller<Write>,
    Path(id): Path<String>,
    query: Query,
) -> Result<StatusCode, Problem> {
    query.allow_none()?;
    let (id, reason) = (named(&id)?, EndReason::Released);
    end(&app, caller.workspace, &caller.actor, id, reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Release a session or change its labels
///
/// `{"status": "REQUEST_RELEASE"}` releases it, as `DELETE` does, and answers 204.
/// `{"labels": {…}}` replaces its labels and answers 200 with the session.
#[utoipa::path(patch, path = "/v1/sessions/{id}", tag = "sessions",
    operation_id = "changeSession",
    params(("id" = String, Path, description = "The session's id")),
    request_body(content = ChangeSession, example = json!({"status": "REQUEST_RELEASE"})),
    security(("api_key" = ["sessions:write"])),
    responses(
        (status = 200, description = "The session with its new labels", body = Session),
        (status = 204, description = "Released, now or before"),
        NoSuchSession,
        BodyFailure,
        Failure,
    ))]
pub async fn patch(
    State(app): State<App>,
    caller: Caller<Write>,
    reached: Reached,
    Path(id): Path<String>,
    query: Query,
    Body(body): Body,
) -> Result<Response, Problem> {
    query.allow_none()?;
    let id = named(&id)?;
    match validate::change(&body)? {
        validate::Change::Release => {
            end(&app, caller.workspace, &caller.actor, id, EndReason::Released).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        validate::Change::Labels(labels) => {
            let session = label(&app, caller.workspace, id, &labels).await?;
            Ok(Json(session.reached(&app, &reached)).into_response())
        }
    }
}

/// Ends a session because its workspace wants so. One that is over stays as it is, but a
/// browser that is not yet gone is told again, of whatever is more urgent.
pub async fn end(
    app: &App,
    workspace: WorkspaceId,
    actor: &Actor,
    id: SessionId,
    reason: EndReason,
) -> Result<(), Error> {
    let mut tx = app.db.begin().await?;
    let Some(session) = store::get_in(&mut tx, workspace, id).await? else {
        return Err(Error::NoSuchSession);
    };
    let ended = store::end(&mut tx, id, reason, None).await?;
    if ended.is_some() {
        let forced = reason == EndReason::ForceStopped;
        let deed = Deed {
            action: if forced { "session.force_stop" } else { "session.release" },
            target_kind: "session",
            target_id: &id.to_string(),
            detail: &[],
        };
        audit::record(&mut tx, workspace, actor, deed).await?;
    }
    tx.commit().await?;
    // As the end found it: it may have gone to another agent since it was read.
    let held = ended.as_ref().unwrap_or(&session);
    if let Some(agent) = held.agent_id
        && held.slot_held
    {
        let known = session.reason.map(|reason| reason.code);
        let forced = reason == EndReason::ForceStopped;
        app.hub.release(agent, id, known.filter(|_| !forced).unwrap_or(reason));
    }
    if let Some(ended) = ended {
        app.metrics.ended(&ended.region, reason);
        info!(session = %id, %reason, "ended by request");
        app.changes.wake(id);
    }
    Ok(())
}

async fn label(
    app: &App,
    workspace: WorkspaceId,
    id: SessionId,
    labels: &BTreeMap<String, String>,
) -> Result<Session, Error> {
    let mut tx = app.db.begin().await?;
    let row = store::set_labels(&mut tx, workspace, id, labels).await?;
    let row = row.ok_or(Error::NoSuchSession)?;
    let now_us = tx.now_us().await?;
    tx.commit().await?;
    Ok(Session::of(app, row, now_us))
}
