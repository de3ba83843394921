//! Simulates a fleet at any size: see [`harness::simulation`].

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use harness::simulation::{Size, run};

/// Simulates a fleet.
#[derive(Debug, Parser)]
struct Options {
    /// Agents, over two replicas
    #[arg(long, default_value_t = 1_000)]
    agents: usize,
    /// Sessions that live at once
    #[arg(long, default_value_t = 100_000)]
    sessions: usize,
    /// Those of them that are written as rows instead of being created
    #[arg(long, default_value_t = 0)]
    by_rows: usize,
    /// Clients at once
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// What each client does while the fleet is used, and again while agents die
    #[arg(long, default_value_t = 200)]
    steps: usize,
    /// What the plan comes from; by default another one each time
    #[arg(long)]
    seed: Option<u64>,
}

#[tokio::main]
async fn main() {
    let Options { agents, sessions, by_rows, clients, steps, seed } = Options::parse();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = seed.unwrap_or(now.as_secs());
    run(Size { agents, sessions, by_rows, clients, steps, seed }).await;
}
