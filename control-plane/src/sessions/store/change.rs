//! What changes of a session besides its state.

use std::collections::BTreeMap;

use proto::id::{AgentId, SessionId, WorkspaceId};
use sqlx::types::Json;

use crate::{
    db::{Tx, on},
    sessions::SessionRow,
};

pub(super) const SET_LABELS: &str = concat!(
    "UPDATE sessions SET labels = $3 WHERE id = $1 AND workspace_id = $2 RETURNING ",
    columns!()
);

/// Replaces a session's labels.
pub async fn set_labels(
    tx: &mut Tx,
    workspace: WorkspaceId,
    id: SessionId,
    labels: &BTreeMap<String, String>,
) -> sqlx::Result<Option<SessionRow>> {
    on!(tx, |db| {
        sqlx::query_as(SET_LABELS)
            .bind(id.to_string())
            .bind(workspace.to_string())
            .bind(Json(labels))
            .fetch_optional(db)
            .await
    })
}

/// The longest that a session may live in all.
pub const LONGEST_SECONDS: u32 = 86_400;

pub(super) const KEEP_ALIVE: &str = concat!(
    "UPDATE sessions SET keepalives = keepalives + 1, kept_us = $4, timeout_seconds = timeout_seconds + $3, \
     expires_us = expires_us + $3 * 1000000 WHERE id = $1 AND workspace_id = $2 \
     AND status IN ('QUEUED', 'PROVISIONING', 'RUNNING') AND expires_us > $4 \
     AND timeout_seconds + $3 <= $5 RETURNING ",
    columns!()
);

/// Restarts a session's keep-alive and moves its deadline. `None` when it is over, is to live
/// for longer than [`LONGEST_SECONDS`], or is not there.
pub async fn keep_alive(
    tx: &mut Tx,
    workspace: WorkspaceId,
    id: SessionId,
    extend_seconds: u32,
) -> sqlx::Result<Option<SessionRow>> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        sqlx::query_as(KEEP_ALIVE)
            .bind(id.to_string())
            .bind(workspace.to_string())
            .bind(i64::from(extend_seconds))
            .bind(now)
            .bind(i64::from(LONGEST_SECONDS))
            .fetch_optional(db)
            .await
    })
}

// Totals only grow: a message that comes late or twice does no harm.
pub(super) const RECORD_USAGE: &str = "UPDATE sessions SET \
     last_seen_us = CASE WHEN COALESCE(last_seen_us, 0) < $3 THEN $3 ELSE last_seen_us END, \
     cdp_messages = CASE WHEN cdp_messages < $4 THEN $4 ELSE cdp_messages END, \
     bytes_in = CASE WHEN bytes_in < $5 THEN $5 ELSE bytes_in END, \
     bytes_out = CASE WHEN bytes_out < $6 THEN $6 ELSE bytes_out END, \
     egress_bytes = CASE WHEN egress_bytes < $7 THEN $7 ELSE egress_bytes END \
     WHERE id = $1 AND agent_id = $2";

/// What a session has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Last message of a client, Unix microseconds; 0: none yet.
    pub last_seen_us: i64,
    /// Messages of clients.
    pub cdp_messages: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Bytes between the browser and the network.
    pub egress_bytes: u64,
}

/// Records what a session's agent says that it has used.
pub async fn record_usage(
    tx: &mut Tx,
    id: SessionId,
    agent: AgentId,
    usage: &Usage,
) -> sqlx::Result<()> {
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    on!(tx, |db| {
        sqlx::query(RECORD_USAGE)
            .bind(id.to_string())
            .bind(agent.to_string())
            .bind(usage.last_seen_us)
            .bind(signed(usage.cdp_messages))
            .bind(signed(usage.bytes_in))
            .bind(signed(usage.bytes_out))
            .bind(signed(usage.egress_bytes))
            .execute(db)
            .await
            .map(drop)
    })
}
