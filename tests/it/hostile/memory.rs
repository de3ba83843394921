//! What clients cost the agent in memory: figures of the process that serves them.

use std::time::Duration;

use futures_util::future::join_all;
use harness::{Server, Session, cdp::Cdp, eventually, fleet};
use serde_json::json;

use super::socket::{Socket, frame};

const SESSIONS: u32 = 16;

/// Memory of a process that is its own, in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

async fn sessions(control: &Server) -> Vec<Session> {
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(control.api.create(json!({})).await);
    }
    sessions
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_cost_the_agent_little_whatever_their_clients_do_not_read() {
    let database = fleet::database().await;
    let hub = fleet::free_port();
    let control = fleet::control_plane(&database, hub).start().await;
    let agent = fleet::agent_of(hub, SESSIONS).start().await;

    // Once before, so that what stays is not taken for what a session costs.
    for session in sessions(&control).await {
        let cdp = Cdp::connect(session.connect_url()).await;
        cdp.close().await;
        control.api.release(session.id()).await;
    }
    let idle = settled(&agent).await;
    let sessions = sessions(&control).await;
    let mut clients = join_all(sessions.iter().map(|s| Cdp::connect(s.connect_url()))).await;
    let connected = settled(&agent).await;
    let each = connected.saturating_sub(idle) / u64::from(SESSIONS);
    println!("agent: idle {idle} KiB, with {SESSIONS} idle connected sessions {each} KiB each");
    assert!(each < 256, "{each} KiB");

    // The pages say 200 MB to clients that do not listen: each of them little enough to be
    // kept, all together too much.
    let flood = "for (let n = 0; n < 200; n++) console.log('x'.repeat(64 << 10)); window.said = 1";
    let mut deaf = Vec::new();
    for (session, cdp) in sessions.iter().zip(&mut clients) {
        let (target, page) = cdp.page("about:blank").await;
        let mut socket = Socket::connect(session.connect_url()).await;
        let attach = json!({ "id": 1, "method": "Target.attachToTarget", "params": { "targetId": target, "flatten": true } });
        socket.send(&frame(0x81, attach.to_string().as_bytes())).await;
        let id = loop {
            let (_, payload) = socket.next().await.expect("an answer");
            let message: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            if let Some(id) = message["result"]["sessionId"].as_str() {
                break id.to_owned();
            }
        };
        let enable = json!({ "id": 2, "method": "Runtime.enable", "sessionId": id });
        socket.send(&frame(0x81, enable.to_string().as_bytes())).await;
        deaf.push((socket, page));
    }
    let before = settled(&agent).await;
    let (tell, mut done) = tokio::sync::watch::channel(false);
    let pid = agent.pid();
    let watching = tokio::spawn(async move {
        let mut most = 0;
        while !*done.borrow_and_update() {
            most = most.max(resident_kib(pid));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        most
    });
    let flooded = clients.iter_mut().zip(&deaf).map(async |(cdp, (_, page))| {
        assert_eq!(cdp.evaluate(Some(page), flood).await, 1);
    });
    join_all(flooded).await;
    tell.send_replace(true);
    let most = watching.await.unwrap();
    let above = most.saturating_sub(before);
    println!(
        "agent: at most {above} KiB more while {SESSIONS} sessions say 200 MB to deaf clients"
    );
    assert!(above < 64 << 10, "{above} KiB");

    for (cdp, session) in clients.into_iter().zip(&sessions) {
        cdp.close().await;
        control.api.release(session.id()).await;
    }
    drop(deaf);
    agent.stop_process().await;
    control.stop().await;
}

/// The agent's memory once it does not change any more.
async fn settled(agent: &Server) -> u64 {
    let last = std::cell::Cell::new(0);
    eventually("the agent's memory settles", Duration::from_secs(30), || async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = resident_kib(agent.pid());
        (last.replace(now).abs_diff(now) < 64).then_some(now)
    })
    .await
}
