//! The fleet as it is simulated, in small: `make simulation` runs it at its full size.

use harness::simulation::{Size, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_tenth_of_the_agents_die_at_once_and_nothing_else_is_touched() {
    run(Size { agents: 50, sessions: 2_000, by_rows: 1_600, clients: 16, steps: 10, seed: 5 })
        .await;
}
