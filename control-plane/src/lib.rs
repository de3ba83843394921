//! The control plane: REST, the store, scheduling, and the hub that agents dial.
//!
//! Replicas keep nothing that another one could not do without: what should be is in the
//! database, what is comes from the agents, and tasks that may run anywhere close the gap.

pub mod agents;
pub mod api;
pub mod app;
pub mod audit;
pub mod config;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod costs;
pub mod credential;
pub mod cursor;
pub mod db;
mod document;
pub mod error;
pub mod files;
pub mod health;
pub mod hints;
pub mod invitations;
pub mod join_tokens;
pub mod keys;
pub mod mail;
pub mod members;
pub mod metrics;
pub mod outbox;
pub mod paging;
pub mod people;
pub mod periodic;
pub mod profiles;
pub mod rate_limits;
pub mod regions;
pub mod request;
pub mod retention;
pub mod scheduling;
pub mod secrets;
pub mod sessions;
pub mod sign_in;
pub mod signing;
pub mod storage_state;
pub mod strangers;
#[cfg(test)]
mod testing;
mod trace;
pub mod workspaces;

use anyhow::Context;
use proto::agent::hub_server::HubServer;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

use app::{App, Parts};
pub use config::{ClusterConfig, Config, MailConfig};
pub use secrets::{Rotated, rotate_master};

/// One running replica.
pub struct ControlPlane {
    app: App,
    first_key: Option<String>,
}

impl ControlPlane {
    /// Opens the database, brings its schema up to date, and starts the background tasks,
    /// which end with `stop`. The caller serves [`ControlPlane::router`] and
    /// [`ControlPlane::hub`].
    pub async fn start(config: Config, stop: CancellationToken) -> anyhow::Result<Self> {
        let secrets = secrets::Secrets::open(&config.data_dir)?;
        let objects = match &config.object_store {
            Some(url) => profiles::objects::Objects::open(url, std::env::vars())?,
            None => profiles::objects::Objects::default(),
        };
        let cluster =
            config.cluster.as_ref().map(agents::deletion_cost::Cluster::open).transpose()?;
        let given = config.first_key.as_deref().map(keys::Given::parse).transpose()?;
        let db = db::Db::open(&config.database_url).await?;
        let signer = signing::Signer::open(&db, &secrets).await?;
        let first_key =
            workspaces::bootstrap(&db, &config.owner_email, given).await.context("first start")?;
        let mailer = mail::Mailer::open(config.mail.as_ref(), &config.data_dir)?;
        let hints = hints::Hints::on(&db);
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
            metrics: metrics::Metrics::default(),
            rate_limits: rate_limits::RateLimits::default(),
            queue: sessions::queue::Queue::new(hints.clone()),
            hints,
            turns: sessions::idempotency::Turns::default(),
            mailer,
            desk: sign_in::link::Desk::default(),
            closing: stop.child_token(),
            stop,
            tasks: TaskTracker::new(),
        });
        app.tasks.spawn(hints::run(app.clone()));
        spawn_periodic(&app);
        if let Some(cluster) = cluster {
            let looks = app.costs.looks();
            app.tasks.spawn(agents::deletion_cost::run(app.clone(), cluster, looks));
        }
        Ok(Self { app, first_key })
    }

    /// The API key that the very first start made, unless it was given one. It cannot be had
    /// again.
    pub fn first_key(&self) -> Option<&str> {
        self.first_key.as_deref()
    }

    /// All routes, without fallback and outer layers: those belong to whoever serves them.
    pub fn router(&self) -> axum::Router {
        api::router(self.app.clone())
    }

    /// The service that agents attach to.
    pub fn hub(&self) -> HubServer<agents::Service> {
        let service = agents::Service::new(self.app.clone(), self.app.stop.clone());
        HubServer::new(service).max_decoding_message_size(proto::MESSAGE_MAX)
    }

    /// The replica seen from outside.
    pub fn monitor(&self) -> metrics::Monitor {
        metrics::Monitor(self.app.clone())
    }

    /// Before the stop: requests that wait for a slot are answered, so that they can wait at
    /// another replica. What is under way goes on.
    pub fn close(&self) {
        self.app.closing.cancel();
    }

    /// After the stop: waits for every task, then closes the database.
    pub async fn stopped(self) {
        self.app.tasks.close();
        self.app.tasks.wait().await;
        if let Err(error) = self.app.rate_limits.save(&self.app.db).await {
            error!(?error, "could not save the counts of requests");
        }
        self.app.db.close().await;
    }
}

/// Starts all that the replica does now and then.
fn spawn_periodic(app: &App) {
    /// Name, how often, and what is done with an `app`.
    macro_rules! periodic {
        ($($what:literal every $every:expr => |$app:ident| $turn:expr;)+) => {$(
            let turn = |$app: App| async move { $turn.await };
            app.tasks.spawn(periodic::run(app.clone(), $every, $what, turn));
        )+};
    }
    use profiles::sweep;
    use workspaces::upkeep;
    periodic! {
        "deadlines" every sessions::expire::LOOK_EVERY => |app| sessions::expire::overdue(&app);
        "leases" every agents::lost::LOOK_EVERY => |app| agents::lost::declare_all(&app);
        "pending work" every agents::reconcile::LOOK_EVERY =>
            |app| agents::reconcile::look_for_all(&app);
        "peers" every agents::roster::LOOK_EVERY => |app| agents::roster::look(&app);
        "sessions" every metrics::LOOK_EVERY => |app| metrics::look(&app);
        "closed workspaces" every upkeep::LOOK_EVERY => |app| upkeep::end_sessions(&app);
        "retention" every retention::LOOK_EVERY => |app| retention::sweep(&app);
        "what is left" every upkeep::SWEEP_EVERY => |app| upkeep::sweep(&app);
        "objects" every sweep::LOOK_EVERY => |app| sweep::orphans(&app, sweep::AGE);
        "rate limits" every rate_limits::SAVE_EVERY => |app| app.rate_limits.save(&app.db);
        "signing keys" every signing::REFRESH_EVERY => |app| signing::refresh_once(&app);
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_first_start_makes_a_key_and_stopping_leaves_nothing_running() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/ventus.db", directory.path().display());
        let config = Config { data_dir: directory.path().join("data"), ..testing::config(&url) };
        for first in [true, false] {
            let stop = CancellationToken::new();
            let control_plane = ControlPlane::start(config.clone(), stop.clone()).await.unwrap();
            assert_eq!(control_plane.first_key().is_some(), first);
            let _serve = (control_plane.router(), control_plane.hub());
            stop.cancel();
            tokio::time::timeout(testing::PATIENCE, control_plane.stopped()).await.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_first_start_takes_the_key_that_it_is_given_and_later_ones_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/ventus.db", directory.path().display());
        let key = |digit: char| {
            // as Helm draws it: digits alone are a ULID, too
            let ulid: String = std::iter::repeat_n(digit, 24).collect();
            format!("vs_01{ulid}.{}", "aB3d".repeat(8))
        };
        let config = |key: String| Config {
            data_dir: directory.path().join("data"),
            first_key: Some(key),
            ..testing::config(&url)
        };
        for given in [key('7'), key('8')] {
            let stop = CancellationToken::new();
            let control_plane = ControlPlane::start(config(given), stop.clone()).await.unwrap();
            assert_eq!(control_plane.first_key(), None, "a key that is known is not shown");
            for (key, expected) in [(key('7'), 200), (key('8'), 401)] {
                let request = http::Request::get("/v1/sessions")
                    .header("authorization", format!("Bearer {key}"))
                    .body(axum::body::Body::empty())
                    .unwrap();
                let answer = control_plane.router().oneshot(request).await.unwrap();
                assert_eq!(answer.status(), expected);
            }
            stop.cancel();
            tokio::time::timeout(testing::PATIENCE, control_plane.stopped()).await.unwrap();
        }
        let refused = ControlPlane::start(config("hunter2".into()), CancellationToken::new()).await;
        let said = refused.err().unwrap().to_string();
        assert!(said.starts_with("the first API key must be vs_"), "{said}");
        assert!(!said.contains("hunter2"));
    }
}
