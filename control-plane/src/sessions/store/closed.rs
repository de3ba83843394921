//! The sessions of a workspace: how many live; that it is closed, and in the end deleted.

use proto::id::{SessionId, WorkspaceId};

use crate::db::{Tx, dialect, from_row, on, parse};

/// A session that must end, and whether it is because its workspace was deleted.
struct Closed(SessionId, bool);

from_row!(Closed, |row| {
    let deleted: i64 = row.try_get("deleted")?;
    Self(parse(row.try_get("id")?)?, deleted == 1)
});

macro_rules! in_closed_workspaces {
    ($sessions:literal) => {
        concat!(
            "SELECT sessions.id, \
             CAST(CASE WHEN deleted_us IS NULL THEN 0 ELSE 1 END AS BIGINT) AS deleted \
             FROM workspaces ",
            $sessions,
            " WHERE (suspended_us IS NOT NULL OR deleted_us IS NOT NULL) LIMIT 100"
        )
    };
}
// PostgreSQL does not know that hardly any workspace is closed, and reads all sessions that live
// before it looks for one, unless it must begin with the workspaces.
pub(super) const IN_CLOSED_WORKSPACES: [&str; 2] = [
    in_closed_workspaces!(
        "JOIN sessions ON workspace_id = workspaces.id \
         AND status IN ('QUEUED', 'PROVISIONING', 'RUNNING')"
    ),
    in_closed_workspaces!(
        "CROSS JOIN LATERAL (SELECT id FROM sessions WHERE workspace_id = workspaces.id \
         AND status IN ('QUEUED', 'PROVISIONING', 'RUNNING') \
         LIMIT 100 FOR NO KEY UPDATE SKIP LOCKED) AS sessions"
    ),
];

/// At most [`super::ENDED_AT_ONCE`] of the sessions that run in workspaces that are closed,
/// each with what its end is to say, held until the transaction ends.
pub async fn in_closed_workspaces(tx: &mut Tx) -> sqlx::Result<Vec<(SessionId, &'static str)>> {
    let which = dialect!(tx, IN_CLOSED_WORKSPACES[0], IN_CLOSED_WORKSPACES[1]);
    let found: Vec<Closed> = on!(tx, |db| sqlx::query_as(which).fetch_all(db).await)?;
    let why =
        |deleted| if deleted { "the workspace was deleted" } else { "the workspace was suspended" };
    Ok(found.into_iter().map(|Closed(id, deleted)| (id, why(deleted))).collect())
}

pub(super) const COUNT_LIVE: &str = "SELECT COUNT(*) FROM sessions WHERE workspace_id = $1 \
     AND status IN ('QUEUED', 'PROVISIONING', 'RUNNING')";

/// How many sessions of a workspace are not over.
pub async fn count_live(tx: &mut Tx, workspace: WorkspaceId) -> sqlx::Result<i64> {
    on!(tx, |db| sqlx::query_scalar(COUNT_LIVE).bind(workspace.to_string()).fetch_one(db).await)
}

macro_rules! some {
    () => {
        "(SELECT id FROM sessions WHERE workspace_id = $1 ORDER BY id LIMIT 500)"
    };
}
pub(super) const PURGE: [&str; 7] = [
    concat!("DELETE FROM idempotency WHERE session_id IN ", some!()),
    concat!("DELETE FROM session_inputs WHERE session_id IN ", some!()),
    concat!("DELETE FROM captures WHERE session_id IN ", some!()),
    concat!("DELETE FROM egress_denials WHERE session_id IN ", some!()),
    concat!("DELETE FROM file_orders WHERE session_id IN ", some!()),
    concat!("DELETE FROM session_events WHERE session_id IN ", some!()),
    concat!("DELETE FROM sessions WHERE id IN ", some!()),
];

/// Deletes some of a workspace's sessions with all that is theirs. Says how many; 0: none was
/// left.
pub async fn purge(tx: &mut Tx, workspace: WorkspaceId) -> sqlx::Result<u64> {
    let mut sessions = 0;
    for text in PURGE {
        let id = workspace.to_string();
        sessions = on!(tx, |db| {
            sqlx::query(text).bind(id).execute(db).await.map(|done| done.rows_affected())
        })?;
    }
    Ok(sessions)
}
