//! The agent: launches browsers, lends each to one session, and lets clients in.

pub mod admit;
pub mod browser;
pub mod cdp;
pub mod checks;
mod clock;
mod config;
mod control;
#[cfg(test)]
mod costs;
pub mod crowd;
mod files;
mod forward;
pub mod gateway;
mod hub;
mod latest;
pub mod limits;
mod metrics;
mod origin;
pub mod sessions;
mod storage_state;
pub mod strangers;
#[cfg(test)]
mod tests;
mod tls;
mod upgrade;
mod verifier;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use axum::Router;
use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    admit::DataPlane,
    browser::{LaunchOptions, Launcher, Pool},
    clock::Clock,
    control::{Control, Dialer, Drain, Identity, Lease},
    forward::Forwarder,
    hub::Hub,
    sessions::{Leave, Registry, Sessions},
    verifier::Verifier,
};
pub use self::{
    config::{Config, HubTls},
    metrics::Monitor,
};

/// A running agent.
pub struct Agent {
    router: Router,
    monitor: Monitor,
    registry: Arc<Registry>,
    drain: Arc<Drain>,
    forwarder: Arc<Forwarder>,
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
        let dialer = Arc::new(Dialer::new(config.hub_addresses()?, config.hub_tls.clone())?);
        std::fs::create_dir_all(&config.data_dir)
            .with_context(|| format!("cannot create {}", config.data_dir.display()))?;
        let identity = Identity::claim(&config.data_dir)?;
        let launcher = Arc::new(Launcher::new(&config).await?);
        let browser_version = first_launch(&launcher).await?;
        let isolation = launcher.isolation().layers().to_vec();

        let tasks = TaskTracker::new();
        let pool = Pool::start(launcher, config.warm, stop.clone(), &tasks);
        let registry = Registry::new(config.capacity);
        let hub = Hub::new(dialer.clone(), identity.agent, &config.join_token);
        let (sessions, reports) = Sessions::new(registry.clone(), pool.clone(), hub.clone());
        let clock = Arc::new(Clock::new());
        let verifier = Arc::new(Verifier::new(clock.clone()));
        let forwarder = Forwarder::new(identity.agent, clock.clone(), tasks.clone(), stop.clone())?;
        let forwarder = Arc::new(forwarder);
        let router = admit::router(DataPlane {
            agent: identity.agent,
            forwarder: forwarder.clone(),
            hub,
            registry: registry.clone(),
            verifier: verifier.clone(),
            url: config.data_plane_url.clone(),
            allowed_origins: config.allowed_origins.clone(),
            browser: config.browser.clone(),
            connections: tasks.clone(),
        });
        let lease = Arc::new(Lease::default());
        tasks.spawn(lease.clone().guard(registry.clone(), stop.clone()));
        let drain = Arc::new(Drain::default());
        let resting = pool.clone();
        let rest = move |now| resting.rest(now);
        tasks.spawn(drain.clone().guard(registry.clone(), rest, stop.clone()));
        let welcomed = watch::Sender::new(false);
        let ready = watch::Sender::new(false);
        let monitor = Monitor {
            registry: registry.clone(),
            lease: lease.clone(),
            drain: drain.clone(),
            warm: pool.warm(),
            started: ready.subscribe(),
        };
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
            dialer,
            identity,
            browser_version,
            isolation,
            sessions: sessions.clone(),
            reports,
            verifier,
            warm: pool.warm(),
            lease,
            clock,
            drain: drain.clone(),
            forwarder: forwarder.clone(),
            welcomed,
        };
        tasks.spawn(async move {
            let identity = control.run(stop).await;
            sessions.finished().await;
            pool.close().await;
            drop(identity); // the data directory is free only now
        });
        Ok(Self { router, monitor, registry, drain, forwarder, tasks })
    }

    /// The data plane, without a fallback and without outer layers.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Becomes true when a hub has welcomed this agent and the first warm browser is up.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.monitor.started.clone()
    }

    /// The agent seen from outside.
    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    /// Takes no session any more and tells the hub so, gives it back those whose browser is not
    /// up yet, and waits until the others and what it forwards have ended by themselves, for at
    /// most `span`.
    pub async fn drain(&self, span: Duration) {
        self.registry.close();
        self.drain.leave(span);
        self.registry.leave(Leave::Launch);
        // Whatever is left is for the stop to end.
        let _ = timeout(span, async {
            self.registry.settled().await;
            self.forwarder.finished().await;
        })
        .await;
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
