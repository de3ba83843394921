//! The agent's end of the stream, against a hub that the test plays.

use proto::{
    agent::{captured::Outcome, from_agent::Message as Said, session_report},
    egress::Egress,
    id::SessionId,
};
use tokio::{task::JoinHandle, time::Instant};
use tonic::Status;

use super::{
    testing::{Stream, hub},
    *,
};
use crate::sessions::{
    Registry, State,
    testing::{Fakes, no_files, soon},
};

/// An agent without a data plane, and the hub that it dials.
struct Link {
    streams: mpsc::UnboundedReceiver<Stream>,
    registry: Arc<Registry>,
    warm: watch::Sender<u32>,
    stop: CancellationToken,
    agent: JoinHandle<Identity>,
    _data_dir: tempfile::TempDir,
}

impl Link {
    async fn start() -> Self {
        let (hub_url, streams) = hub().await;
        let data_dir = tempfile::tempdir().unwrap();
        let registry = Registry::new(4);
        let (sessions, reports) = Sessions::new(registry.clone(), Fakes::new(), no_files());
        let (lease, stop) = (Arc::new(Lease::default()), CancellationToken::new());
        tokio::spawn(lease.clone().guard(registry.clone(), stop.clone()));
        let (warm, _) = watch::channel(1);
        let control = Control {
            config: Arc::new(Config {
                data_dir: data_dir.path().to_owned(),
                region: "local".parse().unwrap(),
                capacity: 4,
                warm: 1,
                browser: "/nowhere".into(),
                hub_url,
                join_token: "secret".to_owned(),
                data_plane_url: "ws://127.0.0.1:1".to_owned(),
                no_sandbox: false,
                isolation: crate::browser::Strictness::BestEffort,
                egress: Egress::default(),
                own_ports: Vec::new(),
            }),
            identity: Identity::claim(data_dir.path()).unwrap(),
            browser_version: "Fake/1".to_owned(),
            isolation: Vec::new(),
            sessions: Arc::new(sessions),
            reports,
            verifier: Arc::new(Verifier::new()),
            warm: warm.subscribe(),
            lease,
            welcomed: watch::Sender::new(false),
        };
        let agent = tokio::spawn(control.run(stop.clone()));
        Self { streams, registry, warm, stop, agent, _data_dir: data_dir }
    }

    async fn stream(&mut self) -> Stream {
        soon(self.streams.recv()).await.unwrap()
    }

    /// A welcomed stream whose lease lasts for the test, and a session that runs.
    async fn with_session(&mut self) -> (Stream, SessionId) {
        let mut stream = self.stream().await;
        stream.hello().await;
        stream.welcome(30_000, 60_000);
        let id = stream.assign();
        assert_eq!(stream.said_running().await, id);
        (stream, id)
    }
}

#[tokio::test]
async fn an_agent_introduces_itself_and_asks_for_its_lease() {
    let mut link = Link::start().await;
    let mut stream = link.stream().await;
    let hello = stream.hello().await;
    assert_eq!(hello.protocol_version, proto::PROTOCOL_VERSION);
    assert_eq!((hello.region.as_str(), hello.capacity, hello.warm), ("local", 4, 1));
    assert_eq!(hello.join_token, "secret");
    assert!(hello.sessions.is_empty());
    stream.welcome(50, 10_000);
    let Some(Said::Heartbeat(first)) = stream.said().await else { panic!("no heartbeat") };
    assert_eq!(first.sequence, 1);
    // Without an answer the stream counts as dead, and the agent dials again.
    let mut again = link.stream().await;
    assert_eq!(again.hello().await.instance, hello.instance);
}

#[tokio::test]
async fn the_hub_hears_at_once_when_the_last_warm_browser_is_taken() {
    let mut link = Link::start().await;
    let mut stream = link.stream().await;
    stream.hello().await;
    stream.welcome(30_000, 60_000);
    link.warm.send_replace(0);
    let Some(Said::Heartbeat(heartbeat)) = stream.said().await else { panic!("no heartbeat") };
    assert_eq!(heartbeat.warm, 0);
}

#[tokio::test]
async fn a_broken_stream_leaves_sessions_alone_and_the_next_hello_tells_of_them() {
    let mut link = Link::start().await;
    let (stream, id) = link.with_session().await;
    drop(stream);
    let hello = link.stream().await.hello().await;
    assert_eq!(hello.sessions.len(), 1);
    assert_eq!(hello.sessions[0].session_id, id.to_string());
    assert_eq!(hello.sessions[0].state, Some(session_report::State::Running(true)));
    assert_eq!(link.registry.state(id), Some(State::Running));
}

#[tokio::test]
async fn an_end_is_repeated_until_it_is_acknowledged_also_in_the_next_hello() {
    let mut link = Link::start().await;
    let (mut stream, id) = link.with_session().await;
    stream.release(id, "released");
    assert_eq!(stream.said_ended().await, (id, "released".to_owned()));
    assert_eq!(stream.said_ended().await, (id, "released".to_owned()));
    drop(stream);
    let mut stream = link.stream().await;
    let hello = stream.hello().await;
    let Some(session_report::State::Ended(ended)) = &hello.sessions[0].state else {
        panic!("{:?}", hello.sessions)
    };
    assert_eq!(ended.reason, "released");
    stream.welcome(30_000, 60_000);
    stream.acknowledge(id);
    soon(link.registry.settled()).await;
}

#[tokio::test]
async fn the_release_of_an_unknown_session_is_answered() {
    let mut link = Link::start().await;
    let mut stream = link.stream().await;
    stream.hello().await;
    stream.welcome(30_000, 60_000);
    let id = SessionId::generate();
    stream.release(id, "deadline");
    assert_eq!(stream.said_ended().await, (id, "deadline".to_owned()));
}

#[tokio::test]
async fn a_deadline_is_moved_and_a_state_is_read_when_the_hub_asks() {
    let mut link = Link::start().await;
    let (mut stream, id) = link.with_session().await;
    stream.capture("one", id);
    let captured = stream.said_captured().await;
    assert_eq!((captured.capture_id.as_str(), captured.session_id), ("one", id.to_string()));
    let nothing = br#"{"cookies":[],"origins":[]}"#.to_vec();
    assert_eq!(captured.outcome, Some(Outcome::StorageState(nothing)));
    stream.adjust_to_now(id);
    assert_eq!(stream.said_ended().await, (id, "deadline".to_owned()));
    stream.capture("two", id);
    loop {
        match stream.news().await {
            Some(Said::Captured(captured)) => {
                assert_eq!(captured.capture_id, "two");
                let error = "the session does not run here".to_owned();
                assert_eq!(captured.outcome, Some(Outcome::Error(error)));
                break;
            }
            Some(Said::Ended(_)) => {} // repeated until it is acknowledged
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_file_order_is_answered_whatever_comes_of_it() {
    let mut link = Link::start().await;
    let (mut stream, id) = link.with_session().await;
    for (id, remove, error) in [
        (id, true, ""),
        (id, false, "the agent cannot get it"), // nobody listens where it looks
        (SessionId::generate(), true, "the session does not run here"),
    ] {
        stream.file(id, "a.txt", 1, remove);
        let placed = stream.said_placed().await;
        assert_eq!((placed.order_id.as_str(), placed.session_id), ("order", id.to_string()));
        assert!(
            placed.error.starts_with(error) && placed.error.is_empty() == error.is_empty(),
            "{}",
            placed.error
        );
    }
}

#[tokio::test]
async fn without_a_word_from_the_hub_sessions_end_before_the_lease_does() {
    let mut link = Link::start().await;
    let mut stream = link.stream().await;
    stream.hello().await;
    let welcomed = Instant::now();
    stream.welcome(30_000, 2_500);
    let id = stream.assign();
    assert_eq!(stream.said_running().await, id);
    assert_eq!(stream.said_ended().await, (id, "agent_lost".to_owned()));
    assert!(welcomed.elapsed() < Duration::from_millis(2_500));
    // Nothing is started without a lease.
    let refused = stream.assign();
    stream.release(refused, "released");
    loop {
        let (ended, reason) = stream.said_ended().await;
        if ended == refused {
            assert_eq!(reason, "released");
            break;
        }
    }
}

#[tokio::test]
async fn a_stopping_agent_reports_its_sessions_then_leaves() {
    let mut link = Link::start().await;
    let (mut stream, id) = link.with_session().await;
    link.stop.cancel();
    assert_eq!(stream.said_ended().await, (id, "agent_lost".to_owned()));
    assert!(!link.agent.is_finished(), "it waits for the acknowledgement");
    stream.acknowledge(id);
    while let Some(repeated) = stream.said().await {
        assert!(matches!(repeated, Said::Ended(_) | Said::Usage(_)), "{repeated:?}");
    }
    drop(stream);
    soon(link.agent).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_was_refused_tries_again() {
    let mut link = Link::start().await;
    for _ in 0..2 {
        let mut stream = link.stream().await;
        stream.hello().await;
        stream.out.try_send(Err(Status::already_exists("another one is here"))).unwrap();
    }
    link.stop.cancel();
    soon(link.agent).await.unwrap();
}
