//! `POST /v1/sessions/{id}/keepalive`

use axum::{
    Json,
    extract::{Path, State},
};
use proto::{
    id::{SessionId, WorkspaceId},
    problem::Problem,
};
use serde::Deserialize;
use tracing::info;
use utoipa::ToSchema;

use super::{get::named, object::Session, store, validate};
use crate::{
    api::{BodyFailure, Failure, NoSuchSession, WrongState},
    app::App,
    error::Error,
    keys::{Caller, Write},
    request::{Body, Query, Reached},
};

/// Everything is optional.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described, for the OpenAPI document; `validate` reads it")]
pub struct KeepAlive {
    /// Moves the deadline by this much. `timeout_seconds` grows with it, and never beyond
    /// 86,400.
    #[schema(minimum = 1, maximum = 86400, example = 600)]
    extend_seconds: Option<u32>,
}

/// Keep a session alive
///
/// Restarts the keep-alive: a session without clients ends `keep_alive_seconds` from now at
/// the earliest. With `extend_seconds` it moves the deadline too; the answer's `connect_url`
/// is then good until the new one.
#[utoipa::path(post, path = "/v1/sessions/{id}/keepalive", tag = "sessions",
    operation_id = "keepSessionAlive",
    params(("id" = String, Path, description = "The session's id")),
    request_body(content = KeepAlive, example = json!({"extend_seconds": 600})),
    security(("api_key" = ["sessions:write"])),
    responses(
        (status = 200, description = "The session as it now is", body = Session),
        NoSuchSession,
        WrongState,
        BodyFailure,
        Failure,
    ))]
pub async fn handler(
    State(app): State<App>,
    caller: Caller<Write>,
    reached: Reached,
    Path(id): Path<String>,
    query: Query,
    Body(body): Body,
) -> Result<Json<Session>, Problem> {
    query.allow_none()?;
    let id = named(&id)?;
    let extend_seconds = validate::keepalive(&body)?;
    let session = keep_alive(&app, caller.workspace, id, extend_seconds).await?;
    Ok(Json(session.reached(&app, &reached)))
}

/// Restarts a session's keep-alive and moves its deadline by this much.
async fn keep_alive(
    app: &App,
    workspace: WorkspaceId,
    id: SessionId,
    extend_seconds: u32,
) -> Result<Session, Error> {
    let mut tx = app.db.begin().await?;
    let kept = store::keep_alive(&mut tx, workspace, id, extend_seconds).await?;
    let now_us = tx.now_us().await?;
    let Some(row) = kept else {
        let session = store::get_in(&mut tx, workspace, id).await?.ok_or(Error::NoSuchSession)?;
        if session.status.is_final() || session.expires_us <= now_us {
            return Err(Error::Conflict("the session is over".to_owned()));
        }
        let left = store::LONGEST_SECONDS.saturating_sub(session.timeout_seconds);
        let detail = format!(
            "a session lives for at most {} seconds in all; {left} more are left",
            store::LONGEST_SECONDS
        );
        return Err(Error::Unfit { pointer: "/extend_seconds", detail });
    };
    tx.commit().await?;
    if let Some(agent) = row.agent_id {
        app.hub.adjust(agent, &row);
    }
    info!(session = %id, extend_seconds, "kept alive");
    Ok(Session::of(app, row, now_us))
}
