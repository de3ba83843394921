//! Control plane and agent as programs of their own, on PostgreSQL.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use harness::{
    cdp::Cdp,
    eventually,
    fleet::{agent, control_plane, database, free_port},
    leftovers::GRACE,
    rows,
};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn each_half_survives_the_other() {
    let database = database().await;
    let hub = free_port();
    let control = control_plane(&database, hub).start().await;
    let agent = agent(hub).start().await;

    // a session and its client outlive the control plane
    let session = control.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let (_, page) = cdp.page("about:blank").await;
    let control = control.kill(GRACE).await;
    assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
    let control = control.start().await;
    assert_eq!(control.api.session(session.id()).await.status(), "RUNNING");
    assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
    // the agent is back as soon as it has found the hub: what is asked of it arrives
    control.api.release(session.id()).await;
    assert_eq!(cdp.closed(Duration::from_secs(15)).await, (1001, "released".into()));
    eventually("its slot is free", Duration::from_secs(15), || async {
        (control.api.in_use().await == 0).then_some(())
    })
    .await;

    // kill -9 of the agent: its browsers go with it, its sessions when its lease lapses
    let session = control.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    cdp.page("about:blank").await;
    let agent = agent.kill(GRACE).await;
    let over = control.api.wait_for(session.id(), "ERRORED", Duration::from_secs(15)).await;
    assert_eq!(over.reason(), "agent_lost");
    let refused = control.api.create_with("nobody", "wait=0", &json!({})).await;
    assert_eq!((refused.status, refused.problem()), (503, "insufficient-capacity"));

    // and it comes back
    let agent = agent.start().await;
    let session = control.api.create(json!({})).await;
    control.api.release(session.id()).await;
    eventually("its slot is free", Duration::from_secs(10), || async {
        (control.api.in_use().await == 0).then_some(())
    })
    .await;
    agent.stop_process().await;
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_make_one_session_of_one_key() {
    let database = database().await;
    let hubs = [free_port(), free_port()];
    let one = control_plane(&database, hubs[0]).start().await;
    let key = one.key();
    // both seal with one master key
    let two = control_plane(&database, hubs[1]).key(key);
    std::fs::copy(one.data().join("master.key"), two.data().join("master.key")).unwrap();
    let two = two.start().await;
    let agents = [agent(hubs[0]).start().await, agent(hubs[1]).start().await];

    let body = json!({});
    let asked = (0..60).map(|n| {
        let api = if n % 2 == 0 { &one.api } else { &two.api };
        api.create_with("over-replicas", "wait=30", &body)
    });
    let answers = join_all(asked).await;
    let ids: HashSet<_> = answers.iter().map(|answer| answer.body["id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(one.api.all().await.len(), 1);

    // never more than fit, whichever replica is asked and wherever the agents dialled
    let asked = (0..12).map(|n| {
        let api = if n % 2 == 0 { one.api.clone() } else { two.api.clone() };
        let body = body.clone();
        async move { api.create_with(&format!("many-{n}"), "wait=8", &body).await }
    });
    let answers = join_all(asked).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 3, "four slots, one taken: {answers:?}");
    assert!(answers.iter().all(|answer| [201, 503].contains(&answer.status)));
    let browsers: usize = agents.iter().map(|agent| agent.browsers().len()).sum();
    assert_eq!(browsers, 4);
    let wrong = rows::wrong(&database, false).await;
    assert!(wrong.is_empty(), "{wrong:?}");

    // a session is released at the other replica
    for session in one.api.all().await {
        two.api.release(session.id()).await;
    }
    eventually("every slot is free", Duration::from_secs(15), || async {
        (one.api.in_use().await == 0 && agents.iter().all(|a| a.browsers().is_empty()))
            .then_some(())
    })
    .await;
    for agent in agents {
        agent.stop_process().await;
    }
    two.stop_process().await;
    one.stop().await;
}
