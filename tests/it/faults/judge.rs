//! Whether what clients were told is what became of their sessions.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use harness::rows;

use super::load::Told;

/// How long after a fault a session may still end by it: a lease, and a look for lapsed ones.
const LATE_US: i64 = 15_000_000;

/// What was done to the fleet, and so what sessions may have ended by. Times are Unix
/// microseconds.
#[derive(Default)]
pub struct Blame {
    /// Agents that were away, from when and until when.
    agents: Vec<(String, i64, i64)>,
    /// Browsers that were killed.
    pub browsers: usize,
    /// Agents are simulated: nobody can connect.
    no_data_plane: bool,
}

impl Blame {
    /// For agents without browsers.
    pub fn simulated() -> Self {
        Self { no_data_plane: true, ..Self::default() }
    }

    /// An agent has been away until now, for so long.
    pub fn agent(&mut self, id: &str, away: Duration) {
        let now = now_us();
        let from = now - i64::try_from(away.as_micros()).unwrap();
        self.agents.push((id.to_owned(), from, now));
    }

    /// Whether the session's life touched a time when its agent was away.
    fn has_cost(&self, session: &Row) -> bool {
        self.agents.iter().any(|(id, from, until)| {
            let late = until.max(from) + LATE_US;
            *id == session.agent
                && session.created_us <= *until
                && (*from..=late).contains(&session.ended_us)
        })
    }
}

/// A session that is over.
struct Row {
    status: String,
    reason: String,
    agent: String,
    created_us: i64,
    ended_us: i64,
    ran: bool,
    key: String,
}

const ROWS: &str = "SELECT concat_ws(' ', id, status, reason_code, COALESCE(agent_id, '-'), \
     created_us, ended_us, CASE WHEN started_us IS NULL THEN 0 ELSE 1 END, \
     COALESCE(labels->>'key', '-')) FROM sessions";

async fn stored(store: &str) -> HashMap<String, Row> {
    let rows = rows::texts(store, ROWS).await;
    let rows = rows.iter().map(|text| {
        let [id, status, reason, agent, created_us, ended_us, ran, key] =
            text.split(' ').collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("{text}"));
        let row = Row {
            status: status.to_owned(),
            reason: reason.to_owned(),
            agent: agent.to_owned(),
            created_us: created_us.parse().unwrap(),
            ended_us: ended_us.parse().unwrap(),
            ran: ran == "1",
            key: key.to_owned(),
        };
        (id.to_owned(), row)
    });
    rows.collect()
}

/// Holds what clients were told against a store in which every session is over.
pub async fn judge(told: &[Told], store: &str, blame: &Blame) {
    let rows = stored(store).await;
    let mut ids = HashSet::new();
    let mut reasons = HashMap::<_, usize>::new();
    for told in told {
        assert!(ids.insert(&told.id), "two keys stand for {}", told.id);
        let row = rows.get(&told.id).unwrap_or_else(|| panic!("{told:?} is not stored"));
        let wrong = wrong(told, row, blame);
        assert!(wrong.is_none(), "{}: {told:?}, but {} {}", wrong.unwrap(), row.status, row.reason);
        *reasons.entry(row.reason.as_str()).or_default() += 1;
    }
    // Also of those that nobody was told of.
    let mut keys = HashSet::new();
    for row in rows.values().filter(|row| row.ran) {
        assert!(keys.insert(&row.key), "two sessions of {} have run", row.key);
    }
    let crashed = rows.values().filter(|row| row.reason == "browser_crashed").count();
    assert!(crashed <= blame.browsers, "{crashed} crashed, {} were killed", blame.browsers);
    println!("{} sessions were told of: {reasons:?}", told.len());
}

/// What is wrong with what a client was told.
fn wrong(told: &Told, row: &Row, blame: &Blame) -> Option<&'static str> {
    let by_fault = match row.reason.as_str() {
        "agent_lost" => blame.has_cost(row),
        "browser_crashed" => true, // counted by the caller
        _ => false,
    };
    let closed = told.closed.as_ref().map(|(code, reason)| (*code, reason.as_str()));
    if !told.ran && !by_fault {
        return Some("it was answered, but did not run");
    }
    // A client that could not connect has ended it afterwards.
    let by_client = told.ended == Some(&row.reason) || told.refused.is_some();
    if !by_fault && !by_client {
        return Some("nobody ended it so");
    }
    match closed {
        // Its agent was killed, and could not say more; the agent of one that was released
        // likewise.
        Some((1006, _)) if blame.has_cost(row) => None,
        Some((1001, reason)) if reason == row.reason => None,
        Some(_) => Some("the close of its connection says something else"),
        None if !told.ran || by_fault || blame.has_cost(row) || blame.no_data_plane => None,
        None => Some("its client was not let in"),
    }
}

fn now_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_micros()).unwrap()
}
