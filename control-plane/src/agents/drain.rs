//! `POST` and `DELETE /v1/agents/{id}/drain`, and the drain of an agent that is told to stop.
//!
//! A drain is a mark on the agent's row, which placement heeds at once. What the agent is
//! told of it is pushed, and repeated by the look at the [`roster`](super::roster). The agent
//! ends at the deadline what still runs; if it has no stream then, it does so by itself.

use axum::{
    Json,
    extract::{Path, State},
};
use proto::{id::AgentId, problem::Problem};
use serde::Deserialize;
use tracing::info;
use utoipa::ToSchema;

use super::{
    list::{named, no_such_agent},
    object::{self, Agent, AgentRow},
};
use crate::{
    api::{BodyFailure, Failure, NoSuchAgent},
    app::App,
    audit::{self, Actor, Deed},
    db::{Tx, on},
    error::Error,
    keys::{Caller, Operator},
    request::{Body, Query},
    sessions::validate,
};

/// How long sessions may go on, unless it is said, in seconds.
pub const DEFAULT_SECONDS: u32 = 1_800;

/// Everything is optional.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described, for the OpenAPI document; `validate` reads it")]
pub struct DrainAgent {
    /// How long its sessions may go on. Those that are left are then ended as
    /// `agent_drained`. Counted from when the drain began.
    #[schema(minimum = 0, maximum = 86400, default = 1800, example = 1800)]
    deadline_seconds: Option<u32>,
}

/// Drain an agent
///
/// From now on it gets no new session and starts no idle browser. Those sessions that it runs
/// go on until they end by themselves, and at the deadline end as `agent_drained`. Draining it
/// again changes nothing but the deadline, if that is another one. It lasts, over restarts of
/// the agent, until it is undone.
#[utoipa::path(post, path = "/v1/agents/{id}/drain", tag = "agents", operation_id = "drainAgent",
    params(("id" = String, Path, description = "The agent's id")),
    request_body(content = DrainAgent, example = json!({"deadline_seconds": 1800})),
    security(("api_key" = ["admin"])),
    responses(
        (status = 200, description = "The agent as it now is", body = Agent),
        NoSuchAgent,
        BodyFailure,
        Failure,
    ))]
pub async fn drain(
    State(app): State<App>,
    caller: Caller<Operator>,
    Path(id): Path<String>,
    query: Query,
    Body(body): Body,
) -> Result<Json<Agent>, Problem> {
    query.allow_none()?;
    let id = named(&id)?;
    let deadline_seconds = validate::drain(&body)?;
    let wanted = Wanted::Drained { deadline_seconds };
    Ok(Json(change(&app, &caller, id, wanted).await?.into()))
}

/// Undo the drain of an agent
///
/// It takes sessions as before. What has been ended stays so. Undoing what was not done
/// changes nothing and answers the same.
#[utoipa::path(delete, path = "/v1/agents/{id}/drain", tag = "agents",
    operation_id = "undoDrainAgent",
    params(("id" = String, Path, description = "The agent's id")),
    security(("api_key" = ["admin"])),
    responses(
        (status = 200, description = "The agent as it now is", body = Agent),
        NoSuchAgent,
        Failure,
    ))]
pub async fn undo(
    State(app): State<App>,
    caller: Caller<Operator>,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<Agent>, Problem> {
    query.allow_none()?;
    let id = named(&id)?;
    Ok(Json(change(&app, &caller, id, Wanted::InService).await?.into()))
}

/// What an operator wants of an agent.
#[derive(Clone, Copy)]
enum Wanted {
    Drained { deadline_seconds: u32 },
    InService,
}

impl Wanted {
    fn deed(self) -> &'static str {
        match self {
            Self::Drained { .. } => "agent.drain",
            Self::InService => "agent.undrain",
        }
    }
}

async fn change(
    app: &App,
    caller: &Caller<Operator>,
    id: AgentId,
    wanted: Wanted,
) -> Result<AgentRow, Error> {
    let mut tx = app.db.begin().await?;
    super::store::lock(&mut tx, id).await?.ok_or_else(no_such_agent)?;
    let before = object::get(&mut tx, id).await?.ok_or_else(no_such_agent)?;
    match wanted {
        Wanted::Drained { deadline_seconds } => set(&mut tx, id, deadline_seconds).await?,
        Wanted::InService => clear(&mut tx, id).await?,
    }
    let agent = object::get(&mut tx, id).await?.ok_or_else(no_such_agent)?;
    let is_news = before.drain_deadline_us != agent.drain_deadline_us;
    if is_news {
        record(&mut tx, caller.workspace, &caller.actor, &agent, wanted.deed()).await?;
    }
    let now_us = tx.now_us().await?;
    tx.commit().await?;
    if is_news {
        info!(agent = %id, region = %agent.region, "{}", wanted.deed());
        app.hub.drain(id, agent.drain_deadline_us, now_us);
        app.queue.wake(&agent.region);
    }
    Ok(agent)
}

async fn record(
    tx: &mut Tx,
    workspace: proto::id::WorkspaceId,
    actor: &Actor,
    agent: &AgentRow,
    action: &'static str,
) -> sqlx::Result<()> {
    let deed = Deed {
        action,
        target_kind: "agent",
        target_id: &agent.id.to_string(),
        detail: &[("region", agent.region.as_str().into())],
    };
    audit::record(tx, workspace, actor, deed).await
}

const SET: &str = "UPDATE agents SET draining = 1, draining_us = COALESCE(draining_us, $2), \
     drain_deadline_us = COALESCE(draining_us, $2) + $3 WHERE id = $1";

async fn set(tx: &mut Tx, id: AgentId, deadline_seconds: u32) -> sqlx::Result<()> {
    let now = tx.now_us().await?;
    let span_us = i64::from(deadline_seconds) * 1_000_000;
    on!(tx, |db| {
        let query = sqlx::query(SET).bind(id.to_string()).bind(now).bind(span_us);
        query.execute(db).await.map(drop)
    })
}

const CLEAR: &str = "UPDATE agents SET draining_us = NULL, drain_deadline_us = NULL, \
     draining = CASE WHEN leaving_us IS NULL THEN 0 ELSE 1 END WHERE id = $1";

async fn clear(tx: &mut Tx, id: AgentId) -> sqlx::Result<()> {
    on!(tx, |db| sqlx::query(CLEAR).bind(id.to_string()).execute(db).await.map(drop))
}

const LEAVING: &str = "UPDATE agents SET draining = 1, leaving_us = COALESCE(leaving_us, $3) \
     WHERE id = $1 AND epoch = $2";

/// The agent's process was told to stop: nothing new is placed on this run of it.
pub(super) async fn leaving(app: &App, id: AgentId, epoch: u64) -> sqlx::Result<()> {
    let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
    let mut tx = app.db.begin().await?;
    let now = tx.now_us().await?;
    on!(tx, |db| {
        let query = sqlx::query(LEAVING).bind(id.to_string()).bind(epoch).bind(now);
        query.execute(db).await.map(drop)
    })?;
    tx.commit().await
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[SET, CLEAR, LEAVING];
