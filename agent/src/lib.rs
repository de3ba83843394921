//! The agent: launches browsers, lends each to one session, and lets clients in.

pub mod admit;
pub mod browser;
pub mod cdp;
pub mod checks;
mod config;
mod control;
mod files;
pub mod gateway;
mod latest;
pub mod sessions;
mod storage_state;
pub mod strangers;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::config::Config;
use self::{
    admit::{DataPlane, Verifier},
    browser::{LaunchOptions, Launcher, Pool},
    control::{Control, Identity, Lease},
    sessions::{Registry, Sessions},
};

/// A running agent.
pub struct Agent {
    router: Router,
    ready: watch::Receiver<bool>,
    tasks: TaskTracker,
}

impl Agent {
    /// Takes the data directory, sweeps what an earlier run left there, proves that a browser
    /// starts on this machine, and dials the hub in the background. Ends with `stop`.
    ///
    /// # Errors
    ///
    /// When another agent uses the data directory, or no browser can be started.
    pub async fn start(config: Config, stop: CancellationToken) -> anyhow::Result<Self> {
        config.check()?;
        std::fs::create_dir_all(&config.data_dir)
            .with_context(|| format!("cannot create {}", config.data_dir.display()))?;
        let identity = Identity::claim(&config.data_dir)?;
        let launcher = Arc::new(Launcher::new(&config).await?);
        let browser_version = first_launch(&launcher).await?;
        let isolation = launcher.isolation().layers().to_vec();

        let tasks = TaskTracker::new();
        let pool = Pool::start(launcher, config.warm, stop.clone(), &tasks);
        let registry = Registry::new(config.capacity);
        let files = files::Hub::new(&config.hub_url, identity.agent, &config.join_token)?;
        let (sessions, reports) = Sessions::new(registry.clone(), pool.clone(), files);
        let verifier = Arc::new(Verifier::new());
        let router = admit::router(DataPlane {
            registry: registry.clone(),
            verifier: verifier.clone(),
            url: config.data_plane_url.clone(),
            browser: config.browser.clone(),
            connections: tasks.clone(),
        });
        let lease = Arc::new(Lease::default());
        tasks.spawn(lease.clone().guard(registry, stop.clone()));
        let welcomed = watch::Sender::new(false);
        let ready = watch::Sender::new(false);
        let is_ready = ready.subscribe();
        tasks.spawn(say_when_ready(
            ready,
            welcomed.subscribe(),
            pool.warm(),
            config.warm,
            stop.clone(),
        ));
        let sessions = Arc::new(sessions);
        let control = Control {
            config: Arc::new(config),
            identity,
            browser_version,
            isolation,
            sessions: sessions.clone(),
            reports,
            verifier,
            warm: pool.warm(),
            lease,
            welcomed,
        };
        tasks.spawn(async move {
            let identity = control.run(stop).await;
            sessions.finished().await;
            pool.close().await;
            drop(identity); // the data directory is free only now
        });
        Ok(Self { router, ready: is_ready, tasks })
    }

    /// The data plane, without a fallback and without outer layers.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Becomes true when a hub has welcomed this agent and the first warm browser is up.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Waits, after `stop` was cancelled, until the hub knows how the sessions ended (for 5 s
    /// at most), and no browser and no directory of one is left.
    pub async fn stopped(self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Starts a browser and closes it: better to fail now than at the first session.
async fn first_launch(launcher: &Launcher) -> anyhow::Result<String> {
    let browser = launcher
        .launch(&LaunchOptions::default())
        .await
        .context("no browser could be started; `ventus doctor` says what is missing")?;
    let version = browser.version.clone();
    browser.close().await;
    Ok(version)
}

async fn say_when_ready(
    ready: watch::Sender<bool>,
    mut welcomed: watch::Receiver<bool>,
    mut warm: watch::Receiver<u32>,
    wanted: u32,
    stop: CancellationToken,
) {
    let both = async {
        let _ = welcomed.wait_for(|welcomed| *welcomed).await;
        let _ = warm.wait_for(|warm| wanted == 0 || *warm > 0).await;
    };
    if stop.run_until_cancelled(both).await.is_some() {
        ready.send_replace(true);
    }
}
