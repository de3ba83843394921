//! What database, agents and clients must agree on.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt::Debug,
};

use sqlx::{Connection, PgConnection};

use crate::{PATIENCE, eventually, simulated_agent::SimulatedAgent};

/// Agents that died, and the sessions that they ran at that moment.
pub struct Lost {
    /// Their ids.
    pub agents: Vec<String>,
    /// Ids of the sessions.
    pub sessions: HashSet<String>,
}

impl Lost {
    /// Lets them die.
    pub fn new(agents: Vec<SimulatedAgent>) -> Self {
        let ids = agents.iter().map(|agent| agent.id().to_string()).collect();
        Self { agents: ids, sessions: agents.iter().flat_map(SimulatedAgent::runs).collect() }
    }

    /// Whether none of their slots is held any more.
    pub async fn holds_no_slot(&self, database: &str) -> bool {
        let held = "SELECT id, agent_id FROM sessions WHERE agent_id = ANY($1) AND slot_held = 1";
        pairs(database, held, &self.agents).await.is_empty()
    }
}

/// Those that were lost say so; all others that clients know of go on, unless they were released.
pub async fn untouched(database: &str, lost: &Lost, known: &[String], released: &HashSet<String>) {
    let fates =
        "SELECT id, status || ' ' || COALESCE(reason_code, '') FROM sessions WHERE id = ANY($1)";
    let lost_ids: Vec<_> = lost.sessions.iter().cloned().collect();
    let fates_of_lost = pairs(database, fates, &lost_ids).await;
    assert_eq!(fates_of_lost.len(), lost.sessions.len(), "a session's row is gone");
    for (id, fate) in fates_of_lost {
        let may_be = if released.contains(&id) { "COMPLETED released" } else { "" };
        assert!([may_be, "ERRORED agent_lost"].contains(&fate.as_str()), "{id} is {fate}");
    }
    let known: Vec<_> = known.iter().filter(|id| !lost.sessions.contains(*id)).cloned().collect();
    let count = known.len();
    let goes_on = pairs(database, fates, &known).await;
    assert_eq!(goes_on.len(), count, "a session's row is gone");
    let dead: BTreeMap<_, _> =
        pairs(database, "SELECT id, agent_id FROM sessions WHERE agent_id = ANY($1)", &lost.agents)
            .await
            .into_iter()
            .collect();
    for (id, fate) in goes_on {
        // One that was made between the death and its discovery was never run by anybody.
        let may_be = if dead.contains_key(&id) { "ERRORED agent_lost" } else { "RUNNING " };
        assert_eq!(fate, may_be, "{id}");
    }
}

/// Each agent runs what the database says, nothing runs on two, and none ever ran more than it
/// has room for.
pub async fn agree(database: &str, agents: &[SimulatedAgent]) {
    let held = "SELECT id, agent_id FROM sessions WHERE slot_held = 1 AND agent_id = ANY($1)";
    let ids: Vec<_> = agents.iter().map(|agent| agent.id().to_string()).collect();
    eventually("agents run what the database says", PATIENCE, || async {
        let stored: BTreeSet<_> = pairs(database, held, &ids).await.into_iter().collect();
        let run = agents.iter().flat_map(|agent| {
            let id = agent.id().to_string();
            agent.runs().into_iter().map(move |session| (session, id.clone()))
        });
        (run.collect::<BTreeSet<_>>() == stored).then_some(())
    })
    .await;
    let run: Vec<_> = agents.iter().flat_map(SimulatedAgent::runs).collect();
    assert_eq!(run.iter().collect::<HashSet<_>>().len(), run.len(), "a session runs twice");
    for agent in agents {
        let (most, capacity) = (agent.most(), agent.capacity());
        assert!(most <= capacity as usize, "{} ran {most} of {capacity}", agent.id());
    }
}

async fn pairs(
    database: &str,
    query: &'static str,
    of: &(impl AsRef<[String]> + Debug),
) -> Vec<(String, String)> {
    let mut store = PgConnection::connect(database).await.expect("it listens");
    let rows = sqlx::query_as(query).bind(of.as_ref()).fetch_all(&mut store).await;
    rows.unwrap_or_else(|error| panic!("{query}: {error}"))
}
