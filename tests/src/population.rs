//! Sessions that run without anybody having made them: rows of a database, and agents that know
//! of them.

use std::iter;

use sqlx::{Connection, PgConnection};
use ulid::Ulid;

use crate::simulated_agent::SimulatedAgent;

/// Most rows that one statement writes.
const AT_ONCE: usize = 5_000;

const SESSIONS: &str = "INSERT INTO sessions (id, workspace_id, region, agent_id, status, \
     timeout_seconds, keep_alive_seconds, viewport_width, viewport_height, labels, slot_held, \
     created_us, started_us, expires_us) \
     SELECT id, (SELECT id FROM workspaces LIMIT 1), 'local', agent, 'RUNNING', 86400, 0, \
     1280, 720, CAST('{}' AS JSONB), 1, now_us, now_us, now_us + 86400000000 FROM unnest($1, $2) AS new (id, agent), \
     (SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) AS now_us) AS clock";
const EVENTS: &str = "INSERT INTO session_events (session_id, seq, status, at_us) \
     SELECT id, seq, past.status, created_us FROM sessions, \
     (VALUES (1, 'QUEUED'), (2, 'PROVISIONING'), (3, 'RUNNING')) AS past (seq, status) \
     WHERE id = ANY($1)";

/// Gives these agents so many running sessions more, each its share.
///
/// # Panics
///
/// When the database does not take them.
pub async fn add(database: &str, agents: &[SimulatedAgent], sessions: usize) {
    let mut store = PgConnection::connect(database).await.expect("it listens");
    let ids: Vec<String> = (0..sessions).map(|_| Ulid::generate().to_string()).collect();
    let owners = owners(agents, sessions);
    for (agent, id) in owners.iter().zip(&ids) {
        // Before its row is there: a session that its agent does not know is ended.
        agent.adopt([id.clone()]);
    }
    for (ids, owners) in ids.chunks(AT_ONCE).zip(owners.chunks(AT_ONCE)) {
        let owners: Vec<_> = owners.iter().map(|agent| agent.id().to_string()).collect();
        let mut tx = store.begin().await.expect("a transaction");
        let sessions = sqlx::query(SESSIONS).bind(ids).bind(owners).execute(&mut *tx);
        sessions.await.expect("sessions are taken");
        let events = sqlx::query(EVENTS).bind(ids).execute(&mut *tx);
        events.await.expect("events are taken");
        tx.commit().await.expect("it commits");
    }
    // What autovacuum would do in a while.
    for table in ["ANALYZE sessions", "ANALYZE session_events"] {
        sqlx::query(table).execute(&mut store).await.expect("statistics");
    }
}

/// Whose each session is, so that all use the same share of their slots.
fn owners(agents: &[SimulatedAgent], sessions: usize) -> Vec<&SimulatedAgent> {
    let slots: usize = agents.iter().map(|agent| agent.capacity() as usize).sum();
    let mut before = 0;
    let of = |agent| {
        let from = sessions * before / slots;
        before += SimulatedAgent::capacity(agent) as usize;
        iter::repeat_n(agent, sessions * before / slots - from)
    };
    agents.iter().flat_map(of).collect()
}
