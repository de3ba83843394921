//! Two processes with one agent id: somebody copied a data directory, or a machine.

use std::{fs, time::Duration};

use harness::{Server, cdp::Cdp, eventually, fleet::id_of, leftovers, server::Plan};
use serde_json::json;

use super::fleet::{Fleet, GONE_LIMIT, agent};

/// How long a twin may take to be refused some times, or to be taken when the first has gone.
const SOON: Duration = Duration::from_secs(40);
const REFUSAL: &str = "another process attached with this agent id";

/// An agent with the same id and a directory of its own.
fn twin(of: &Server, plan: Plan) -> Plan {
    fs::copy(of.data().join("agent-id"), plan.data().join("agent-id")).unwrap();
    plan
}

fn log_of(plan: &Plan) -> String {
    fs::read_to_string(plan.data().join("ventus.log")).unwrap_or_default()
}

async fn a_twin_at(hub: usize) {
    let mut fleet = Fleet::start().await;
    let [api, _] = fleet.apis();
    let hubs = fleet.hubs();
    fleet.add(agent("127.0.0.1", &hubs[..1], 1)).await;
    let session = api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let (_, page) = cdp.page("about:blank").await;

    // It is refused, as often as it asks, and its log says why.
    let plan = twin(fleet.agent(0), agent("127.0.0.1", &hubs[hub..=hub], 1));
    let mut process = plan.spawn();
    let refused = || async { (log_of(&plan).matches(REFUSAL).count() >= 8).then_some(()) };
    eventually("the twin is refused", SOON, refused).await;
    assert!(!log_of(&plan).contains("the hub welcomed this agent"));
    // The first is unharmed, and there is no more room than it has.
    assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
    assert_eq!(api.session(session.id()).await.status(), "RUNNING");
    let full = api.create_with("one-too-many", "wait=1", &json!({})).await;
    assert_eq!((full.status, full.problem()), (503, "insufficient-capacity"));
    assert_eq!(fleet.agent(0).log().matches("the hub welcomed this agent").count(), 1);

    // When the first dies the twin is let in. It does not have what the first had.
    let first = fleet.agents[0].take().unwrap();
    let name = id_of(&first);
    let first = first.kill(GONE_LIMIT).await;
    let over = api.wait_for(session.id(), "ERRORED", SOON).await;
    assert_eq!(over.reason(), "agent_lost");
    let next = api.create_with("next", "wait=30", &json!({})).await.session(201);
    assert!(log_of(&plan).contains("the hub welcomed this agent"));
    Cdp::connect(next.connect_url()).await.close().await;
    // Now it is the other way round.
    first.says(REFUSAL).await;
    assert_eq!(api.session(next.id()).await.status(), "RUNNING");
    api.release(next.id()).await;
    eventually("its slot is free", SOON, || async { (api.in_use().await == 0).then_some(()) })
        .await;

    process.kill().await.unwrap();
    leftovers::no_process(plan.data(), None, GONE_LIMIT).await;
    fleet.agents[0] = Some(first.start().await);
    assert_eq!(id_of(fleet.agent(0)), name);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twin_at_the_same_replica_is_refused_while_the_first_lives() {
    a_twin_at(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twin_at_another_replica_is_refused_while_the_first_lives() {
    a_twin_at(1).await;
}
