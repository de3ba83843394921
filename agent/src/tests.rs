//! The whole agent with real browsers, against a hub that the test plays.

use std::path::Path;

use proto::egress::Egress;

use super::*;
use crate::{control::testing, limits::Limits, sessions::testing::soon};

const CHROMIUM: &str = "/usr/lib/chromium/chromium";

fn config(data_dir: &Path, hub_url: String) -> Config {
    Config {
        data_dir: data_dir.to_owned(),
        region: "local".parse().unwrap(),
        capacity: 2,
        warm: 1,
        browser: CHROMIUM.into(),
        hub_urls: vec![hub_url],
        hub_tls: HubTls::default(),
        join_token: "join".to_owned(),
        data_plane_url: "ws://127.0.0.1:1".to_owned(),
        peer_url: None,
        pod: None,
        no_sandbox: false,
        isolation: crate::browser::Strictness::BestEffort,
        egress: Egress::default(),
        own_ports: Vec::new(),
        limits: Limits::default(),
        allowed_origins: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_lends_warm_browsers_and_leaves_nothing_when_it_stops() {
    let data_dir = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let (hub_url, mut streams) = testing::hub().await;
    let stop = CancellationToken::new();
    let agent = Agent::start(config(data_dir.path(), hub_url), stop.clone()).await.unwrap();
    let mut stream = soon(streams.recv()).await.unwrap();
    let hello = stream.hello().await;
    assert!(hello.browser_version.contains('/'), "{}", hello.browser_version);
    let layers: Vec<_> = hello.isolation.iter().map(|layer| layer.name.as_str()).collect();
    let known = ["user", "no-new-privileges", "landlock", "seccomp", "chrome-sandbox"];
    assert!(known.iter().all(|name| layers.contains(name)), "{layers:?}");
    stream.welcome(30_000, 60_000);
    soon(agent.ready().wait_for(|ready| *ready)).await.unwrap();

    let released = stream.assign();
    assert_eq!(stream.said_running().await, released);
    stream.release(released, "released");
    assert_eq!(stream.said_ended().await, (released, "released".to_owned()));
    stream.acknowledge(released);

    let running = stream.assign();
    assert_eq!(stream.said_running().await, running);
    stop.cancel();
    assert_eq!(stream.said_ending().await, (running, "agent_drained".to_owned()));
    stream.release(running, "agent_drained");
    assert_eq!(stream.said_ended().await, (running, "agent_drained".to_owned()));
    stream.acknowledge(running);
    soon(agent.stopped()).await;
    let left: Vec<_> = std::fs::read_dir(data_dir.path().join("browsers"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
