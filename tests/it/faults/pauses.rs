//! An agent stands still for longer than its lease, and goes on as if nothing had been.

use std::time::Duration;

use harness::{cdp::Cdp, eventually, process};
use rustix::process::Signal;
use serde_json::json;

use super::fleet::Fleet;

/// How long until a lease has lapsed, and somebody has looked.
const LAPSED: Duration = Duration::from_secs(20);
/// How long an agent that goes on may keep what it may not have any more.
const NOTICED: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_paused_past_its_lease_has_lost_its_sessions_and_knows_it() {
    let fleet = Fleet::with_agents(1, 2).await;
    let [api, other] = fleet.apis();
    let sessions = [api.create(json!({})).await, api.create(json!({})).await];
    let mut clients = Vec::new();
    for session in &sessions {
        let mut cdp = Cdp::connect(session.connect_url()).await;
        cdp.page("about:blank").await;
        clients.push(cdp);
    }
    let signal = |signal| process::signal(fleet.agent(0).pid().cast_signed(), signal);
    signal(Signal::STOP);
    for session in &sessions {
        let over = other.wait_for(session.id(), "ERRORED", LAPSED).await;
        assert_eq!(over.reason(), "agent_lost");
    }
    assert_eq!(api.in_use().await, 0, "its slots are free");
    let refused = api.create_with("nobody", "wait=0", &json!({})).await;
    assert_eq!((refused.status, refused.problem()), (503, "insufficient-capacity"));

    // What it answers now is what has become of them, not what it last knew.
    signal(Signal::CONT);
    for (session, mut cdp) in sessions.iter().zip(clients) {
        assert_eq!(cdp.closed(NOTICED).await, (1001, "agent_lost".to_owned()));
        assert!(Cdp::try_connect(session.connect_url()).await.is_err(), "nobody is let in");
    }
    let gone = || async { fleet.agent(0).browsers().is_empty().then_some(()) };
    eventually("its browsers are gone", NOTICED, gone).await;

    let again = api.create(json!({})).await;
    Cdp::connect(again.connect_url()).await.close().await;
    api.release(again.id()).await;
    fleet.stop().await;
}
