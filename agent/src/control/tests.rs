//! The agent's end of the stream, against a hub that the test plays.

use futures_util::FutureExt;
use proto::{
    agent::{
        Lease as Granted, Recorded, captured::Outcome, from_agent::Message as Said,
        from_hub::Message, session_report,
    },
    egress::Egress,
    id::SessionId,
};
use tokio::{task::JoinHandle, time::Instant};
use tonic::{Code, Status};

use super::{
    testing::{Stream, hub},
    *,
};
use crate::sessions::{
    Phase, Registry, State,
    testing::{Fakes, no_hub, soon},
};
use crate::{config::HubTls, limits::Limits};

const POD: &str = "shop-agents-7d9f8-x2x4z/0b0e4a0e-6b5c-4f6e-9b5e-0a4d5f3a2c1b";

/// An agent without a data plane, and the hub that it dials.
struct Link {
    streams: mpsc::UnboundedReceiver<Stream>,
    registry: Arc<Registry>,
    warm: watch::Sender<u32>,
    drain: Arc<Drain>,
    stop: CancellationToken,
    agent: JoinHandle<Identity>,
    _data_dir: tempfile::TempDir,
}

impl Link {
    async fn start() -> Self {
        let (hub_url, streams) = hub().await;
        Self::to(vec![hub_url], streams)
    }

    /// One whose browsers do not come up.
    async fn without_browsers() -> Self {
        let (hub_url, streams) = hub().await;
        Self::with(Fakes::with_permits(0), vec![hub_url], streams)
    }

    /// Dials these addresses in turn; the streams are those of the last of them.
    fn to(hub_urls: Vec<String>, streams: mpsc::UnboundedReceiver<Stream>) -> Self {
        Self::with(Fakes::new(), hub_urls, streams)
    }

    fn with(
        browsers: Arc<Fakes>,
        hub_urls: Vec<String>,
        streams: mpsc::UnboundedReceiver<Stream>,
    ) -> Self {
        let addresses = hub_urls.iter().map(|url| url.parse().unwrap()).collect();
        let data_dir = tempfile::tempdir().unwrap();
        let registry = Registry::new(4);
        let (sessions, reports) = Sessions::new(registry.clone(), browsers, no_hub());
        let (lease, stop) = (Arc::new(Lease::default()), CancellationToken::new());
        tokio::spawn(lease.clone().guard(registry.clone(), stop.clone()));
        let (warm, _) = watch::channel(1);
        let drain = Arc::<Drain>::default();
        let identity = Identity::claim(data_dir.path()).unwrap();
        let clock = Arc::new(Clock::new());
        let forwarder =
            Forwarder::new(identity.agent, clock.clone(), Default::default(), stop.clone());
        let forwarder = forwarder.unwrap();
        let control = Control {
            dialer: Arc::new(Dialer::new(addresses, HubTls::default()).unwrap()),
            config: Arc::new(Config {
                data_dir: data_dir.path().to_owned(),
                region: "local".parse().unwrap(),
                capacity: 4,
                warm: 1,
                browser: "/nowhere".into(),
                hub_urls,
                hub_tls: HubTls::default(),
                join_token: "secret".to_owned(),
                data_plane_url: "ws://127.0.0.1:1".to_owned(),
                peer_url: None,
                pod: Some(POD.parse().unwrap()),
                no_sandbox: false,
                isolation: crate::browser::Strictness::BestEffort,
                egress: Egress::default(),
                own_ports: Vec::new(),
                limits: Limits::default(),
                allowed_origins: Vec::new(),
            }),
            identity,
            browser_version: "Fake/1".to_owned(),
            isolation: Vec::new(),
            sessions: Arc::new(sessions),
            reports,
            verifier: Arc::new(Verifier::new(clock.clone())),
            warm: warm.subscribe(),
            lease,
            clock,
            drain: drain.clone(),
            forwarder: Arc::new(forwarder),
            welcomed: watch::Sender::new(false),
        };
        let agent = tokio::spawn(control.run(stop.clone()));
        Self { streams, registry, warm, drain, stop, agent, _data_dir: data_dir }
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
    assert_eq!((hello.join_token.as_str(), hello.pod.as_str()), ("secret", POD));
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
    assert_eq!(stream.said_ending().await, (id, "deadline".to_owned()));
    stream.release(id, "deadline");
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
async fn while_the_hubs_database_is_away_what_is_known_to_run_goes_on() {
    let mut link = Link::start().await;
    let mut stream = link.stream().await;
    stream.hello().await;
    stream.welcome(300, 3_000);
    let renewed = Instant::now();
    let known = stream.assign();
    assert_eq!(stream.said_running().await, known);
    stream.say(Message::Recorded(Recorded { session_ids: vec![known.to_string()] }));
    let unknown = stream.assign();
    assert_eq!(stream.said_running().await, unknown);
    let held =
        |sequence| Message::Lease(Granted { sequence, held_ms: 6_000, ..Granted::default() });
    // While there is time it asks another hub, which has no other answer.
    while let Some(said) = stream.said().await {
        match said {
            Said::Heartbeat(heartbeat) => stream.say(held(heartbeat.sequence)),
            said => assert!(matches!(said, Said::Usage(_)), "{said:?}"),
        }
    }
    let registry = link.registry.clone();
    let is_over = |id| matches!(registry.state(id), Some(State::Ended(_)));
    while !is_over(unknown) {
        let stream = soon(link.streams.recv()).await.unwrap();
        stream.refuse_as_held("6000");
    }
    assert!(renewed.elapsed() < Duration::from_secs(3), "before another agent may launch it");
    assert!(!is_over(known));
    // It is back, and has judged nothing.
    let mut stream = link.stream().await;
    let reports = stream.hello().await.sessions;
    let report = reports.iter().find(|report| report.session_id == known.to_string()).unwrap();
    assert_eq!(report.state, Some(session_report::State::Running(true)));
    stream.welcome(30_000, 60_000);
    stream.acknowledge(unknown);
    let next = stream.assign();
    while !matches!(link.registry.state(next), Some(State::Running)) {
        tokio::task::yield_now().await;
    }
    assert!(!is_over(known));
}

#[tokio::test]
async fn who_was_declared_lost_ends_its_sessions_before_it_comes_back() {
    let mut link = Link::start().await;
    let (stream, id) = link.with_session().await;
    stream.refuse(Code::Aborted);
    let mut next = link.stream().await;
    let reports = next.hello().await.sessions;
    assert_eq!(reports[0].session_id, id.to_string());
    let Some(session_report::State::Ended(ended)) = &reports[0].state else {
        panic!("{reports:?}")
    };
    assert_eq!(ended.reason, "agent_lost");
}

#[tokio::test]
async fn who_has_lost_the_lease_comes_back_when_no_slot_is_taken() {
    let mut link = Link::without_browsers().await;
    let mut stream = link.stream().await;
    stream.hello().await;
    stream.welcome(30_000, 2_200);
    let id = stream.assign();
    while link.registry.watch(id).is_none() {
        tokio::task::yield_now().await;
    }
    let mut phase = link.registry.watch(id).unwrap();
    soon(phase.wait_for(|phase| matches!(phase, Phase::Over(_)))).await.unwrap();
    // Its launch is given some time to come to an end, and has its slot meanwhile.
    assert!(link.registry.vacated().now_or_never().is_none());
    drop(stream);
    link.stream().await;
    assert!(link.registry.vacated().now_or_never().is_some());
}

#[tokio::test]
async fn a_stopping_agent_reports_its_sessions_then_leaves() {
    let mut link = Link::start().await;
    let (mut stream, id) = link.with_session().await;
    link.stop.cancel();
    assert_eq!(stream.said_ending().await, (id, "agent_drained".to_owned()));
    stream.release(id, "agent_drained");
    assert_eq!(stream.said_ended().await, (id, "agent_drained".to_owned()));
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

#[tokio::test]
async fn an_agent_that_is_to_stop_says_so_on_every_stream() {
    let mut link = Link::start().await;
    let (mut stream, id) = link.with_session().await;
    link.drain.leave(Duration::from_secs(60));
    let Some(Said::Draining(draining)) = stream.news().await else { panic!("not draining") };
    assert!((50..=60).contains(&draining.deadline_seconds), "{draining:?}");
    drop(stream);
    let mut stream = link.stream().await;
    stream.hello().await;
    stream.welcome(30_000, 60_000);
    assert!(matches!(stream.news().await, Some(Said::Draining(_))));
    assert_eq!(link.registry.state(id), Some(State::Running));
}

#[tokio::test]
async fn the_next_address_is_dialled_when_one_does_not_answer() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (hub_url, streams) = hub().await;
    // It takes connections, and never says anything.
    let silent = format!("http://{}", nobody.local_addr().unwrap());
    let mut link = Link::to(vec!["http://127.0.0.1:1".to_owned(), silent, hub_url], streams);
    let mut stream = link.stream().await;
    stream.hello().await;
    stream.welcome(50, 10_000);
    // Neither answers its heartbeats: it goes round, and comes back.
    link.stream().await.hello().await;
}

#[tokio::test]
async fn a_refused_agent_keeps_asking() {
    let mut link = Link::start().await;
    for _ in 0..3 {
        let mut stream = link.stream().await;
        stream.hello().await;
        let refusal = Status::unauthenticated("the join token was revoked");
        stream.out.try_send(Err(refusal)).unwrap();
    }
    let mut stream = link.stream().await;
    stream.hello().await;
    stream.welcome(30_000, 60_000);
    let id = stream.assign();
    assert_eq!(stream.said_running().await, id);
}

#[tokio::test]
async fn a_hub_may_be_one_version_ahead_and_no_more() {
    let mut link = Link::start().await;
    let own = proto::PROTOCOL_VERSION;
    // The first version said none.
    for version in [own + 2, own - 2] {
        let mut stream = link.stream().await;
        stream.hello().await;
        stream.welcome_of_version(version);
    }
    let mut stream = link.stream().await;
    stream.hello().await;
    stream.welcome_of_version(own + 1);
    stream.say(Message::Lease(Granted { valid_ms: 60_000, ..Granted::default() }));
    let id = stream.assign();
    assert_eq!(stream.said_running().await, id);
}
