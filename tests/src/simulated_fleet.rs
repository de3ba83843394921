//! Real control planes with agents that have no browsers.

use std::time::Duration;

use crate::{
    Server,
    api::Api,
    cpu, eventually,
    fleet::{TOKEN, another, control_plane, free_port},
    simulated_agent::SimulatedAgent,
};

/// How long a thousand agents may take to be let in.
const ATTACH_LIMIT: Duration = Duration::from_secs(60);

/// Replicas over one database, and agents that have no browsers.
pub struct SimulatedFleet {
    /// The replicas.
    pub servers: Vec<Server>,
    /// The agents. Each dials another replica first than the one before it.
    pub agents: Vec<SimulatedAgent>,
}

impl SimulatedFleet {
    /// So many replicas over a PostgreSQL database, and an agent for each capacity.
    pub async fn start(database: &str, replicas: usize, capacities: &[u32]) -> Self {
        let mut hubs = vec![free_port()];
        let mut servers = vec![quiet(control_plane(database, hubs[0])).start().await];
        while servers.len() < replicas {
            let hub = free_port();
            servers.push(quiet(another(database, hub, &servers[0])).start().await);
            hubs.push(hub);
        }
        Self::with_agents(servers, &hubs, capacities).await
    }

    /// One control plane over a SQLite file.
    pub async fn on_sqlite(capacities: &[u32]) -> Self {
        let hub = free_port();
        let plan = Server::control_plane().flag("hub-listen", format!("127.0.0.1:{hub}"));
        let server = quiet(plan.env("VENTUS_JOIN_TOKEN", TOKEN)).start().await;
        Self::with_agents(vec![server], &[hub], capacities).await
    }

    async fn with_agents(servers: Vec<Server>, hubs: &[u16], capacities: &[u32]) -> Self {
        let agents = capacities.iter().enumerate().map(|(n, capacity)| {
            let mut hubs = hubs.to_vec();
            hubs.rotate_left(n % servers.len());
            SimulatedAgent::start(&hubs, TOKEN, *capacity)
        });
        let fleet = Self { agents: agents.collect(), servers };
        let wanted: u32 = capacities.iter().sum();
        eventually("every agent is let in", ATTACH_LIMIT, || async {
            (fleet.room().await == u64::from(wanted)).then_some(())
        })
        .await;
        fleet
    }

    /// Slots of the agents that are there.
    async fn room(&self) -> u64 {
        let regions = self.servers[0].api.get("/v1/regions").await;
        regions.body["items"][0]["capacity"].as_u64().unwrap_or_default()
    }

    /// The REST API of each replica.
    pub fn apis(&self) -> Vec<Api> {
        self.servers.iter().map(|server| server.api.clone()).collect()
    }

    /// CPU time of the control planes so far.
    pub fn cpu(&self) -> Duration {
        self.servers.iter().map(|server| cpu::of(server.pid())).sum()
    }

    /// Ends agents and replicas, with whatever sessions there are.
    pub async fn stop(self) {
        drop(self.agents);
        for server in self.servers {
            server.stop_process().await;
        }
    }
}

/// As a server under load is run: a line for each session costs more than many a query.
fn quiet(plan: crate::server::Plan) -> crate::server::Plan {
    plan.env("VENTUS_LOG", "warn")
}
