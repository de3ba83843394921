//! Agents over the network: whose they are, who may read along, and where they send callers.

use std::time::Duration;

use harness::{
    PATIENCE, Server, User,
    authority::{Authority, Signed},
    cdp::Cdp,
    eventually,
    fleet::{TOKEN, control_plane, database, free_port},
    process,
    server::Plan,
};
use http::Method;
use rustix::process::Signal;
use serde_json::json;
use sqlx::Connection;

/// How long until a lease has lapsed, and what goes with it is gone.
const LAPSED: Duration = Duration::from_secs(20);

fn agent(url: &str, region: &str, token: &str) -> Plan {
    Server::agent()
        .flag("control-plane", url)
        .env("VENTUS_REGION", region)
        .env("VENTUS_JOIN_TOKEN", token)
        .capacity(1, 0)
}

/// Someone with the server's own database.
fn operator(control: &Server) -> User {
    User::beside(control).env("VENTUS_DATABASE_URL", &control.store())
}

async fn token(operator: &User, region: &str) -> (String, String) {
    let made = operator.json(&["join-token", "create", "--region", region]).await;
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("id"), text("token"))
}

async fn all_slots_are_free(control: &Server) {
    let free = || async { (control.api.in_use().await == 0).then_some(()) };
    eventually("every slot is free", LAPSED, free).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_region_has_tokens_of_its_own_and_a_revoked_one_shuts_its_agents_out() {
    let hub = free_port();
    let url = format!("http://127.0.0.1:{hub}");
    let control = control_plane(&database().await, hub).start().await;
    let operator = operator(&control);
    let (eu_id, eu_token) = token(&operator, "eu").await;
    let (_, us_token) = token(&operator, "us").await;

    // an agent of one region is none of another
    let stranger = agent(&url, "us", &eu_token);
    stranger.says("the join token is another region's").await;
    let eu = agent(&url, "eu", &eu_token).start().await;
    let us = agent(&url, "us", &us_token).start().await;
    let moved = eu.stop_process().await;
    let as_us = moved.clone().env("VENTUS_JOIN_TOKEN", &us_token).env("VENTUS_REGION", "us");
    as_us.says("belongs to another region").await;
    let eu = moved.start().await;

    let in_eu = control.api.create(json!({"region": "eu"})).await;
    let in_us = control.api.create(json!({"region": "us"})).await;
    let mut cdp = Cdp::connect(in_eu.connect_url()).await;
    cdp.page("about:blank").await;
    let listed = operator.json(&["region", "list"]).await;
    let eu_row = &listed["items"][0];
    let numbers = ["agents", "capacity", "in_use", "join_tokens"].map(|name| &eu_row[name]);
    assert_eq!((&eu_row["region"], numbers), (&json!("eu"), [&json!(1); 4]), "{listed}");

    operator.says(&["join-token", "revoke", &eu_id]).await;
    let over = control.api.wait_for(in_eu.id(), "ERRORED", LAPSED).await;
    assert_eq!(over.reason(), "agent_lost");
    let (code, _) = cdp.closed(LAPSED).await;
    assert_eq!(code, 1001);
    let gone = || async { eu.browsers().is_empty().then_some(()) };
    eventually("its browsers are gone", LAPSED, gone).await;
    let told = || async { eu.log().contains("the join token was revoked").then_some(()) };
    eventually("it is told why", PATIENCE, told).await;
    let refused = control.api.create_with("eu", "wait=0", &json!({"region": "eu"})).await;
    assert_eq!((refused.status, refused.problem()), (503, "insufficient-capacity"));
    // the other region has noticed nothing
    assert_eq!(control.api.session(in_us.id()).await.status(), "RUNNING");
    Cdp::connect(in_us.connect_url()).await.close().await;

    // and the same agent comes back with a new token
    let (_, renewed) = token(&operator, "eu").await;
    let eu = eu.stop_process().await.env("VENTUS_JOIN_TOKEN", &renewed).start().await;
    let again = control.api.create(json!({"region": "eu"})).await;
    for session in [&again, &in_us] {
        control.api.release(session.id()).await;
    }
    all_slots_are_free(&control).await;
    for secret in [&eu_token, &us_token, &renewed] {
        let secret = secret.split_once('.').unwrap().1;
        for server in [&control, &eu, &us] {
            assert!(!server.log().contains(secret) && !server.printed().contains(secret));
        }
    }
    eu.stop_process().await;
    us.stop_process().await;
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stalls_costs_no_session() {
    let database = database().await;
    let hubs = [free_port(), free_port()];
    let one = control_plane(&database, hubs[0]).start().await;
    // both seal with one master key
    let two = control_plane(&database, hubs[1]).key(one.key());
    std::fs::copy(one.data().join("master.key"), two.data().join("master.key")).unwrap();
    let two = two.start().await;
    let both = hubs.map(|hub| format!("http://127.0.0.1:{hub}")).join(",");
    let agent = agent(&both, "local", TOKEN).start().await;
    let session = two.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let (_, page) = cdp.page("about:blank").await;

    // it takes the agent's messages, and answers none: within its lease the agent is elsewhere
    process::signal(one.pid().cast_signed(), Signal::STOP);
    log_says(&two, "agent attached").await;
    assert_eq!(two.api.session(session.id()).await.status(), "RUNNING");
    assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
    assert!(!agent.log().contains("the lease lapsed"));

    // what the former replica still believes does no harm
    process::signal(one.pid().cast_signed(), Signal::CONT);
    assert_eq!(one.api.session(session.id()).await.status(), "RUNNING");
    one.api.release(session.id()).await;
    assert_eq!(cdp.closed(LAPSED).await, (1001, "released".into()));
    all_slots_are_free(&one).await;
    agent.stop_process().await;
    two.stop_process().await;
    one.stop().await;
}

/// A control plane whose hub speaks TLS.
fn with_tls(hub: &Signed) -> (Plan, String) {
    let port = free_port();
    let plan = Server::control_plane()
        .flag("hub-listen", format!("127.0.0.1:{port}"))
        .flag("hub-tls-cert", hub.certificate.display())
        .flag("hub-tls-key", hub.key.display())
        .env("VENTUS_JOIN_TOKEN", "a-join-token");
    (plan, format!("https://localhost:{port}"))
}

fn trusting(url: &str, authority: &Authority) -> Plan {
    agent(url, "local", "a-join-token").flag("control-plane-ca", authority.certificate().display())
}

async fn log_says(server: &Server, text: &str) {
    let said = || async { server.log().contains(text).then_some(()) };
    eventually(text, PATIENCE, said).await;
}

async fn a_session_runs(control: &Server) {
    let session = control.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let (_, page) = cdp.page("about:blank").await;
    assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
    control.api.release(session.id()).await;
    all_slots_are_free(control).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_trusts_the_hub_that_its_authority_vouches_for() {
    let (authority, other) = tokio::join!(Authority::new(), Authority::new());
    let hub = authority.sign("hub").await;
    let (control, url) = with_tls(&hub);
    let control = control.start().await;
    trusting(&url, &other).says("UnknownIssuer").await;
    agent(&url, "local", "a-join-token").says("UnknownIssuer").await;
    let plain = url.replace("https", "http");
    agent(&plain, "local", "a-join-token").says("no stream to the hub").await;
    log_says(&control, "it does not speak TLS: its --control-plane is to begin with https://")
        .await;

    // the first address does not answer
    let nowhere = format!("https://localhost:{},{url}", free_port());
    let agent = trusting(&nowhere, &authority).start().await;
    a_session_runs(&control).await;

    // a certificate is renewed while the server runs, badly first
    let agent = agent.stop_process().await;
    authority.sign_expired("expired").await.replace(&hub);
    agent.says("certificate expired").await;
    authority.sign("renewed").await.replace(&hub);
    let agent = agent.start().await;
    log_says(&control, "the hub's certificates were read again").await;
    a_session_runs(&control).await;
    agent.stop_process().await;
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_may_ask_agents_for_certificates() {
    let (authority, other) = tokio::join!(Authority::new(), Authority::new());
    let (hub, good, bad) =
        tokio::join!(authority.sign("hub"), authority.sign("agent"), other.sign("agent"));
    let (control, url) = with_tls(&hub);
    let control = control.flag("hub-client-ca", authority.certificate().display()).start().await;
    let with = |own: &Signed| {
        trusting(&url, &authority)
            .flag("tls-cert", own.certificate.display())
            .flag("tls-key", own.key.display())
    };
    trusting(&url, &authority).says("no stream to the hub").await;
    log_says(&control, "it has no certificate of its own").await;
    with(&bad).says("no stream to the hub").await;
    log_says(&control, "UnknownIssuer").await;
    // a certificate is no join token
    with(&good).env("VENTUS_JOIN_TOKEN", "wrong").says("the join token is wrong").await;
    let agent = with(&good).start().await;
    a_session_runs(&control).await;
    agent.stop_process().await;
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_do_not_fit_are_named_at_the_start() {
    let (authority, other) = tokio::join!(Authority::new(), Authority::new());
    let (hub, stranger) = tokio::join!(authority.sign("hub"), other.sign("hub"));
    let mixed = Signed { key: stranger.key, ..hub.clone() };
    with_tls(&mixed).0.says("do not go together").await;
    let missing = Signed { key: "/nowhere/key.pem".into(), ..hub };
    with_tls(&missing).0.says("cannot read /nowhere/key.pem").await;
    let plain = agent("https://127.0.0.1:1", "local", "t").flag("control-plane-ca", "/dev/null");
    plain.says("/dev/null holds no certificate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_trusted_proxy_says_decides_where_callers_are_sent() {
    let said = [("forwarded", "for=203.0.113.5;proto=https;host=v.example")];
    let older = [
        ("x-forwarded-for", "203.0.113.5"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "v.example"),
    ];
    for (trusted, url) in [("127.0.0.1", "wss://v.example/"), ("192.0.2.0/24", "ws://127.0.0.1:")] {
        let plan = Server::up().capacity(1, 0).flag("trusted-proxies", trusted);
        let server = plan.start().await;
        let session = server.api.create(json!({})).await;
        assert!(session.connect_url().starts_with("ws://127.0.0.1:"), "nobody said anything");
        let path = format!("/v1/sessions/{}", session.id());
        for headers in [&said[..], &older[..]] {
            let shown = server.api.send(Method::GET, &path, headers, None).await.session(200);
            assert!(shown.connect_url().starts_with(url), "{}", shown.connect_url());
        }
        // the data plane leads back the same way
        let version = format!("{path}/cdp/json/version?token={}", session.token());
        let version = server.api.send(Method::GET, &version, &said, None).await.body;
        let socket = version["webSocketDebuggerUrl"].as_str().unwrap();
        assert!(socket.starts_with(url), "{socket}");

        // who is told of a host that leads here can dial it
        let port = server.api.base_url.rsplit_once(':').unwrap().1;
        let here = format!("for=203.0.113.5;proto=http;host=\"localhost:{port}\"");
        let here = server.api.send(Method::GET, &path, &[("forwarded", &here)], None).await;
        Cdp::connect(here.session(200).connect_url()).await.close().await;

        server.api.send(Method::DELETE, &path, &said, None).await;
        let ip: Option<String> = {
            let mut store = sqlx::SqliteConnection::connect(&server.store()).await.unwrap();
            let asked = "SELECT ip FROM audit WHERE action = 'session.release'";
            sqlx::query_scalar(asked).fetch_one(&mut store).await.unwrap()
        };
        let client = if trusted == "127.0.0.1" { "203.0.113.5" } else { "127.0.0.1" };
        assert_eq!(ip.as_deref(), Some(client));
        server.at_rest(0).await;
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_listens_everywhere_must_say_where_it_is() {
    let user = User::nowhere().env("VENTUS_JOIN_TOKEN", "t");
    let start = |more: &[&'static str]| {
        let listening = ["agent", "--listen", "0.0.0.0:0", "--control-plane", "http://127.0.0.1:1"];
        [&listening[..], more].concat()
    };
    let refused = user.fails(2, &start(&[])).await;
    assert_eq!(refused, "error: say with --advertise how clients reach this agent\n");
    let refused = user.fails(2, &start(&["--advertise", "ws://0.0.0.0:8082"])).await;
    assert!(refused.contains("nobody can dial 0.0.0.0"), "{refused}");
}
