//! Control planes and agents as processes of their own, over one PostgreSQL.

use std::path::Path;

use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection};

use crate::{
    Api, User,
    server::{Plan, Server},
};

/// A database of this test's own.
pub async fn database() -> String {
    let server = std::env::var("VENTUS_TEST_POSTGRES")
        .expect("VENTUS_TEST_POSTGRES names a server: run through tests/with-postgres");
    let name = format!("fleet_{}", ulid::Ulid::generate().to_string().to_lowercase());
    let mut postgres = PgConnection::connect(&server).await.expect("it listens");
    postgres
        .execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .await
        .expect("a new name");
    let (base, _) = server.rsplit_once('/').expect("a database's URL");
    format!("{base}/{name}")
}

/// What agents join with.
pub const TOKEN: &str = "a-join-token-of-the-tests";

/// A port of loopback that nobody listens on.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it listens").port()
}

/// A control plane over a database, whose hub listens on this port.
pub fn control_plane(database: &str, hub: u16) -> Plan {
    control_plane_on(database, "127.0.0.1", hub)
}

fn control_plane_on(database: &str, host: &str, hub: u16) -> Plan {
    Server::control_plane()
        .flag("hub-listen", format!("{host}:{hub}"))
        .env("VENTUS_JOIN_TOKEN", TOKEN)
        .database(database)
}

/// An agent with two slots that dials the hub on this port.
pub fn agent(hub: u16) -> Plan {
    agent_of(hub, 2)
}

/// One with this many slots.
pub fn agent_of(hub: u16, capacity: u32) -> Plan {
    warm_agent(hub, capacity, 0)
}

/// One that keeps browsers warm.
pub fn warm_agent(hub: u16, capacity: u32, warm: u32) -> Plan {
    Server::agent()
        .flag("control-plane", format!("http://127.0.0.1:{hub}"))
        .env("VENTUS_JOIN_TOKEN", TOKEN)
        .capacity(capacity, warm)
}

/// A control plane of a SQLite file, whose hub listens on this port.
pub fn small_control_plane(hub: u16) -> Plan {
    Server::control_plane()
        .flag("hub-listen", format!("127.0.0.1:{hub}"))
        .env("VENTUS_JOIN_TOKEN", TOKEN)
}

/// Two replicas and the ports of their hubs. Their ports stay the same when they come back.
pub async fn replicas(database: &str) -> ([Server; 2], [u16; 2]) {
    replicas_on([database, database], "127.0.0.1").await
}

/// The same with hubs that listen at this address, each with a way of its own to the database.
///
/// # Panics
///
/// When they do not start.
pub async fn replicas_on(database: [&str; 2], host: &str) -> ([Server; 2], [u16; 2]) {
    let hubs = [free_port(), free_port()];
    let one = control_plane_on(database[0], host, hubs[0]).start().await;
    let two = beside(&one, control_plane_on(database[1], host, hubs[1])).start().await;
    ([one, two], hubs)
}

/// Another replica beside one that has started.
///
/// # Panics
///
/// When the other one has no master key.
pub fn another(database: &str, hub: u16, one: &Server) -> Plan {
    beside(one, control_plane(database, hub))
}

/// With the keys of the other one.
fn beside(one: &Server, plan: Plan) -> Plan {
    let plan = plan.key(one.key());
    std::fs::copy(one.data().join("master.key"), plan.data().join("master.key"))
        .expect("one that has started has a key");
    plan
}

/// A browser that starts three times faster than the whole one, for stories that start many.
const SMALL_BROWSER: &str = "/usr/lib/chromium/chromium-headless-shell";

/// Has it launch the small browser, if that is installed.
pub fn with_small_browser(plan: Plan) -> Plan {
    if Path::new(SMALL_BROWSER).exists() { plan.flag("browser", SMALL_BROWSER) } else { plan }
}

/// The API with a key that may see and drain agents, made as its operator would.
pub async fn operator(control: &Server) -> Api {
    let user = User::beside(control);
    user.says(&["login"]).await;
    let key = user.says(&["key", "create", "operator", "--scope", "admin"]).await;
    Api::new(&control.api.base_url, Some(&key))
}

/// All agents, as an operator sees them.
///
/// # Panics
///
/// When they are not shown.
pub async fn agents(api: &Api) -> Vec<Value> {
    let answer = api.get("/v1/agents").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["items"].as_array().expect("items").clone()
}

/// The id in an agent's data directory.
///
/// # Panics
///
/// When it has not started yet.
pub fn id_of(agent: &Server) -> String {
    let text = std::fs::read_to_string(agent.data().join("agent-id")).expect("it has started");
    text.trim().to_owned()
}
