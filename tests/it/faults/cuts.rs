//! The line between an agent and the replicas is cut: packets vanish, in both directions or in
//! one. The agent is in a network of its own; its clients reach it all the time.

use std::time::{Duration, Instant};

use harness::{
    Api, Session,
    cdp::Cdp,
    eventually,
    network::{Cut, Network},
};
use serde_json::json;
use tokio::time::sleep;

use super::{
    Course,
    fleet::{Fleet, agent},
    is_root,
};

/// A lease ends ten seconds after it was asked for, the agent two seconds sooner, and it asks
/// every three: this long nothing may come of a cut.
const SHORT: Duration = Duration::from_secs(3);
/// Longer than any lease, with its clean-up.
const LONG: Duration = Duration::from_secs(14);
/// A really long one.
const VERY_LONG: Duration = Duration::from_secs(30);
/// How long it may take until all is well again.
const WELL_AGAIN: Duration = Duration::from_secs(15);

/// A fleet whose first agent is behind a line.
async fn behind(network: &Network) -> Fleet {
    let mut fleet = Fleet::reached_from_networks().await;
    let plan = agent(&network.machine().to_string(), &fleet.hubs(), 1).inside(network);
    fleet.add(plan).await;
    fleet
}

/// A session on the agent that is behind the line. There is a place for one on each agent, and
/// the near one is on this machine's own address.
async fn beyond(api: &Api) -> Session {
    let is_near = |session: &Session| session.connect_url().contains("127.0.0.1");
    let session = api.create(json!({})).await;
    if !is_near(&session) {
        return session;
    }
    let other = api.create(json!({})).await;
    assert!(!is_near(&other), "{}", other.connect_url());
    api.release(session.id()).await;
    other
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_shorter_than_a_lease_costs_nothing() {
    if !is_root() {
        return; // only root can have networks
    }
    let mut course = Course::of("faults::cuts");
    let network = Network::new();
    let fleet = behind(&network).await;
    let [api, _] = fleet.apis();
    let session = api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let (_, page) = cdp.page("about:blank").await;
    for _ in 0..course.rounds {
        let mut cuts = [Cut::Both, Cut::Inbound, Cut::Outbound];
        course.random.shuffle(&mut cuts);
        for cut in cuts {
            // At any moment between two of its questions.
            sleep(Duration::from_millis(course.random.u64(0..3_000))).await;
            println!("cuts {cut:?} for {SHORT:?}");
            network.cut(&fleet.hubs(), cut);
            sleep(SHORT).await;
            assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
            network.mend();
            // It has been answered again: or the next cut would be one with this.
            fleet.lease_is_renewed(2).await;
            assert_eq!(api.session(session.id()).await.status(), "RUNNING");
        }
    }
    assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
    assert!(!fleet.agent(0).log().contains("the lease lapsed"));
    api.release(session.id()).await;
    assert_eq!(cdp.closed(WELL_AGAIN).await, (1001, "released".to_owned()));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_longer_than_a_lease_ends_browsers_before_anyone_says_so() {
    if !is_root() {
        return;
    }
    let mut course = Course::of("faults::cuts");
    let network = Network::new();
    let mut fleet = behind(&network).await;
    let [api, other] = fleet.apis();
    for round in 0..course.rounds {
        let session = beyond(&api).await;
        let mut cdp = Cdp::connect(session.connect_url()).await;
        cdp.page("about:blank").await;
        if round == 0 {
            let near = agent("127.0.0.1", &fleet.hubs(), 1);
            fleet.add(near).await;
        }
        let cuts = [Cut::Both, Cut::Inbound, Cut::Outbound];
        let cut = cuts[course.random.usize(0..cuts.len())];
        let lasts = if course.long { VERY_LONG } else { LONG };
        println!("cuts {cut:?} for {lasts:?}");
        let began = Instant::now();
        network.cut(&fleet.hubs(), cut);

        // The agent is the first to act on it: it ends the session, and tells its client.
        assert_eq!(cdp.closed(lasts).await, (1001, "agent_lost".to_owned()));
        // The rest of the fleet says so only when no browser is left that could belie it.
        eventually("the session is over", lasts, || async {
            let browsers = fleet.agent(0).browsers();
            let over = api.session(session.id()).await;
            if over.status() != "ERRORED" {
                return None;
            }
            assert!(browsers.is_empty(), "it is over, and its browser runs");
            assert_eq!(over.reason(), "agent_lost");
            Some(())
        })
        .await;
        // What comes meanwhile goes to the agent that is there.
        let elsewhere = other.create(json!({})).await;
        Cdp::connect(elsewhere.connect_url()).await.close().await;
        other.release(elsewhere.id()).await;

        sleep(lasts.saturating_sub(began.elapsed())).await;
        network.mend();
        eventually("the agent is back", WELL_AGAIN, || async {
            fleet.has_ready(2).await.then_some(())
        })
        .await;
        assert_eq!(api.session(session.id()).await.reason(), "agent_lost");
        // Both take sessions.
        let pair = [api.create(json!({})).await, api.create(json!({})).await];
        for session in pair {
            Cdp::connect(session.connect_url()).await.close().await;
            api.release(session.id()).await;
        }
        fleet.is_at_rest().await;
    }
    fleet.stop().await;
}
