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
pub mod credential;
pub mod cursor;
pub mod db;
mod document;
pub mod error;
pub mod files;
pub mod health;
pub mod invitations;
pub mod keys;
pub mod mail;
pub mod members;
pub mod outbox;
pub mod paging;
pub mod people;
pub mod profiles;
pub mod rate_limits;
pub mod regions;
pub mod request;
pub mod scheduling;
pub mod secrets;
pub mod sessions;
pub mod sign_in;
pub mod signing;
pub mod storage_state;
pub mod strangers;
#[cfg(test)]
mod testing;
pub mod workspaces;

use anyhow::Context;
use proto::agent::hub_server::HubServer;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

use app::{App, Parts};
pub use config::{Config, MailConfig};
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
        let db = db::Db::open(&config.database_url).await?;
        let signer = signing::Signer::open(&db, &secrets).await?;
        let first_key =
            workspaces::bootstrap(&db, &config.owner_email).await.context("first start")?;
        let mailer = mail::Mailer::open(config.mail.as_ref(), &config.data_dir)?;
        let app = App::new(Parts {
            db,
            config,
            secrets,
            objects,
            signer,
            hub: agents::Hub::default(),
            changes: sessions::changes::Changes::default(),
            rate_limits: rate_limits::RateLimits::default(),
            queue: sessions::queue::Queue::default(),
            turns: sessions::idempotency::Turns::default(),
            mailer,
            desk: sign_in::link::Desk::default(),
            stop: stop.clone(),
            tasks: TaskTracker::new(),
        });
        app.tasks.spawn(sessions::expire::run(app.clone(), stop.clone()));
        app.tasks.spawn(agents::lost::run(app.clone(), stop.clone()));
        app.tasks.spawn(profiles::sweep::run(app.clone(), stop.clone()));
        app.tasks.spawn(rate_limits::run(app.clone(), stop.clone()));
        app.tasks.spawn(workspaces::upkeep::run(app.clone(), stop.clone()));
        app.tasks.spawn(signing::refresh(app.clone(), stop));
        Ok(Self { app, first_key })
    }

    /// The API key that the very first start made. It cannot be had again.
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

#[cfg(test)]
mod tests {
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
}
