//! Any agent of a region takes every connect URL of it.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use harness::{
    Chrome, Server, Session, Site,
    cdp::Cdp,
    clients, eventually,
    fleet::{agent_of, control_plane, database, free_port},
    leftovers::GRACE,
    process,
    server::Plan,
    tls::{Certificate, Front},
};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

/// How long what agents are told of each other may take.
const SOON: Duration = Duration::from_secs(15);

/// Two agents of a region, one of which runs the session.
struct Fleet {
    control: Server,
    owner: Server,
    other: Server,
    session: Session,
}

impl Fleet {
    async fn start(change: impl Fn(Plan) -> Plan) -> Self {
        let database = database().await;
        let hub = free_port();
        let control = control_plane(&database, hub).start().await;
        let plan = || change(agent_of(hub, 1));
        let owner = plan().start().await;
        let session = control.api.create(json!({})).await;
        // It comes later, so it is another one that has the session.
        let other = plan().start().await;
        Self { control, owner, other, session }
    }

    /// The session's connect URL at the agent that does not run it.
    fn elsewhere(&self) -> String {
        moved(self.session.connect_url(), &self.owner, &self.other)
    }

    async fn stop(self) {
        self.control.api.release(self.session.id()).await;
        self.owner.stop_process().await;
        self.other.stop_process().await;
        self.control.stop().await;
    }
}

fn host(agent: &Server) -> String {
    agent.api.base_url.trim_start_matches("http://").to_owned()
}

fn moved(url: &str, from: &Server, to: &Server) -> String {
    assert!(url.contains(&host(from)), "{url}");
    url.replace(&host(from), &host(to))
}

/// What an upgrade is refused with.
async fn refused(url: &str, headers: &[(&'static str, &str)]) -> (u16, Value) {
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match tokio_tungstenite::connect_async(request).await {
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            (response.status().as_u16(), serde_json::from_slice(body).unwrap())
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// A `json/…` page through an agent.
async fn page(url: &str, path: &str) -> Value {
    let (place, token) = url.split_once("?token=").unwrap();
    let url = format!("{}/{path}?token={token}", place.replace("ws://", "http://"));
    reqwest::get(url).await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn puppeteer_agrees_through_another_agent() {
    let site = Site::start().await;
    let fleet = Fleet::start(|plan| plan).await;
    let chrome = Chrome::like(fleet.owner.data()).await;
    let ours = clients::run("puppeteer.mjs", &fleet.elsewhere(), &site.url, &[]).await;
    let theirs = clients::run("puppeteer.mjs", &chrome.url, &site.url, &[]).await;
    clients::assert_alike(&ours, &theirs);
    let over = fleet.control.api.wait_for(fleet.session.id(), "COMPLETED", GRACE).await;
    assert_eq!(over.reason(), "closed_by_client");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_messages_agree_through_another_agent() {
    let site = Site::start().await;
    let fleet = Fleet::start(|plan| plan).await;
    let chrome = Chrome::like(fleet.owner.data()).await;
    let scenarios = ["page endpoint", "frames", "discovery", "leaving", "large messages"];
    let ours = clients::run("raw.mjs", &fleet.elsewhere(), &site.url, &scenarios).await;
    let theirs = clients::run("raw.mjs", &chrome.url, &site.url, &scenarios).await;
    clients::assert_alike(&ours, &theirs);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_leads_through_the_agent_that_was_asked() {
    let fleet = Fleet::start(|plan| plan).await;
    let elsewhere = fleet.elsewhere();
    let version = page(&elsewhere, "json/version").await;
    let socket = version["webSocketDebuggerUrl"].as_str().unwrap();
    assert!(socket.starts_with(&format!("ws://{}/", host(&fleet.other))), "{socket}");
    assert!(socket.ends_with(&format!("?token={}", fleet.session.token())), "{socket}");
    let mut cdp = Cdp::connect(socket).await;
    let (_, session) = cdp.page("about:blank").await;
    assert_eq!(cdp.evaluate(Some(&session), "6 * 7").await, 42);
    let list = page(&elsewhere, "json/list").await;
    let target = list[0]["webSocketDebuggerUrl"].as_str().unwrap();
    let mut target = Cdp::connect(target).await;
    assert_eq!(target.evaluate(None, "6 * 7").await, 42);
    // At the root of the host the token alone names the session.
    let root =
        format!("http://{}/json/version?token={}", host(&fleet.other), fleet.session.token());
    let root: Value = reqwest::get(root).await.unwrap().json().await.unwrap();
    assert_eq!(root["Browser"], version["Browser"]);
    let protocol = page(&elsewhere, "json/protocol").await;
    assert!(protocol["domains"].as_array().unwrap().len() > 20);
    cdp.close().await;
    target.close().await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_megabytes_go_both_ways_and_closes_keep_their_codes() {
    let fleet = Fleet::start(|plan| plan).await;
    let mut cdp = Cdp::connect(&fleet.elsewhere()).await;
    let (_, page) = cdp.page("about:blank").await;
    let much = "x".repeat(20 << 20);
    let echoed = cdp.evaluate(Some(&page), &format!("'{much}'")).await;
    assert!(echoed == much.as_str(), "it came back whole");

    // A close that the client begins is answered by the agent that has the browser.
    let (mut socket, _) = tokio_tungstenite::connect_async(fleet.elsewhere()).await.unwrap();
    socket.send(Message::Binary(vec![1, 2].into())).await.unwrap();
    let closed = loop {
        if let Message::Close(frame) = socket.next().await.unwrap().unwrap() {
            break frame.unwrap();
        }
    };
    assert_eq!(u16::from(closed.code), 1003);

    fleet.control.api.release(fleet.session.id()).await;
    assert_eq!(cdp.closed(SOON).await, (1001, "released".to_owned()));
    let (status, problem) = refused(&fleet.elsewhere(), &[]).await;
    assert_eq!((status, problem["title"].as_str()), (410, Some("The session is over")));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_decides_and_nobody_can_pose_as_an_agent() {
    let fleet = Fleet::start(|plan| plan).await;
    let elsewhere = fleet.elsewhere();
    let (place, token) = elsewhere.split_once("?token=").unwrap();
    let (status, _) = refused(place, &[]).await;
    assert_eq!(status, 401);
    let (status, _) = refused(&format!("{place}?token={token}x"), &[]).await;
    assert_eq!(status, 401);
    // What a stranger says that another agent has found good, at both agents.
    let direct = fleet.session.connect_url().split_once('?').unwrap().0;
    for pass in [token, "01KAW3Y0R5M8T2N6Q4P1C7D9EF", "a.b.c"] {
        for place in [place, direct] {
            let (status, _) = refused(place, &[("ventus-forwarded", pass)]).await;
            assert_eq!(status, 401, "{pass}");
        }
    }
    // The good token does not help a bad pass, and alone it is enough.
    let (status, _) = refused(&elsewhere, &[("ventus-forwarded", "x")]).await;
    assert_eq!(status, 401);
    // A page of an unknown origin is refused at the agent that it comes to.
    let (status, _) = refused(&elsewhere, &[("origin", "https://evil.example")]).await;
    assert_eq!(status, 403);
    Cdp::connect(&elsewhere).await.close().await;
    // A page brings it as a protocol, and wants one of its protocols chosen.
    let mut request = place.into_client_request().unwrap();
    let offered = format!("ventus.cdp, ventus.token.{token}");
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, offered.parse().unwrap());
    let (mut socket, answer) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(answer.headers()[SEC_WEBSOCKET_PROTOCOL], "ventus.cdp");
    socket.close(None).await.unwrap();
    let logs = [fleet.other.log(), fleet.owner.log()].concat();
    assert!(!logs.contains(token), "no token in a log");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_owner_dies_the_client_hears_and_the_next_one_is_told_soon() {
    let fleet = Fleet::start(|plan| plan).await;
    let elsewhere = fleet.elsewhere();
    let mut cdp = Cdp::connect(&elsewhere).await;
    cdp.page("about:blank").await;
    let Fleet { control, owner, other, session } = fleet;
    let owner = owner.kill(GRACE).await;
    assert_eq!(cdp.closed(SOON).await.0, 1006);
    // Until its lease is over it may come back; then it is not of this region any more.
    let (status, problem) = refused(&elsewhere, &[]).await;
    assert_eq!(status, 503, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("cannot be reached"), "{problem}");
    control.api.wait_for(session.id(), "ERRORED", SOON).await;
    eventually("it is forgotten", SOON, || async {
        (refused(&elsewhere, &[]).await.0 == 404).then_some(())
    })
    .await;
    // Another run of it has another key, and what it forwards is known.
    let owner = owner.start().await;
    let mut sessions = Vec::new();
    for _ in 0..2 {
        sessions.push(control.api.create(json!({})).await);
    }
    for session in &sessions {
        let (from, to) = if session.connect_url().contains(&host(&owner)) {
            (&owner, &other)
        } else {
            (&other, &owner)
        };
        Cdp::connect(&moved(session.connect_url(), from, to)).await.close().await;
    }
    for session in sessions {
        control.api.release(session.id()).await;
    }
    owner.stop_process().await;
    other.stop_process().await;
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_another_region_takes_none_of_it() {
    let database = database().await;
    let hub = free_port();
    let control = control_plane(&database, hub).start().await;
    let near = agent_of(hub, 1).start().await;
    let far = agent_of(hub, 1).flag("region", "far").start().await;
    let session = control.api.create(json!({})).await;
    let (status, _) = refused(&moved(session.connect_url(), &near, &far), &[]).await;
    assert_eq!(status, 404);
    Cdp::connect(session.connect_url()).await.close().await;
    control.api.release(session.id()).await;
    near.stop_process().await;
    far.stop_process().await;
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_are_told_of_by_one_address_do_not_go_round_in_circles() {
    // Each is told to reach the others at an address that leads to the later one alone.
    let common = free_port();
    let database = database().await;
    let hub = free_port();
    let control = control_plane(&database, hub).start().await;
    let peer_url = format!("ws://127.0.0.1:{common}");
    let owner = agent_of(hub, 1).flag("peer-url", &peer_url).start().await;
    let session = control.api.create(json!({})).await;
    let other = agent_of(hub, 1).flag("peer-url", &peer_url).listen(common).start().await;
    let (status, problem) = refused(&moved(session.connect_url(), &owner, &other), &[]).await;
    assert_eq!(status, 503, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("wrong agent"), "{problem}");
    Cdp::connect(session.connect_url()).await.close().await;
    control.api.release(session.id()).await;
    owner.stop_process().await;
    other.stop_process().await;
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_told_to_stop_waits_for_what_it_forwards() {
    let fleet = Fleet::start(|plan| plan.env("VENTUS_DRAIN_SECONDS", 60)).await;
    let mut cdp = Cdp::connect(&fleet.elsewhere()).await;
    let (_, page) = cdp.page("about:blank").await;
    let Fleet { control, owner, other, session } = fleet;
    process::signal(other.pid().cast_signed(), Signal::TERM);
    eventually("it takes no session", SOON, || async {
        other.log().contains("to stop where it stands").then_some(())
    })
    .await;
    assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
    cdp.close().await;
    drop(other.ended(0, SOON).await);
    assert_eq!(control.api.session(session.id()).await.status(), "RUNNING");
    control.api.release(session.id()).await;
    owner.stop_process().await;
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_from_before_its_launch_moved_leads_to_where_it_runs() {
    let database = database().await;
    let hub = free_port();
    let control = control_plane(&database, hub).start().await;
    let agent = || agent_of(hub, 8).env("VENTUS_DRAIN_SECONDS", 60).start();
    let (one, other) = (agent().await, agent().await);
    // What runs on an agent keeps it there while it drains.
    let mut stay = Vec::new();
    for agent in [&one, &other] {
        let is_there = |session: &Session| session.connect_url().contains(&host(agent));
        while !stay.iter().any(is_there) {
            stay.push(control.api.create(json!({})).await);
        }
    }
    let begun = control.api.create_with("moves", "respond-async", &json!({})).await.session(201);
    let is_first = begun.connect_url().contains(&host(&one));
    let (first, second) = if is_first { (one, other) } else { (other, one) };
    process::signal(first.pid().cast_signed(), Signal::TERM);
    let mut cdp = Cdp::connect(begun.connect_url()).await;
    let (_, page) = cdp.page("about:blank").await;
    assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
    cdp.close().await;
    let now = control.api.session(begun.id()).await;
    assert!(now.connect_url().contains(&host(&second)), "{}", now.connect_url());
    // And again, by whichever agent it comes to.
    for url in [begun.connect_url(), &moved(begun.connect_url(), &first, &second)] {
        Cdp::connect(url).await.close().await;
    }
    control.api.release(begun.id()).await;
    assert_eq!(refused(begun.connect_url(), &[]).await.0, 410);
    for session in stay {
        control.api.release(session.id()).await;
    }
    drop(first.ended(0, SOON).await);
    second.stop_process().await;
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_an_agent_must_be_who_it_is_dialled_as() {
    let certificate = Certificate::new().await;
    let port = free_port();
    let front = Front::start(&certificate, &format!("http://127.0.0.1:{port}")).await;
    let database = database().await;
    let hub = free_port();
    let control = control_plane(&database, hub).start().await;
    let peer_url = front.url.replace("https://", "wss://");
    let owner = agent_of(hub, 1).listen(port).flag("peer-url", peer_url).start().await;
    let session = control.api.create(json!({})).await;
    let trusting = agent_of(hub, 1).env("SSL_CERT_FILE", certificate.certificate().display());
    let (trusting, other) = (trusting.start().await, agent_of(hub, 1).start().await);
    let (status, problem) = refused(&moved(session.connect_url(), &owner, &other), &[]).await;
    assert_eq!(status, 503, "{problem}");
    assert!(other.log().contains("another agent was not reached"), "TLS is why");
    let mut cdp = Cdp::connect(&moved(session.connect_url(), &owner, &trusting)).await;
    let (_, page) = cdp.page("about:blank").await;
    assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
    control.api.release(session.id()).await;
    assert_eq!(cdp.closed(SOON).await, (1001, "released".to_owned()));
    for agent in [owner, trusting, other] {
        agent.stop_process().await;
    }
    control.stop().await;
}
