//! Agents are taken out of service, by request and by signal, and nobody loses what they had.

use std::time::Duration;

use futures_util::future::join_all;
use harness::{
    Api, Server,
    cdp::Cdp,
    eventually,
    fleet::{agent_of, agents, control_plane, database, free_port, id_of, operator},
    leftovers::GRACE,
    process, rows,
};
use http::Method;
use rustix::process::Signal;
use serde_json::json;

/// How long what is told over the stream may take to show.
const SOON: Duration = Duration::from_secs(15);

async fn status_of(api: &Api, id: &str) -> String {
    let answer = api.get(&format!("/v1/agents/{id}")).await;
    answer.body["status"].as_str().unwrap_or_default().to_owned()
}

async fn drain(api: &Api, id: &str, seconds: u32) {
    let body = json!({ "deadline_seconds": seconds });
    let path = format!("/v1/agents/{id}/drain");
    let answer = api.send(Method::POST, &path, &[], Some(&body)).await;
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("draining")));
}

fn signal(agent: &Server, signal: Signal) {
    process::signal(agent.pid().cast_signed(), signal);
}

/// Where a session's connect URL leads.
fn place(session: &harness::Session) -> &str {
    session.connect_url().split_once("/v1/").unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_no_create_is_lost_and_none_is_placed_on_a_drained_agent() {
    let database = database().await;
    let hub = free_port();
    let control = control_plane(&database, hub).start().await;
    let (one, two) = (agent_of(hub, 4).start().await, agent_of(hub, 4).start().await);
    let api = operator(&control).await;
    let drained = id_of(&one);
    let kept = control.api.create(json!({})).await;
    // Creates and releases without a pause, while an agent is drained.
    let load = |n: usize| {
        let api = control.api.clone();
        async move {
            let mut made = Vec::new();
            for round in 0..6 {
                let answer = api.create_with(&format!("{n}-{round}"), "wait=60", &json!({})).await;
                let session = answer.session(201);
                made.push((session.id().to_owned(), place(&session).to_owned()));
                api.release(session.id()).await;
            }
            made
        }
    };
    let draining = async {
        // When some have been made.
        eventually("load", SOON, || async { (control.api.all().await.len() > 4).then_some(()) })
            .await;
        drain(&api, &drained, 3_600).await;
        let begun = agents(&api).await;
        begun.iter().find(|agent| agent["id"] == drained.as_str()).unwrap().clone()
    };
    let (made, begun) = tokio::join!(join_all((0..3).map(load)), draining);
    assert_eq!(made.iter().map(Vec::len).sum::<usize>(), 18);
    let since = begun["draining_since"].as_str().unwrap();
    let url = begun["data_plane_url"].as_str().unwrap();
    for (id, place) in made.iter().flatten() {
        let session = control.api.session(id).await;
        let late = session.0["created_at"].as_str().unwrap() > since;
        assert!(!(late && place == url), "{id} was placed on a drained agent");
    }
    assert!(made.iter().flatten().any(|(_, place)| place == url), "the load reached it before");

    // What it ran goes on, and it comes back when the drain is undone.
    assert_eq!(control.api.session(kept.id()).await.status(), "RUNNING");
    let path = format!("/v1/agents/{drained}/drain");
    assert_eq!(api.send(Method::DELETE, &path, &[], None).await.body["status"], "ready");
    let mut again = Vec::new();
    for _ in 0..6 {
        again.push(control.api.create(json!({})).await);
    }
    assert!(again.iter().any(|session| place(session) == url), "it takes sessions again");
    for session in again.iter().chain([&kept]) {
        control.api.release(session.id()).await;
    }
    one.stop_process().await;
    two.stop_process().await;
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_deadline_what_is_left_ends_and_says_so_everywhere() {
    let database = database().await;
    let hub = free_port();
    let control = control_plane(&database, hub).start().await;
    let agent = agent_of(hub, 2).start().await;
    let api = operator(&control).await;
    let session = control.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let (_, page) = cdp.page("about:blank").await;
    drain(&api, &id_of(&agent), 3_600).await;
    let full = control.api.create_with("none", "wait=0", &json!({})).await;
    assert_eq!((full.status, full.problem()), (503, "insufficient-capacity"));
    assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);

    drain(&api, &id_of(&agent), 0).await;
    assert_eq!(cdp.closed(SOON).await, (1001, "agent_drained".to_owned()));
    let over = control.api.wait_for(session.id(), "ERRORED", SOON).await;
    assert_eq!(over.reason(), "agent_drained");
    let last = control.api.events(session.id()).await.pop();
    assert_eq!(last, Some(("ERRORED".to_owned(), Some("agent_drained".to_owned()))));
    eventually("its browser is gone", GRACE, || async {
        agent.browsers().is_empty().then_some(())
    })
    .await;

    // It was the operator who drained it: a restart does not undo that.
    let plan = agent.stop_process().await;
    let agent = plan.start().await;
    assert_eq!(status_of(&api, &id_of(&agent)).await, "draining");
    agent.stop_process().await;
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_told_to_stop_waits_for_its_sessions_and_leaves() {
    let database = database().await;
    let hub = free_port();
    let control = control_plane(&database, hub).start().await;
    let agent = agent_of(hub, 2).env("VENTUS_DRAIN_SECONDS", 60).start().await;
    let api = operator(&control).await;
    let id = id_of(&agent);
    let session = control.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    signal(&agent, Signal::TERM);
    eventually("it drains", SOON, || async {
        (status_of(&api, &id).await == "draining").then_some(())
    })
    .await;
    let full = control.api.create_with("none", "wait=0", &json!({})).await;
    assert_eq!((full.status, full.problem()), (503, "insufficient-capacity"));
    // Its clients stay, and new ones come.
    let (_, page) = cdp.page("about:blank").await;
    assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
    Cdp::connect(session.connect_url()).await.close().await;

    control.api.release(session.id()).await;
    assert_eq!(cdp.closed(SOON).await, (1001, "released".to_owned()));
    let plan = agent.ended(0, SOON).await;
    assert_eq!(control.api.session(session.id()).await.reason(), "released");
    eventually("its lease is over at once", Duration::from_secs(3), || async {
        (status_of(&api, &id).await == "lost").then_some(())
    })
    .await;

    // Another run of it is in service, and what waits is placed there.
    let agent = plan.start().await;
    assert_eq!(status_of(&api, &id).await, "ready");
    let session = control.api.create(json!({})).await;
    // The time for draining is over sooner, where a second signal says so.
    signal(&agent, Signal::TERM);
    eventually("it drains", SOON, || async {
        (status_of(&api, &id).await == "draining").then_some(())
    })
    .await;
    assert_eq!(control.api.session(session.id()).await.status(), "RUNNING");
    signal(&agent, Signal::TERM);
    let over = control.api.wait_for(session.id(), "ERRORED", SOON).await;
    assert_eq!(over.reason(), "agent_drained");
    drop(agent.ended(0, SOON).await);
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_signal_ends_an_agent_where_it_stands() {
    let database = database().await;
    let hub = free_port();
    let control = control_plane(&database, hub).start().await;
    let agent = agent_of(hub, 1).env("VENTUS_DRAIN_SECONDS", 60).start().await;
    let session = control.api.create(json!({})).await;
    // One after the other: the same signal twice at once may count as one.
    let pid = agent.pid().cast_signed();
    let signals = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            process::signal(pid, Signal::TERM);
        }
    });
    drop(agent.ended(130, SOON).await);
    signals.abort();
    control.api.wait_for(session.id(), "ERRORED", SOON).await;
    // What it could not clean up counts as there until its lease has lapsed.
    let store = control.store();
    let at_rest = || async { rows::wrong(&store, true).await.is_empty().then_some(()) };
    eventually("the slot is free", SOON, at_rest).await;
    control.stop().await;
}
