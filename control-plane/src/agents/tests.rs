//! The hub against an agent that the test plays, over a real connection.

mod actions;
mod captures;
mod denials;
mod files;
mod inputs;

use std::{net::SocketAddr, time::Duration};

use proto::{
    agent::{
        Adjust, Assign, Capture, Ended, FromAgent, FromHub, Heartbeat, Hello, Layer, Release,
        Running, SessionReport, SessionUsage, Usage, from_agent::Message as Said,
        from_hub::Message, hub_client::HubClient, hub_server::HubServer, session_report,
    },
    id::{AgentId, InstanceId, SessionId},
    session::{EndReason, SessionStatus},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use super::*;
use crate::{
    signing,
    testing::{PATIENCE, TestApp, id_of, on_both_databases, until},
};

/// A hub that listens.
struct Listening {
    address: SocketAddr,
    stop: CancellationToken,
}

async fn listen(app: &TestApp) -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let service = HubServer::new(Service::new(app.app.clone(), stop.clone()));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    Listening { address, stop }
}

/// An agent in region `local` that the test plays.
struct Agent {
    id: AgentId,
    epoch: u64,
    out: mpsc::Sender<FromAgent>,
    inbound: Streaming<FromHub>,
}

fn hello(id: AgentId) -> Hello {
    Hello {
        protocol_version: proto::PROTOCOL_VERSION,
        agent_id: id.to_string(),
        instance: InstanceId::generate().to_string(),
        join_token: "join".to_owned(),
        region: "local".to_owned(),
        capacity: 2,
        warm: 1,
        data_plane_url: "ws://agent.test".to_owned(),
        browser_version: "Chromium/1".to_owned(),
        sessions: Vec::new(),
        isolation: Vec::new(),
    }
}

fn report(id: SessionId, state: session_report::State) -> SessionReport {
    SessionReport { session_id: id.to_string(), state: Some(state) }
}

impl Agent {
    async fn attach(hub: &Listening, hello: &Hello) -> Result<Self, Status> {
        let mut client = HubClient::connect(format!("http://{}", hub.address)).await.unwrap();
        let (out, outgoing) = mpsc::channel(64);
        let id = hello.agent_id.parse().unwrap_or_else(|_| AgentId::generate());
        out.try_send(FromAgent { message: Some(Said::Hello(hello.clone())) }).unwrap();
        let inbound = client.attach(ReceiverStream::new(outgoing)).await?.into_inner();
        let mut agent = Self { id, epoch: 0, out, inbound };
        match agent.hear().await? {
            Message::Welcome(welcome) => agent.epoch = welcome.epoch,
            other => panic!("no welcome but {other:?}"),
        }
        match agent.hear().await? {
            Message::Lease(lease) => assert_eq!((lease.sequence, lease.valid_ms), (0, 10_000)),
            other => panic!("no lease but {other:?}"),
        }
        Ok(agent)
    }

    async fn hear(&mut self) -> Result<Message, Status> {
        let heard = timeout(PATIENCE, self.inbound.message()).await.expect("the hub is silent");
        Ok(heard?.expect("the hub closed the stream").message.unwrap())
    }

    /// The next message that is no repetition of an assignment.
    async fn hear_release(&mut self) -> Release {
        loop {
            match self.hear().await.unwrap() {
                Message::Assign(_) => (),
                Message::Release(release) => return release,
                other => panic!("no release but {other:?}"),
            }
        }
    }

    async fn hear_assign(&mut self) -> SessionId {
        match self.hear().await.unwrap() {
            Message::Assign(assign) => assign.session_id.parse().unwrap(),
            other => panic!("no assignment but {other:?}"),
        }
    }

    /// The next assignment, with all that it says.
    async fn hear_whole_assign(&mut self) -> Assign {
        match self.hear().await.unwrap() {
            Message::Assign(assign) => assign,
            other => panic!("no assignment but {other:?}"),
        }
    }

    /// The next message that is no repetition of an assignment.
    async fn hear_adjust(&mut self) -> Adjust {
        loop {
            match self.hear().await.unwrap() {
                Message::Assign(_) => (),
                Message::Adjust(adjust) => return adjust,
                other => panic!("no adjustment but {other:?}"),
            }
        }
    }

    async fn hear_capture(&mut self) -> Capture {
        loop {
            match self.hear().await.unwrap() {
                Message::Assign(_) => (),
                Message::Capture(capture) => return capture,
                other => panic!("no capture but {other:?}"),
            }
        }
    }

    async fn hear_acknowledge(&mut self) -> SessionId {
        loop {
            match self.hear().await.unwrap() {
                // The hub's look at the database may have been faster.
                Message::Assign(_) | Message::Release(_) => (),
                Message::Acknowledge(acknowledge) => {
                    return acknowledge.session_id.parse().unwrap();
                }
                other => panic!("no acknowledgement but {other:?}"),
            }
        }
    }

    /// Waits until the hub ends the stream with this code.
    async fn hear_end(&mut self) -> Code {
        loop {
            if let Err(status) = self.hear().await {
                return status.code();
            }
        }
    }

    fn say(&self, message: Said) {
        self.out.try_send(FromAgent { message: Some(message) }).unwrap();
    }

    /// Ends the agent's side, and waits until the hub has taken in all that was said.
    async fn leave(mut self) {
        drop(self.out);
        while let Ok(Some(_)) = timeout(PATIENCE, self.inbound.message()).await.expect("no end") {}
    }

    fn running(&self, id: SessionId) {
        self.say(Said::Running(Running { session_id: id.to_string() }));
    }

    fn ended(&self, id: SessionId, reason: EndReason) {
        self.say(Said::Ended(ended(id, reason)));
    }
}

async fn refused(hub: &Listening, hello: Hello) -> Option<Code> {
    Agent::attach(hub, &hello).await.err().map(|status| status.code())
}

fn ended(id: SessionId, reason: EndReason) -> Ended {
    Ended { session_id: id.to_string(), reason: reason.to_string(), detail: String::new() }
}

/// Records a session and answers at once.
async fn provision(app: &TestApp, key: &str) -> SessionId {
    let created = app.create(key).header("prefer", "respond-async").json(&json!({})).send().await;
    id_of(&created.expect(201))
}

async fn becomes(app: &TestApp, id: SessionId, status: SessionStatus) {
    until(|| async { app.session(id).await.status == status }).await;
}

/// A session on this agent, as far as RUNNING.
async fn run_session(app: &TestApp, agent: &mut Agent, key: &str) -> SessionId {
    let id = provision(app, key).await;
    while agent.hear_assign().await != id {} // an earlier one may have been repeated
    agent.running(id);
    becomes(app, id, SessionStatus::Running).await;
    id
}

async fn regions(app: &TestApp) -> Value {
    app.get("/v1/regions").send().await.expect(200)["items"][0].clone()
}

on_both_databases! {
    async fn only_an_agent_that_fits_is_let_in(app: TestApp) {
        let hub = listen(&app).await;
        let good = hello(AgentId::generate());
        let wrong = Hello { join_token: "wrong".to_owned(), ..good.clone() };
        assert_eq!(refused(&hub, wrong).await, Some(Code::Unauthenticated));
        for wrong in [
            Hello { protocol_version: proto::PROTOCOL_VERSION + 1, ..good.clone() },
            Hello { region: "Not A Region".to_owned(), ..good.clone() },
            Hello { agent_id: "1".to_owned(), ..good.clone() },
            Hello { capacity: 0, ..good.clone() },
            Hello { data_plane_url: "http://agent.test".to_owned(), ..good.clone() },
        ] {
            assert_eq!(refused(&hub, wrong).await, Some(Code::FailedPrecondition));
        }
        assert_eq!(app.count("SELECT COUNT(*) FROM agents").await, 0);
        assert_eq!(refused(&hub, good).await, None);
    }

    async fn a_heartbeat_is_answered_with_the_lease_and_keeps_the_agent(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        assert_eq!(agent.epoch, 1);
        app.sql("UPDATE agents SET lease_expires_us = lease_expires_us - 9000000", &[]).await;
        let before = app.count("SELECT lease_expires_us FROM agents").await;
        agent.say(Said::Heartbeat(Heartbeat { sequence: 7, warm: 2 }));
        match agent.hear().await.unwrap() {
            Message::Lease(lease) => assert_eq!(lease.sequence, 7),
            other => panic!("no lease but {other:?}"),
        }
        assert!(app.count("SELECT lease_expires_us FROM agents").await > before + 8_000_000);
        let region = regions(&app).await;
        assert_eq!((&region["capacity"], &region["warm"]), (&json!(2), &json!(2)));
    }

    async fn a_region_shows_what_isolates_its_browsers(app: TestApp) {
        let layer = |name: &str, active: bool, detail: &str| {
            Layer { name: name.to_owned(), active, detail: detail.to_owned() }
        };
        let hub = listen(&app).await;
        assert_eq!(regions(&app).await["isolation"], json!({ "active": [], "missing": [] }));
        let isolation = vec![layer("user", true, ""), layer("landlock", true, "")];
        let one = Hello { isolation, ..hello(AgentId::generate()) };
        let _one = Agent::attach(&hub, &one).await.unwrap();
        let active = json!({ "active": ["user", "landlock"], "missing": [] });
        assert_eq!(regions(&app).await["isolation"], active);
        let isolation = vec![layer("user", true, ""), layer("landlock", false, "too old")];
        let other = Hello { isolation, ..hello(AgentId::generate()) };
        let _other = Agent::attach(&hub, &other).await.unwrap();
        let missing = json!([{ "name": "landlock", "detail": "too old" }]);
        let both = json!({ "active": ["user"], "missing": missing });
        assert_eq!(regions(&app).await["isolation"], both);
        let isolation = vec![layer(&"n".repeat(100), true, "")];
        let wrong = Hello { isolation, ..hello(AgentId::generate()) };
        assert_eq!(refused(&hub, wrong).await, Some(Code::FailedPrecondition));
        app.sql("UPDATE agents SET lease_expires_us = 0", &[]).await;
        assert_eq!(regions(&app).await["isolation"]["active"], json!([]), "only of the living");
    }

    async fn a_session_goes_through_its_life_on_the_stream(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let creating = tokio::spawn(app.create("one").json(&json!({})).send());
        let id = agent.hear_assign().await;
        agent.running(id);
        let created = creating.await.unwrap().expect(201);
        assert_eq!((&created["status"], id_of(&created)), (&json!("RUNNING"), id));
        let url = created["connect_url"].as_str().unwrap();
        assert!(url.starts_with(&format!("ws://agent.test/v1/sessions/{id}/cdp?token=")));

        let usage = SessionUsage {
            session_id: id.to_string(),
            last_seen_ms: 1_700_000_000_000,
            cdp_messages: 5,
            bytes_in: 100,
            bytes_out: 200,
            egress_bytes: 0,
        };
        agent.say(Said::Usage(Usage { sessions: vec![usage] }));
        app.call(http::Method::DELETE, &format!("/v1/sessions/{id}")).send().await.expect(204);
        let release = agent.hear_release().await;
        assert_eq!((release.session_id, release.reason), (id.to_string(), "released".to_owned()));
        assert_eq!(regions(&app).await["in_use"], 1, "the browser is not gone yet");
        agent.ended(id, EndReason::Released);
        assert_eq!(agent.hear_acknowledge().await, id);
        let session = app.session(id).await;
        assert_eq!((session.status, session.slot_held), (SessionStatus::Completed, false));
        assert_eq!((session.cdp_messages, session.bytes_in, session.bytes_out), (5, 100, 200));
        assert_eq!(regions(&app).await["in_use"], 0);
    }

    async fn what_another_replica_wants_reaches_the_agent_soon(app: TestApp) {
        let hub = listen(&app).await;
        let other = app.another().await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = provision(&other, "one").await;
        assert_eq!(agent.hear_assign().await, id);
        // A report that got lost is asked for again.
        assert_eq!(agent.hear_assign().await, id);
        agent.running(id);
        becomes(&other, id, SessionStatus::Running).await;
        other.call(http::Method::DELETE, &format!("/v1/sessions/{id}")).send().await.expect(204);
        assert_eq!(agent.hear_release().await.session_id, id.to_string());
        assert_eq!(agent.hear_release().await.session_id, id.to_string(), "until it is done");
        agent.ended(id, EndReason::Released);
        assert_eq!(agent.hear_acknowledge().await, id);
        other.app.db.close().await;
    }

    async fn another_process_cannot_take_an_agent_id_that_is_in_use(app: TestApp) {
        let hub = listen(&app).await;
        let id = AgentId::generate();
        let mut first = Agent::attach(&hub, &hello(id)).await.unwrap();
        let refused = Agent::attach(&hub, &hello(id)).await.err().unwrap();
        assert_eq!(refused.code(), Code::AlreadyExists);
        first.say(Said::Heartbeat(Heartbeat { sequence: 1, warm: 0 }));
        assert!(matches!(first.hear().await, Ok(Message::Lease(_))), "the first is unharmed");
        // A lapsed lease does not protect it.
        app.sql("UPDATE agents SET lease_expires_us = 1", &[]).await;
        let second = Agent::attach(&hub, &hello(id)).await.unwrap();
        assert_eq!(second.epoch, 2);
        assert_eq!(first.hear_end().await, Code::Aborted);
    }

    async fn a_new_run_of_an_agent_takes_over_and_starts_again_what_no_client_has_seen(app: TestApp) {
        let hub = listen(&app).await;
        let id = AgentId::generate();
        let mut first = Agent::attach(&hub, &hello(id)).await.unwrap();
        let ran = run_session(&app, &mut first, "ran").await;
        let launching = provision(&app, "launching").await;
        while first.hear_assign().await != launching {}
        drop(first); // as by kill -9
        until(|| async { app.count("SELECT connected_us FROM agents").await == 0 }).await;

        let mut second = Agent::attach(&hub, &hello(id)).await.unwrap();
        assert_eq!(second.epoch, 2);
        assert_eq!(second.hear_assign().await, launching);
        becomes(&app, ran, SessionStatus::Errored).await;
        let lost = app.session(ran).await;
        assert_eq!(lost.reason.unwrap().code, EndReason::AgentLost);
        assert!(!lost.slot_held);
        second.running(launching);
        becomes(&app, launching, SessionStatus::Running).await;
    }

    async fn a_reconnect_leaves_sessions_alone_and_ends_the_older_stream(app: TestApp) {
        let hub = listen(&app).await;
        let hello = hello(AgentId::generate());
        let mut older = Agent::attach(&hub, &hello).await.unwrap();
        let id = run_session(&app, &mut older, "one").await;
        let sessions = vec![report(id, session_report::State::Running(true))];
        let mut newer = Agent::attach(&hub, &Hello { sessions, ..hello }).await.unwrap();
        assert_eq!(older.hear_end().await, Code::Aborted);
        drop(older);
        newer.say(Said::Heartbeat(Heartbeat { sequence: 1, warm: 0 }));
        assert!(matches!(newer.hear().await, Ok(Message::Lease(_))));
        assert_eq!(app.session(id).await.status, SessionStatus::Running);
    }

    async fn a_hello_settles_what_happened_while_there_was_no_stream(app: TestApp) {
        let hub = listen(&app).await;
        let hello = Hello { capacity: 4, ..hello(AgentId::generate()) };
        let mut agent = Agent::attach(&hub, &hello).await.unwrap();
        let crashed = run_session(&app, &mut agent, "crashed").await;
        let released = run_session(&app, &mut agent, "released").await;
        let started = provision(&app, "started").await;
        drop(agent);
        until(|| async { app.count("SELECT connected_us FROM agents").await == 0 }).await;
        let path = format!("/v1/sessions/{released}");
        app.call(http::Method::DELETE, &path).send().await.expect(204);
        let unknown = SessionId::generate();
        let sessions = vec![
            report(crashed, session_report::State::Ended(ended(crashed, EndReason::BrowserCrashed))),
            report(released, session_report::State::Running(true)),
            report(started, session_report::State::Running(true)),
            report(unknown, session_report::State::Launching(true)),
        ];
        let mut agent = Agent::attach(&hub, &Hello { sessions, ..hello }).await.unwrap();
        assert_eq!(agent.hear_acknowledge().await, crashed);
        assert_eq!(agent.hear_release().await.session_id, released.to_string());
        assert_eq!(agent.hear_release().await.session_id, unknown.to_string());
        becomes(&app, started, SessionStatus::Running).await;
        let session = app.session(crashed).await;
        assert_eq!(session.reason.unwrap().code, EndReason::BrowserCrashed);
    }

    async fn a_lapsed_agent_is_lost_and_has_to_start_over(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        lost::declare(&app.app, agent.id).await.unwrap();
        assert_eq!(app.session(id).await.status, SessionStatus::Running, "its lease is live");

        app.sql("UPDATE agents SET lease_expires_us = 1", &[]).await;
        let looking = tokio::spawn(lost::run(app.app.clone(), hub.stop.clone()));
        becomes(&app, id, SessionStatus::Errored).await;
        assert_eq!(app.session(id).await.reason.unwrap().code, EndReason::AgentLost);
        assert_eq!(regions(&app).await["status"], "offline");
        agent.say(Said::Heartbeat(Heartbeat { sequence: 1, warm: 0 }));
        assert_eq!(agent.hear_end().await, Code::Aborted);
        hub.stop.cancel();
        looking.await.unwrap();
    }

    async fn an_agent_that_comes_back_after_its_lease_lapsed_has_lost_its_sessions(app: TestApp) {
        let hub = listen(&app).await;
        let hello = hello(AgentId::generate());
        let mut agent = Agent::attach(&hub, &hello).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        app.sql("UPDATE agents SET lease_expires_us = 1", &[]).await;
        let sessions = vec![report(id, session_report::State::Running(true))];
        let mut agent = Agent::attach(&hub, &Hello { sessions, ..hello }).await.unwrap();
        assert_eq!(agent.hear_release().await.session_id, id.to_string());
        let session = app.session(id).await;
        assert_eq!(session.reason.unwrap().code, EndReason::AgentLost);
        assert!(!session.slot_held);
    }

    async fn nothing_is_placed_on_an_agent_without_a_stream(app: TestApp) {
        let hub = listen(&app).await;
        let hello = hello(AgentId::generate());
        let mut agent = Agent::attach(&hub, &hello).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        drop(agent);
        until(|| async { app.count("SELECT connected_us FROM agents").await == 0 }).await;
        assert!(app.count("SELECT lease_expires_us FROM agents").await > 1, "the lease stays");
        assert_eq!(app.session(id).await.status, SessionStatus::Running);
        let full = app.create("two").header("prefer", "wait=0").json(&json!({})).send().await;
        full.problem(503, "insufficient-capacity");
    }

    async fn an_agent_that_closes_its_stream_without_sessions_has_left(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        agent.ended(id, EndReason::AgentLost);
        assert_eq!(agent.hear_acknowledge().await, id);
        let Agent { out, mut inbound, .. } = agent;
        drop(out);
        while timeout(PATIENCE, inbound.message()).await.unwrap().is_ok_and(|heard| heard.is_some()) {}
        until(|| async { regions(&app).await["status"] == "offline" }).await;
    }

    async fn a_stopping_hub_sends_its_agents_elsewhere(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        hub.stop.cancel();
        assert_eq!(agent.hear_end().await, Code::Unavailable);
        let refused = Agent::attach(&hub, &hello(AgentId::generate())).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unavailable);
    }

    async fn an_older_stream_can_neither_renew_nor_end_the_lease(app: TestApp) {
        let hub = listen(&app).await;
        let hello = hello(AgentId::generate());
        let older = Agent::attach(&hub, &hello).await.unwrap();
        let newer = Agent::attach(&hub, &hello).await.unwrap();
        let mut tx = app.tx().await;
        assert!(!store::renew(&mut tx, older.id, older.epoch, 0).await.unwrap());
        assert!(!store::left(&mut tx, older.id, older.epoch).await.unwrap());
        store::disconnected(&mut tx, older.id, older.epoch).await.unwrap();
        assert!(store::renew(&mut tx, newer.id, newer.epoch, 0).await.unwrap());
        let region = "local".parse().unwrap();
        let room = store::lock_with_room(&mut tx, &region).await.unwrap();
        assert_eq!(room.len(), 1, "it still counts as connected");
    }

    async fn room_is_never_given_twice(app: TestApp) {
        for _ in 0..3 {
            app.agent("local", 4).await;
        }
        let mut creates = Vec::new();
        for n in 0..30 {
            let create = app.create(&n.to_string());
            let create = create.header("prefer", "respond-async, wait=0").json(&json!({}));
            creates.push(tokio::spawn(create.send()));
        }
        let mut created = 0;
        for create in creates {
            match create.await.unwrap().status {
                201 => created += 1,
                status => assert_eq!(status, 503),
            }
        }
        assert_eq!(created, 12);
        let fullest = "SELECT MAX(n) FROM (SELECT COUNT(*) AS n FROM sessions \
                       WHERE slot_held = 1 GROUP BY agent_id) AS counts";
        assert_eq!(app.count(fullest).await, 4);
    }

    async fn agents_hear_of_new_keys_at_once(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        signing::rotate(&app.app.db, &app.app.secrets).await.unwrap();
        signing::refresh_once(&app.app).await.unwrap();
        let Message::SigningKeys(keys) = agent.hear().await.unwrap() else { panic!("no keys") };
        let keys: Value = serde_json::from_str(&keys.jwks).unwrap();
        assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn an_agent_gets_three_chances_to_renew() {
    assert!(HEARTBEAT * 3 < LEASE);
    assert!(LEASE <= Duration::from_secs(10));
}
