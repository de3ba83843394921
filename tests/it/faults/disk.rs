//! The disk is full: of the whole server, whose store and browsers are on it, and of an agent.

use std::time::{Duration, Instant};

use harness::{Api, PATIENCE, Server, cdp::Cdp, disk::SmallDisk, fleet::with_small_browser, rows};
use http::Method;
use serde_json::json;

use super::{
    fleet::{Fleet, agent},
    is_root,
};

/// Enough for a few browsers.
const SIZE_MIB: u32 = 96;
/// How long a create may take to be refused.
const REFUSED: Duration = Duration::from_secs(30);

/// A create that cannot succeed: it is refused for now, and by its key nothing was made.
async fn is_refused(api: &Api, key: &str) {
    let asked = Instant::now();
    let refused = api.create_with(key, "wait=5", &json!({})).await;
    assert_eq!((refused.status, refused.problem()), (503, "insufficient-capacity"), "{refused:?}");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert!(asked.elapsed() < REFUSED, "it took {:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_disk_is_full_refuses_and_goes_on_when_there_is_room() {
    if !is_root() {
        return; // only root can mount
    }
    let plan = with_small_browser(Server::up().capacity(2, 0));
    let disk = SmallDisk::over(plan.data(), SIZE_MIB);
    let server = plan.clone().start().await;
    let session = server.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let (_, page) = cdp.page("about:blank").await;

    disk.fill();
    for key in ["one", "two"] {
        is_refused(&server.api, key).await;
    }
    // Who has a session keeps it, and can read of it.
    assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
    assert_eq!(server.api.session(session.id()).await.status(), "RUNNING");
    Cdp::connect(session.connect_url()).await.close().await;
    // A release is done, or refused; it is not half done.
    let path = format!("/v1/sessions/{}", session.id());
    let released = server.api.send(Method::DELETE, &path, &[], None).await;
    assert!([204, 503].contains(&released.status), "{released:?}");

    disk.make_room();
    let next = server.api.create_with("one", "wait=30", &json!({})).await.session(201);
    Cdp::connect(next.connect_url()).await.close().await;
    let known = server.api.session(session.id()).await;
    assert!(["RUNNING", "COMPLETED", "ERRORED"].contains(&known.status()), "{}", known.0);
    for id in [next.id(), session.id()] {
        server.api.release(id).await;
    }
    server.at_rest(0).await;
    let wrong = rows::wrong(&server.store(), true).await;
    assert!(wrong.is_empty(), "{wrong:?}");
    server.stop().await;
    drop(disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_with_a_full_disk_says_is_true() {
    if !is_root() {
        return;
    }
    let mut fleet = Fleet::start().await;
    let [api, _] = fleet.apis();
    let plan = agent("127.0.0.1", &fleet.hubs(), 2);
    let disk = SmallDisk::over(plan.data(), SIZE_MIB);
    fleet.add(plan.clone()).await;
    disk.fill();
    // Some browsers start without a byte of room, and some do not.
    for full in [true, false] {
        let key = if full { "full" } else { "room" };
        let made = api.create_with(key, "wait=30", &json!({})).await;
        if !(full && made.status == 503) {
            let session = made.session(201);
            let mut cdp = Cdp::connect(session.connect_url()).await;
            let (_, page) = cdp.page("data:text/html,<title>small").await;
            cdp.until_titled(&page, "small").await;
            api.release(session.id()).await;
            assert_eq!(cdp.closed(PATIENCE).await, (1001, "released".to_owned()));
        }
        if full {
            disk.make_room();
        }
    }
    fleet.stop().await;
    drop(disk);
}
