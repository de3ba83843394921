//! Two replicas and some agents over a PostgreSQL of their own.

use std::{collections::HashSet, sync::Mutex, time::Duration};

use harness::{
    Api, Server, eventually,
    fleet::{TOKEN, agents, operator, replicas_on, with_small_browser},
    leftovers,
    postgres::Postgres,
    rows,
    server::Plan,
    wire::Wire,
};
use serde_json::Value;

/// How long until all is well again when the last fault is over: a lease, and what follows it.
const REST_LIMIT: Duration = Duration::from_secs(30);
/// How long what a killed process has started may outlive it.
pub const GONE_LIMIT: Duration = Duration::from_secs(5);

/// All of it.
pub struct Fleet {
    pub postgres: Postgres,
    /// `None` while one is away.
    pub replicas: [Option<Server>; 2],
    /// The same.
    pub agents: Vec<Option<Server>>,
    /// As its operator sees it, through the first replica.
    pub operator: Api,
    hubs: [u16; 2],
}

/// An agent that dials these hubs of a host.
pub fn agent(host: &str, hubs: &[u16], capacity: u32) -> Plan {
    let hubs: Vec<_> = hubs.iter().map(|hub| format!("http://{host}:{hub}")).collect();
    let plan = Server::agent().flag("control-plane", hubs.join(","));
    with_small_browser(plan.env("VENTUS_JOIN_TOKEN", TOKEN).capacity(capacity, 0))
}

impl Fleet {
    /// One without agents.
    pub async fn start() -> Self {
        Self::listening("127.0.0.1").await
    }

    /// The same, for agents of which some are in networks of their own.
    pub async fn reached_from_networks() -> Self {
        Self::listening("0.0.0.0").await
    }

    /// One whose first replica has its own way to the database, with one agent of two slots
    /// that dials that replica first.
    pub async fn with_a_wire() -> (Self, Wire) {
        let postgres = Postgres::start().await;
        let wire = Wire::to(postgres.port()).await;
        let ways = [postgres.url_by(&wire), postgres.url()];
        let mut fleet = Self::over(postgres, [&ways[0], &ways[1]], "127.0.0.1").await;
        fleet.add(agent("127.0.0.1", &fleet.hubs, 2)).await;
        (fleet, wire)
    }

    async fn listening(host: &str) -> Self {
        let postgres = Postgres::start().await;
        let url = postgres.url();
        Self::over(postgres, [&url, &url], host).await
    }

    async fn over(postgres: Postgres, ways: [&str; 2], host: &str) -> Self {
        let (replicas, hubs) = replicas_on(ways, host).await;
        let operator = operator(&replicas[0]).await;
        Self { postgres, replicas: replicas.map(Some), agents: Vec::new(), operator, hubs }
    }

    /// One with so many agents of so many slots.
    pub async fn with_agents(agents: usize, capacity: u32) -> Self {
        let mut fleet = Self::start().await;
        for _ in 0..agents {
            fleet.add(agent("127.0.0.1", &fleet.hubs, capacity)).await;
        }
        fleet
    }

    /// Starts one more agent.
    pub async fn add(&mut self, plan: Plan) {
        self.agents.push(Some(plan.start().await));
    }

    /// The ports of its hubs.
    pub fn hubs(&self) -> [u16; 2] {
        self.hubs
    }

    pub fn replica(&self, n: usize) -> &Server {
        self.replicas[n].as_ref().unwrap()
    }

    pub fn agent(&self, n: usize) -> &Server {
        self.agents[n].as_ref().unwrap()
    }

    /// Its API, at each of its replicas.
    pub fn apis(&self) -> [Api; 2] {
        [0, 1].map(|n| self.replica(n).api.clone())
    }

    /// Whether so many agents take sessions.
    pub async fn has_ready(&self, count: usize) -> bool {
        let seen = agents(&self.operator).await;
        seen.iter().filter(|agent| agent["status"] == "ready").count() == count
    }

    /// Waits until the lease of its first agent has been renewed so often from now on.
    pub async fn lease_is_renewed(&self, times: usize) {
        let seen = Mutex::new(HashSet::new());
        eventually("the lease is renewed", REST_LIMIT, || async {
            let agents = agents(&self.operator).await;
            let until = agents[0]["lease_expires_at"].to_string();
            let mut seen = seen.lock().unwrap();
            seen.insert(until);
            (seen.len() > times).then_some(())
        })
        .await;
    }

    /// What must hold at any time.
    pub async fn nothing_is_wrong(&self) {
        let wrong = rows::wrong(&self.postgres.url(), false).await;
        assert!(wrong.is_empty(), "wrong rows:\n{}", wrong.join("\n"));
    }

    /// Waits until every session is over and every agent is back: then database, API and
    /// machine must agree that nothing is left.
    pub async fn is_at_rest(&self) {
        eventually("every agent is ready, and its slots are free", REST_LIMIT, || async {
            let seen = self.seen().await;
            let free = |agent: &Value| agent["status"] == "ready" && agent["in_use"] == 0;
            (seen.len() == self.agents.len() && seen.iter().all(free)).then_some(())
        })
        .await;
        for agent in self.agents.iter().flatten() {
            leftovers::no_process(agent.data(), Some(agent.pid()), GONE_LIMIT).await;
            let left = leftovers::directories(agent.data());
            assert!(left.is_empty(), "directories of browsers are left: {left:?}");
        }
        let wrong = rows::wrong(&self.postgres.url(), true).await;
        assert!(wrong.is_empty(), "wrong rows:\n{}", wrong.join("\n"));
    }

    /// Stops it. Nothing may be left of it.
    pub async fn stop(self) {
        self.is_at_rest().await;
        self.end().await;
    }

    /// The same where its agents were no processes.
    pub async fn stop_without_agents(self) {
        self.end().await;
    }

    async fn end(self) {
        for server in self.agents.into_iter().chain(self.replicas).flatten() {
            server.stop_process().await;
        }
        // What was said on leaving has broken nothing.
        let wrong = rows::wrong(&self.postgres.url(), true).await;
        assert!(wrong.is_empty(), "wrong rows:\n{}", wrong.join("\n"));
    }

    /// Its agents as the API shows them. Each number must be the database's.
    async fn seen(&self) -> Vec<Value> {
        let held = "SELECT concat_ws(' ', a.id, a.capacity, (SELECT COUNT(*) FROM sessions s \
                    WHERE s.agent_id = a.id AND s.slot_held = 1)) FROM agents a ORDER BY a.id DESC";
        let before = rows::texts(&self.postgres.url(), held).await;
        let seen = agents(&self.operator).await;
        let stored = rows::texts(&self.postgres.url(), held).await;
        let shown = |agent: &Value| {
            format!("{} {} {}", agent["id"].as_str().unwrap(), agent["capacity"], agent["in_use"])
        };
        let shown: Vec<_> = seen.iter().map(shown).collect();
        // A slot may have become free meanwhile.
        assert!(before != stored || shown == stored, "{shown:?} is shown, {stored:?} is stored");
        seen
    }
}
