//! Sessions that nobody has made: rows of a database. Those that run have agents that know of
//! them; those that are over need none.

use std::{
    iter,
    time::{Duration, SystemTime},
};

use sqlx::{Connection, PgConnection};
use ulid::Ulid;

use crate::simulated_agent::SimulatedAgent;

/// Most rows that one statement writes.
const AT_ONCE: usize = 5_000;
/// How many ids are enough to ask for any of them.
const A_FEW: usize = 1_000;

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

const OVER: &str = "INSERT INTO sessions (id, workspace_id, region, status, reason_code, \
     reason_message, timeout_seconds, keep_alive_seconds, viewport_width, viewport_height, labels, \
     slot_held, created_us, started_us, ended_us, expires_us) \
     SELECT id, (SELECT id FROM workspaces ORDER BY created_us LIMIT 1), 'local', 'COMPLETED', \
     'released', 'released by request', 300, 0, 1280, 720, CAST('{\"team\": \"search\"}' AS JSONB), 0, \
     at_us, at_us, at_us + 1000000, at_us + 300000000 FROM unnest($1, $2) AS new (id, at_us)";
const EVENTS_OVER: &str = "INSERT INTO session_events (session_id, seq, status, at_us, \
     reason_code, reason_message) SELECT id, seq, past.status, created_us, code, message \
     FROM sessions, (VALUES (1, 'QUEUED', NULL, NULL), (2, 'PROVISIONING', NULL, NULL), \
     (3, 'RUNNING', NULL, NULL), (4, 'COMPLETED', 'released', 'released by request')) \
     AS past (seq, status, code, message) WHERE id = ANY($1)";

/// Adds so many sessions that are over, the last of them just now, ten a second until then;
/// returns the ids of a few of them, from all times.
///
/// # Panics
///
/// When the database does not take them.
pub async fn add_past(database: &str, sessions: usize) -> Vec<String> {
    let mut store = PgConnection::connect(database).await.expect("it listens");
    let ids: Vec<String> = (0..sessions).map(|n| past_id(sessions - n)).collect();
    for ids in ids.chunks(AT_ONCE) {
        let at_us = |id: &String| Ulid::from_string(id).map_or(0, |id| id.timestamp_ms() * 1_000);
        let times: Vec<_> = ids.iter().map(|id| at_us(id).cast_signed()).collect();
        let mut tx = store.begin().await.expect("a transaction");
        let sessions = sqlx::query(OVER).bind(ids).bind(times).execute(&mut *tx);
        sessions.await.expect("sessions are taken");
        let events = sqlx::query(EVENTS_OVER).bind(ids).execute(&mut *tx);
        events.await.expect("events are taken");
        tx.commit().await.expect("it commits");
    }
    settle(&mut store).await;
    ids.into_iter().step_by((sessions / A_FEW).max(1)).collect()
}

/// Of a session that was made so many tenths of a second ago.
fn past_id(tenths_ago: usize) -> String {
    let ago = Duration::from_millis(100 * u64::try_from(tenths_ago).unwrap_or(u64::MAX));
    Ulid::from_datetime(SystemTime::now() - ago).to_string()
}

/// What autovacuum would do in a while.
async fn settle(store: &mut PgConnection) {
    for table in ["VACUUM ANALYZE sessions", "VACUUM ANALYZE session_events"] {
        sqlx::query(table).execute(&mut *store).await.expect("statistics");
    }
}

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
    settle(&mut store).await;
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
