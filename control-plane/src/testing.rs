//! What tests stand on: a control plane on a real database of its own, and agents that are
//! nothing but rows. A story runs on SQLite and on PostgreSQL; for the latter
//! `VENTUS_TEST_POSTGRES` names a server where databases can be created
//! (`tests/with-postgres` starts one).

use std::{future::Future, net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo, middleware};
use http::{HeaderMap, Method, Request, StatusCode};
use proto::{
    id::{AgentId, InstanceId, SessionId, WorkspaceId},
    problem::{Frame, frame},
    session::SessionStatus,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;
use ulid::Ulid;

use tempfile::TempDir;

use crate::{
    agents, api,
    app::{App, Parts},
    config::Config,
    db::{Db, Link, Tx, on},
    hints::Hints,
    keys,
    mail::Mailer,
    metrics::Metrics,
    profiles::objects::Objects,
    rate_limits,
    secrets::Secrets,
    sessions::{self, SessionRow, store},
    sign_in,
    signing::Signer,
    workspaces,
};

mod people;

pub(crate) use people::TestPerson;

/// Makes two tests of a story: one on each database.
macro_rules! on_both_databases {
    ($(async fn $name:ident($app:ident: TestApp) $body:block)+) => {$(
        mod $name {
            #[allow(unused_imports, reason = "a story may need nothing of its surroundings")]
            use super::*;

            async fn story($app: TestApp) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                $crate::testing::on_sqlite(story).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                $crate::testing::on_postgres(story).await;
            }
        }
    )+};
}
pub(crate) use on_both_databases;

const SERVER: &str = "VENTUS_TEST_POSTGRES";
/// Who owns the workspace of a test.
pub(crate) const OWNER: &str = "owner@ventus.test";
/// How long a test waits for what it expects.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Requests a minute of a key: no story makes as many, but those about the limit.
pub(crate) const REQUESTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(6_000).unwrap();

pub(crate) async fn on_sqlite<F: Future<Output = ()> + 'static>(story: fn(TestApp) -> F) {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/test.db", directory.path().display());
    run(&url, story).await;
}

pub(crate) async fn on_postgres<F: Future<Output = ()> + 'static>(story: fn(TestApp) -> F) {
    let server = std::env::var(SERVER).unwrap_or_else(|_| {
        panic!("{SERVER} is not set: run the tests through tests/with-postgres")
    });
    let name = format!("test_{}", Ulid::generate().to_string().to_lowercase());
    let mut admin = PgConnection::connect(&server).await.unwrap();
    let sql = format!("CREATE DATABASE {name}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    let (base, _) = server.rsplit_once('/').unwrap();
    run(&format!("{base}/{name}"), story).await;
    let sql = format!("DROP DATABASE {name} WITH (FORCE)");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
}

async fn run<F: Future<Output = ()> + 'static>(url: &str, story: fn(TestApp) -> F) {
    let app = TestApp::start(url).await;
    let db = app.app.db.clone();
    // In a task of its own, so that a story that fails still cleans up.
    let local = tokio::task::LocalSet::new();
    let told = local.run_until(async { tokio::task::spawn_local(story(app)).await }).await;
    db.close().await;
    if let Err(failed) = told {
        std::panic::resume_unwind(failed.into_panic());
    }
}

pub(crate) fn config(database_url: &str) -> Config {
    Config {
        database_url: database_url.to_owned(),
        data_dir: "/nonexistent".into(),
        public_url: "http://ventus.test".to_owned(),
        default_region: "local".parse().unwrap(),
        join_token: "join".to_owned(),
        own_data_plane: None,
        rate_limit_per_minute: REQUESTS_PER_MINUTE,
        retain_sessions_days: 30,
        retain_audit_days: 365,
        object_store: None,
        owner_email: OWNER.parse().unwrap(),
        first_key: None,
        mail: None,
        cluster: None,
    }
}

/// A control plane without background tasks, one workspace and one key.
#[derive(Clone)]
pub(crate) struct TestApp {
    pub app: App,
    pub workspace: WorkspaceId,
    pub key: Arc<str>,
    /// With the master key, and the objects if there are any.
    pub data: Arc<TempDir>,
    router: Router,
}

impl TestApp {
    async fn start(url: &str) -> Self {
        let db = Db::open(url).await.unwrap();
        let key = workspaces::bootstrap(&db, &OWNER.parse().unwrap(), None).await.unwrap().unwrap();
        let data = Arc::new(tempfile::tempdir().unwrap());
        Self::replica(db, url, key.into(), data, Objects::default()).await
    }

    async fn replica(
        db: Db,
        url: &str,
        key: Arc<str>,
        data: Arc<TempDir>,
        objects: Objects,
    ) -> Self {
        let secrets = Secrets::open(data.path()).unwrap();
        let signer = Signer::open(&db, &secrets).await.unwrap();
        let config = Config { data_dir: data.path().to_owned(), ..config(url) };
        let hints = Hints::on(&db);
        let stop = CancellationToken::new();
        let app = App::new(Parts {
            db,
            config,
            secrets,
            objects,
            signer,
            hub: agents::Hub::new(hints.clone()),
            costs: agents::deletion_cost::Costs::default(),
            watch: agents::lost::Watch::begin(),
            changes: sessions::changes::Changes::new(hints.clone()),
            metrics: Metrics::default(),
            rate_limits: rate_limits::RateLimits::default(),
            queue: sessions::queue::Queue::new(hints.clone()),
            hints,
            turns: sessions::idempotency::Turns::default(),
            mailer: Mailer::memory(),
            desk: sign_in::link::Desk::default(),
            closing: stop.child_token(),
            stop,
            tasks: TaskTracker::new(),
        });
        app.watch.grow_old();
        let mut tx = app.db.read().await.unwrap();
        let workspace = "SELECT id FROM workspaces";
        let workspace: String =
            on!(tx, |db| sqlx::query_scalar(workspace).fetch_one(db).await).unwrap();
        drop(tx);
        let outermost = Frame { base_url: app.config.public_url.as_str().into() };
        let router = api::router(app.clone())
            .fallback(|| async { StatusCode::NOT_FOUND })
            .layer(middleware::from_fn_with_state(outermost, frame));
        Self { app, workspace: workspace.parse().unwrap(), key, data, router }
    }

    /// Another replica on the same database: it shares nothing else.
    pub async fn another(&self) -> Self {
        self.with_objects(self.app.objects.clone()).await
    }

    /// Another replica, which keeps large contents elsewhere.
    pub async fn with_objects(&self, objects: Objects) -> Self {
        let url = &self.app.config.database_url;
        let (key, data) = (Arc::clone(&self.key), Arc::clone(&self.data));
        Self::replica(Db::open(url).await.unwrap(), url, key, data, objects).await
    }

    pub async fn tx(&self) -> Tx {
        self.app.db.begin().await.unwrap()
    }

    /// Runs a statement that no code of ours has.
    pub async fn sql(&self, sql: &'static str, binds: &[&str]) -> u64 {
        let mut tx = self.tx().await;
        let rows = on!(tx, |db| {
            let mut query = sqlx::query(sql);
            for bind in binds {
                query = query.bind((*bind).to_owned());
            }
            query.execute(db).await.map(|done| done.rows_affected())
        });
        tx.commit().await.unwrap();
        rows.unwrap()
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        let mut tx = self.app.db.read().await.unwrap();
        on!(tx, |db| sqlx::query_scalar(sql).fetch_one(db).await).unwrap()
    }

    /// How SQLite would run a text.
    pub async fn steps(&self, text: &str) -> Vec<String> {
        let mut tx = self.app.db.read().await.unwrap();
        let Link::Sqlite(db) = tx.link() else { unreachable!() };
        let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"));
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(explain).fetch_all(db).await.unwrap();
        plan.into_iter().map(|(.., step)| step).collect()
    }

    /// What an agent says of itself.
    pub fn registration(&self, region: &str, capacity: u32) -> agents::store::Registration {
        agents::store::Registration {
            id: AgentId::generate(),
            instance: InstanceId::generate(),
            region: region.parse().unwrap(),
            capacity,
            warm: 0,
            data_plane_url: format!("ws://{region}.test"),
            peer_url: String::new(),
            forwarding_key: Vec::new(),
            browser_version: "Chromium/1".to_owned(),
            isolation: Vec::new(),
        }
    }

    /// An agent that lives for an hour and does nothing.
    pub async fn agent(&self, region: &str, capacity: u32) -> AgentId {
        let agent = self.registration(region, capacity);
        let mut tx = self.tx().await;
        agents::store::register(&mut tx, &agent, None).await.unwrap();
        tx.commit().await.unwrap();
        let longer = "UPDATE agents SET lease_expires_us = lease_expires_us + 3600000000 \
                      WHERE id = $1";
        self.sql(longer, &[&agent.id.to_string()]).await;
        self.app.queue.wake(&agent.region);
        agent.id
    }

    /// An agent's lease lapses now.
    pub async fn lapse(&self, agent: AgentId) {
        let lapse = "UPDATE agents SET lease_expires_us = 1 WHERE id = $1";
        self.sql(lapse, &[&agent.to_string()]).await;
    }

    /// An agent whose browsers are up as soon as it is told to start one.
    pub async fn quick_agent(&self, region: &str, capacity: u32) -> AgentId {
        let id = self.agent(region, capacity).await;
        let app = self.clone();
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            loop {
                tick.tick().await;
                let Ok(mut tx) = app.app.db.read().await else { return };
                let Ok(held) = store::held_by(&mut tx, id).await else { return };
                drop(tx);
                for session in held {
                    // Fails when the test is over.
                    let _ = match session.status {
                        SessionStatus::Provisioning => {
                            sessions::started(&app.app, id, session.id).await.map(drop)
                        }
                        status if status.is_final() => {
                            let reason = session.reason.unwrap().code;
                            sessions::ended(&app.app, id, session.id, reason, "").await
                        }
                        _ => Ok(()),
                    };
                }
            }
        });
        id
    }

    /// A key to a workspace.
    pub async fn key_for(&self, workspace: WorkspaceId, scopes: &[&str]) -> String {
        let mut tx = self.tx().await;
        let key = keys::create(&mut tx, workspace, "test", scopes).await.unwrap();
        tx.commit().await.unwrap();
        key
    }

    pub async fn session(&self, id: SessionId) -> SessionRow {
        store::get(&mut self.app.db.read().await.unwrap(), id).await.unwrap().unwrap()
    }

    pub fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    pub fn create(&self, idempotency_key: &str) -> Call {
        self.call(Method::POST, "/v1/sessions").header("idempotency-key", idempotency_key)
    }

    /// A request with the test's key.
    pub fn call(&self, method: Method, path: &str) -> Call {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.key))
            .body(Body::empty())
            .unwrap();
        Call { router: self.router.clone(), request }
    }
}

/// A request about to be sent.
pub(crate) struct Call {
    router: Router,
    request: Request<Body>,
}

impl Call {
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.request.headers_mut().insert(name, value.parse().unwrap());
        self
    }

    pub fn without(mut self, name: &'static str) -> Self {
        self.request.headers_mut().remove(name);
        self
    }

    pub fn peer(mut self, peer: SocketAddr) -> Self {
        self.request.extensions_mut().insert(ConnectInfo(peer));
        self
    }

    pub fn key(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    pub fn json(self, body: &Value) -> Self {
        self.body(&body.to_string())
    }

    pub fn body(mut self, body: &str) -> Self {
        *self.request.body_mut() = Body::from(body.to_owned());
        self.header("content-type", "application/json")
    }

    pub async fn send(self) -> Answer {
        let response = self.router.oneshot(self.request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8_lossy(&body).into_owned(),
        }
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// Checks status and kind of a problem, and that it is a whole document.
    #[track_caller]
    pub fn problem(self, status: u16, slug: &str) -> Value {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text);
        let problem = self.expect(status);
        assert_eq!(problem["type"], format!("http://ventus.test/errors/{slug}"));
        assert_eq!(problem["status"], status);
        for member in ["title", "detail", "instance", "request_id"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        }
        problem
    }
}

/// The id in a session's JSON.
#[track_caller]
pub(crate) fn id_of(session: &Value) -> SessionId {
    session["id"].as_str().unwrap().parse().unwrap()
}

/// Waits until a condition holds.
#[track_caller]
pub(crate) fn until<F: Future<Output = bool>>(
    mut condition: impl FnMut() -> F,
) -> impl Future<Output = ()> {
    let at = std::panic::Location::caller();
    async move {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !condition().await {
            assert!(tokio::time::Instant::now() < deadline, "did not happen: {at}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
