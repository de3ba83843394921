//! Sessions that hold a slot: what an agent runs, and what it has yet to do.

use proto::id::AgentId;

use crate::{
    db::{Tx, dialect, on},
    sessions::SessionRow,
};

macro_rules! held_by {
    () => {
        concat!("SELECT ", columns!(), " FROM sessions WHERE agent_id = $1 AND slot_held = 1")
    };
}
pub(super) const HELD_BY: &str = concat!(held_by!(), " ORDER BY id");

/// The sessions that count against an agent's capacity, those that are over but not yet gone
/// included.
pub async fn held_by(tx: &mut Tx, agent: AgentId) -> sqlx::Result<Vec<SessionRow>> {
    on!(tx, |db| sqlx::query_as(HELD_BY).bind(agent.to_string()).fetch_all(db).await)
}

/// How long a session that was kept alive is one that its agent may not know of.
const KEPT_US: i64 = 10_000_000;
pub(super) const PENDING: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM sessions WHERE slot_held = 1 AND status <> 'RUNNING' UNION ALL SELECT ",
    columns!(),
    " FROM sessions WHERE slot_held = 1 AND status = 'RUNNING' AND kept_us > $1"
);

/// The sessions that an agent has yet to start or to end, or that were kept alive just now, of
/// all agents.
pub async fn pending(tx: &mut Tx) -> sqlx::Result<Vec<SessionRow>> {
    let since = tx.now_us().await? - KEPT_US;
    on!(tx, |db| sqlx::query_as(PENDING).bind(since).fetch_all(db).await)
}

pub(super) const LOCK_HELD_BY: [&str; 2] = [
    concat!(held_by!(), " ORDER BY id LIMIT 100"),
    concat!(held_by!(), " ORDER BY id LIMIT 100 FOR NO KEY UPDATE OF sessions SKIP LOCKED"),
];

/// At most [`super::ENDED_AT_ONCE`] of those, held until the transaction ends, but for those that
/// others hold.
pub async fn lock_held_by(tx: &mut Tx, agent: AgentId) -> sqlx::Result<Vec<SessionRow>> {
    let lock = dialect!(tx, LOCK_HELD_BY[0], LOCK_HELD_BY[1]);
    on!(tx, |db| sqlx::query_as(lock).bind(agent.to_string()).fetch_all(db).await)
}
