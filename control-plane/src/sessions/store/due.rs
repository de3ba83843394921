//! Sessions whose time has come: to end, and long after that to be deleted. On PostgreSQL they
//! are taken with `SKIP LOCKED`: what another replica is at is left to it.

use proto::id::SessionId;
use sqlx::types::Json;

use crate::db::{Tx, dialect, on, parse};

/// Most sessions that one transaction ends.
pub const ENDED_AT_ONCE: usize = 100;
/// Most sessions that one transaction deletes. Each has a few rows elsewhere.
const DELETED_AT_ONCE: i64 = 50;

macro_rules! some {
    ($text:literal) => {
        [$text, concat!($text, " FOR NO KEY UPDATE SKIP LOCKED")]
    };
}

pub(super) const OVERDUE: [&str; 2] = some!(
    "SELECT id FROM sessions WHERE expires_us <= $1 \
     AND status IN ('QUEUED', 'PROVISIONING', 'RUNNING') ORDER BY expires_us LIMIT 100"
);

/// At most [`ENDED_AT_ONCE`] of the sessions whose deadline has passed, the latest first to
/// go, held until the transaction ends.
pub async fn overdue(tx: &mut Tx) -> sqlx::Result<Vec<SessionId>> {
    let now = tx.now_us().await?;
    let overdue = dialect!(tx, OVERDUE[0], OVERDUE[1]);
    let ids: Vec<String> = on!(tx, |db| sqlx::query_scalar(overdue).bind(now).fetch_all(db).await)?;
    ids.iter().map(|id| parse(id)).collect()
}

pub(super) const ENDED_BEFORE: [&str; 2] = some!(
    "SELECT id FROM sessions WHERE ended_us < $1 AND slot_held = 0 \
     ORDER BY ended_us LIMIT CAST($2 AS BIGINT)"
);

/// Some of the sessions that ended longer ago than this, held until the transaction ends.
pub async fn ended_before(tx: &mut Tx, kept_us: i64) -> sqlx::Result<Vec<SessionId>> {
    let before = tx.now_us().await? - kept_us;
    let ended = dialect!(tx, ENDED_BEFORE[0], ENDED_BEFORE[1]);
    let ids: Vec<String> = on!(tx, |db| {
        sqlx::query_scalar(ended).bind(before).bind(DELETED_AT_ONCE).fetch_all(db).await
    })?;
    ids.iter().map(|id| parse(id)).collect()
}

macro_rules! of {
    ($column:literal, $table:literal) => {
        [
            concat!(
                "DELETE FROM ",
                $table,
                " WHERE ",
                $column,
                " IN (SELECT value FROM json_each($1))"
            ),
            concat!(
                "DELETE FROM ",
                $table,
                " WHERE ",
                $column,
                " IN (SELECT jsonb_array_elements_text($1))"
            ),
        ]
    };
}
// What refers to others goes before what it refers to.
pub(super) const DELETE: [[&str; 2]; 7] = [
    of!("session_id", "idempotency"),
    of!("session_id", "session_inputs"),
    of!("session_id", "captures"),
    of!("session_id", "egress_denials"),
    of!("session_id", "file_orders"),
    of!("session_id", "session_events"),
    of!("id", "sessions"),
];

/// Deletes sessions with all that is theirs but their files, of which nothing may be left.
pub async fn delete(tx: &mut Tx, ids: &[SessionId]) -> sqlx::Result<()> {
    let ids: Vec<String> = ids.iter().map(SessionId::to_string).collect();
    for texts in DELETE {
        let delete = dialect!(tx, texts[0], texts[1]);
        on!(tx, |db| sqlx::query(delete).bind(Json(&ids)).execute(db).await.map(drop))?;
    }
    Ok(())
}
