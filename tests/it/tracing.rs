//! A session seen from outside: its trace, and its lines in the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use harness::{
    Api, PATIENCE, Server,
    api::{Answer, Session},
    authority::Authority,
    cdp::Cdp,
    collector::{Span, StandInCollector, sending_to},
    eventually,
    fleet::{agent, control_plane, database, free_port},
};
use http::Method;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};
use ulid::Ulid;

/// What a caller that takes part in a trace sends.
struct Caller {
    trace_id: String,
    span_id: String,
}

impl Caller {
    fn new() -> Self {
        let trace_id = format!("{:032x}", u128::from(Ulid::generate()));
        Self { span_id: trace_id[16..].to_owned(), trace_id }
    }

    fn traceparent(&self, flags: &str) -> String {
        format!("00-{}-{}-{flags}", self.trace_id, self.span_id)
    }

    async fn create(&self, api: &Api, flags: &str, body: Value) -> Answer {
        let headers = [
            ("idempotency-key", &*Ulid::generate().to_string()),
            ("prefer", "wait=60"),
            ("traceparent", &self.traceparent(flags)),
        ];
        api.send(Method::POST, "/v1/sessions", &headers, Some(&body)).await
    }
}

/// Waits until spans of these names have arrived, and shows the trace as a tree: the names of a
/// span and of its parent.
async fn tree(
    collector: &StandInCollector,
    caller: &Caller,
    last: &[&str],
) -> (Vec<Span>, BTreeSet<(String, String)>) {
    let spans = eventually("the spans arrive", PATIENCE, || async {
        let spans = collector.trace(&caller.trace_id);
        last.iter().all(|name| spans.iter().any(|span| span.name == *name)).then_some(spans)
    })
    .await;
    let names: BTreeMap<_, _> = spans.iter().map(|span| (&*span.id, &*span.name)).collect();
    let parent = |span: &Span| match names.get(&*span.parent) {
        Some(name) => (*name).to_owned(),
        None if span.parent == caller.span_id => "the caller's".to_owned(),
        None => panic!("a span of nobody's: {span:#?}"),
    };
    let edges = spans.iter().map(|span| (span.name.clone(), parent(span))).collect();
    (spans, edges)
}

fn edges(of: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    of.iter().map(|(span, parent)| ((*span).to_owned(), (*parent).to_owned())).collect()
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let (Some(span), None) = (found.next(), found.next()) else {
        panic!("not one {name}: {spans:#?}");
    };
    span
}

fn attributes(span: &Span) -> Vec<(&str, &str)> {
    span.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

const CREATE: &str = "POST /v1/sessions";

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_one_trace_over_both_halves_and_its_log_lines_are_of_it() {
    let collector = StandInCollector::start().await;
    let (database, hub) = (database().await, free_port());
    let seen = |plan| {
        let plan = collector.of(plan).env("VENTUS_LOG_FORMAT", "json");
        plan.env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=for-the-collector")
    };
    let control = seen(control_plane(&database, hub)).start().await;
    let agent = seen(agent(hub)).start().await;

    let caller = Caller::new();
    let cookie = json!({"name": "a", "value": "b", "domain": "localhost", "path": "/"});
    let body = json!({"storage_state": {"cookies": [cookie]}});
    let answer = caller.create(&control.api, "01", body).await;
    let request = answer.header("x-request-id").unwrap().to_owned();
    let session = answer.session(201);
    one_command(&session).await;
    let (spans, found) = tree(&collector, &caller, &[CREATE, "client.first_command"]).await;
    assert_eq!(
        found,
        edges(&[
            (CREATE, "the caller's"),
            ("session.place", CREATE),
            ("session.assign", CREATE),
            ("session.launch", CREATE),
            ("browser.take", "session.launch"),
            ("storage_state.restore", "session.launch"),
            ("client.connect", CREATE),
            ("client.first_command", CREATE),
        ])
    );
    assert_eq!(spans.len(), found.len(), "each once: {spans:#?}");
    they_tell(&spans, &session, &request, &harness::fleet::id_of(&agent));
    assert!(collector.was_told("authorization", "for-the-collector"));

    // whom the caller does not want to be traced is not
    let silent = Caller::new();
    let quiet = silent.create(&control.api, "00", json!({})).await.session(201);
    one_command(&quiet).await;
    for session in [&session, &quiet] {
        control.api.release(session.id()).await;
    }
    let released = || async { (control.api.in_use().await == 0).then_some(()) };
    eventually("every slot is free", PATIENCE, released).await;
    let (agent_log, control_log) = (agent.log(), control.log());
    agent.stop_process().await;
    control.stop().await;
    assert!(collector.trace(&silent.trace_id).is_empty());

    for (log, lines) in [(control_log, ["placed", "running"]), (agent_log, ["session over"; 2])] {
        for message in lines {
            let line = line_of(&log, message, session.id());
            assert_eq!(line["trace_id"], caller.trace_id, "{line}");
        }
        assert_eq!(line_of(&log, lines[0], quiet.id())["trace_id"], silent.trace_id);
        if lines[0] == "placed" {
            let line = line_of(&log, "placed", session.id());
            assert_eq!(line["request_id"], request, "{line}");
            assert_eq!(line["span_id"], named(&spans, "session.place").id, "{line}");
        }
    }
}

async fn one_command(session: &Session) {
    let mut cdp = Cdp::connect(session.connect_url()).await;
    cdp.call(None, "Browser.getVersion", json!({})).await;
    cdp.call(None, "Target.getTargets", json!({})).await;
    cdp.close().await;
}

/// What `docs/tracing.md` says that they tell, and nothing else.
fn they_tell(spans: &[Span], session: &Session, request: &str, agent: &str) {
    let id = session.id();
    let create = named(spans, CREATE);
    assert_eq!(
        attributes(create),
        [
            ("http.request.method", "POST"),
            ("http.response.status_code", "201"),
            ("http.route", "/v1/sessions"),
            ("ventus.request.id", request),
            ("ventus.session.id", id),
        ]
    );
    assert_eq!(format!("{:?}", create.kind), "Server");
    for (name, told) in [
        ("session.place", vec![("ventus.placed", "true"), ("ventus.region", "local")]),
        (
            "session.assign",
            vec![("ventus.agent.id", agent), ("ventus.pushed", "true"), ("ventus.session.id", id)],
        ),
        ("session.launch", vec![("ventus.session.id", id)]),
        ("browser.take", vec![("ventus.browser.warm", "false")]),
        ("storage_state.restore", vec![]),
        ("client.connect", vec![("ventus.session.id", id)]),
        (
            "client.first_command",
            vec![("ventus.cdp.method", "Browser.getVersion"), ("ventus.session.id", id)],
        ),
    ] {
        assert_eq!(attributes(named(spans, name)), told, "{name}");
    }
    let of_agent =
        ["session.launch", "browser.take", "storage_state.restore"].map(|name| named(spans, name));
    assert!(of_agent.iter().all(|span| span.service == "ventus-agent"));
    assert_eq!(create.service, "ventus-control-plane");
    // One clock: the answer waits for the launch, and the command comes after the answer.
    let (launch, command) = (of_agent[0], named(spans, "client.first_command"));
    assert!(create.start_ns < launch.start_ns && launch.end_ns < create.end_ns);
    assert!(create.end_ns < command.start_ns && command.start_ns < command.end_ns);
    assert!(spans.iter().all(|span| !span.is_failed), "{spans:#?}");
}

/// The line with this message of this session. All of the log must be JSON.
fn line_of(log: &str, message: &str, session: &str) -> Value {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    let mut lines = lines.filter(|line| line["message"] == message);
    let line = lines.find(|line| line["session_id"] == session);
    line.unwrap_or_else(|| panic!("no {message} of {session} in {log}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_in_the_queue_and_a_refusal_are_seen() {
    let authority = Authority::new().await;
    let collector = StandInCollector::start_tls(&authority.sign("collector").await).await;
    let server = collector.of(Server::up().capacity(1, 1));
    let server = server.env("OTEL_EXPORTER_OTLP_CERTIFICATE", authority.certificate().display());
    let server = server.start().await;
    let first = server.api.create(json!({})).await;

    let refused = Caller::new();
    let headers = [
        ("idempotency-key", "refused"),
        ("prefer", "wait=0"),
        ("traceparent", &refused.traceparent("01")),
    ];
    let answer = server.api.send(Method::POST, "/v1/sessions", &headers, Some(&json!({}))).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    let (spans, _) = tree(&collector, &refused, &[CREATE]).await;
    let request = named(&spans, CREATE);
    assert!(request.is_failed);
    assert_eq!(request.attributes["error.type"], "503");
    assert!(
        !spans
            .iter()
            .any(|span| span.attributes.get("ventus.placed").is_some_and(|it| it == "true"))
    );

    let caller = Caller::new();
    let waiting = caller.create(&server.api, "01", json!({}));
    let free = async {
        let tried = || async { (!collector.trace(&caller.trace_id).is_empty()).then_some(()) };
        eventually("it has not got a slot", PATIENCE, tried).await;
        server.api.release(first.id()).await;
    };
    let (answer, ()) = tokio::join!(waiting, free);
    let second = answer.session(201);
    one_command(&second).await;
    let (spans, found) = tree(&collector, &caller, &[CREATE, "client.first_command"]).await;
    for edge in edges(&[
        ("session.queue", CREATE),
        ("session.place", "session.queue"),
        ("session.launch", CREATE),
        ("browser.take", "session.launch"),
    ]) {
        assert!(found.contains(&edge), "{edge:?} is not in {found:#?}");
    }
    let (queue, launch) = (named(&spans, "session.queue"), named(&spans, "session.launch"));
    assert!(queue.start_ns < launch.start_ns);
    // What nobody asked to be traced is a trace of its own.
    let others = collector.spans();
    assert!(others.iter().any(|span| span.name == CREATE && span.parent.is_empty()));
    assert!(others.iter().all(|span| span.service == "ventus"));
    server.api.release(second.id()).await;
    server.at_rest(1).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_nothing_but_its_spans() {
    // One that takes connections and never answers, and one that is not there.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let away = free_port();
    for port in [silent_port, away] {
        let url = format!("http://localhost:{port}");
        let server = sending_to(&url, Server::up().capacity(1, 0)).start().await;
        let session = server.api.create(json!({})).await;
        one_command(&session).await;
        server.api.release(session.id()).await;
        server.at_rest(0).await;
        if port == away {
            comes_back(&server, port).await;
        }
        let stopping = Instant::now();
        server.stop().await;
        assert!(stopping.elapsed() < Duration::from_secs(6), "{:?}", stopping.elapsed());
    }
}

/// It is said once that nothing can be sent, however often that is tried, and once that it can.
async fn comes_back(server: &Server, port: u16) {
    let says = |what: &str| server.log().matches(what).count();
    let asked = || async {
        server.api.get("/v1/sessions").await;
        (says("traces cannot be sent") > 0).then_some(())
    };
    eventually("it is said that traces cannot be sent", PATIENCE, asked).await;
    let collector = StandInCollector::start_on(port).await;
    let asked = || async {
        server.api.get("/v1/sessions").await;
        (says("traces are sent again") > 0).then_some(())
    };
    eventually("it is said that traces are sent again", PATIENCE, asked).await;
    assert_eq!((says("traces cannot be sent"), says("traces are sent again")), (1, 1));
    assert!(!collector.spans().is_empty());
}
