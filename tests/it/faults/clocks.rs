//! The clocks of two agents are five minutes wrong, one each way. It is the database's that
//! judges deadlines, so nobody may notice.

use std::{path::Path, time::Duration};

use harness::{PATIENCE, Server, cdp::Cdp, eventually, server::Plan};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::Instant;

use super::fleet::{Fleet, agent};

/// Debian's package `faketime`; the loader fills in what `$LIB` is.
const FAKETIME: &str = "/usr/$LIB/faketime/libfaketime.so.1";
/// How far a time may be off that is told by an agent: it tells it every few seconds.
const OFF: Duration = Duration::from_secs(20);

/// Lets only the wall clock of its process be wrong: no machine has a wrong monotonic one.
fn with_clock(plan: Plan, wrong: &str) -> Plan {
    let installed = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
        .map(|of| format!("/usr/lib/{of}/faketime/libfaketime.so.1"));
    let installed = installed.iter().any(|library| Path::new(library).exists());
    assert!(installed, "the package faketime is installed: scripts/install test");
    plan.env("LD_PRELOAD", FAKETIME).env("FAKETIME", wrong).env("FAKETIME_DONT_FAKE_MONOTONIC", 1)
}

/// The same connect URL at another agent.
fn at(url: &str, agent: &Server) -> String {
    let (_, path) = url.split_once("/v1/").unwrap();
    format!("{}/v1/{path}", agent.api.base_url.replace("http://", "ws://"))
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_that_the_clocks_of_agents_are_wrong() {
    let mut fleet = Fleet::start().await;
    for wrong in ["+300s", "-300s"] {
        fleet.add(with_clock(agent("127.0.0.1", &fleet.hubs(), 2), wrong)).await;
    }
    for n in 0..2 {
        let log = fleet.agent(n).log();
        assert!(log.contains("this machine's clock is wrong"), "it is not:\n{log}");
    }
    let [api, _] = fleet.apis();
    let url = |n: usize| fleet.agent(n).api.base_url.replace("http://", "ws://");
    let is_at = |session: &harness::Session, n| session.connect_url().starts_with(&url(n));
    // One at each: a replica knows of a new agent after a second.
    let mut sessions = [None, None];
    while sessions.iter().any(Option::is_none) {
        let session = api.create(json!({ "keep_alive_seconds": 120 })).await;
        let at = (0..2).find(|n| is_at(&session, *n)).expect("one of the two");
        if let Some(former) = sessions[at].replace(session) {
            api.release(former.id()).await;
        }
    }
    let sessions = sessions.map(|session| session.expect("one each"));

    for session in &sessions {
        // At its own agent, and forwarded by the other, whose clock is ten minutes off.
        for n in 0..2 {
            let mut cdp = Cdp::connect(&at(session.connect_url(), fleet.agent(n))).await;
            let (_, page) = cdp.page("about:blank").await;
            assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
            cdp.close().await;
        }
        // What an agent says of times is right.
        eventually("its last message was just now", PATIENCE, || async {
            let session = api.session(session.id()).await;
            let seen = session.0["last_seen_at"].as_str()?.to_owned();
            let seen = OffsetDateTime::parse(&seen, &Rfc3339).unwrap();
            let off = (OffsetDateTime::now_utc() - seen).abs();
            assert!(off < OFF, "it was told to be {off} ago");
            Some(())
        })
        .await;
    }

    // Sessions end at their deadline, no sooner and no later.
    let deadlines = (0..2).map(|_| async {
        let asked = Instant::now();
        let session = api.create(json!({ "timeout_seconds": 8 })).await;
        let mut cdp = Cdp::connect(session.connect_url()).await;
        assert_eq!(cdp.closed(PATIENCE).await, (1001, "deadline".to_owned()));
        let lived = asked.elapsed();
        assert!((7..12).contains(&lived.as_secs()), "it lived for {lived:?}");
        api.wait_for(session.id(), "EXPIRED", PATIENCE).await;
    });
    futures_util::future::join_all(deadlines).await;
    // By now each has asked for its lease several times.
    for (n, session) in sessions.iter().enumerate() {
        assert_eq!(api.session(session.id()).await.status(), "RUNNING");
        assert_eq!(fleet.agent(n).log().matches("the hub welcomed this agent").count(), 1);
        api.release(session.id()).await;
    }
    fleet.stop().await;
}
