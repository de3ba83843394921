//! The stream to the hub: this agent dials out, says what is, and is told what should be.
//!
//! The stream may break at any time. Sessions go on while the lease lasts; the next stream
//! begins with the whole truth. Nothing that the hub must know is lost with a stream: ended
//! sessions are kept and repeated until they are acknowledged.

mod dial;
mod drain;
mod identity;
mod lease;
mod messages;
mod reconnect;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod told;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

pub(crate) use self::{dial::Dialer, drain::Drain, identity::Identity, lease::Lease};
use self::{reconnect::Reconnect, stream::Broken};
use crate::{
    browser::Layer,
    clock::{BootTime, Clock},
    config::Config,
    forward::Forwarder,
    sessions::{Leave, Report, Sessions},
    verifier::Verifier,
};

/// How long a stopping agent may take to tell the hub how its sessions ended.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);
/// How long an agent without a lease may take to end what it ran.
const VACATE_LIMIT: Duration = Duration::from_secs(5);

/// Keeps a stream to the hub, for as long as the agent runs.
pub(crate) struct Control {
    pub config: Arc<Config>,
    pub dialer: Arc<Dialer>,
    pub identity: Identity,
    pub browser_version: String,
    /// What confines its browsers.
    pub isolation: Vec<Layer>,
    pub sessions: Arc<Sessions>,
    pub reports: mpsc::UnboundedReceiver<Report>,
    pub verifier: Arc<Verifier>,
    /// Idle browsers now.
    pub warm: watch::Receiver<u32>,
    pub lease: Arc<Lease>,
    pub clock: Arc<Clock>,
    pub drain: Arc<Drain>,
    pub forwarder: Arc<Forwarder>,
    /// Becomes true when a hub has welcomed this agent for the first time.
    pub welcomed: watch::Sender<bool>,
}

impl Control {
    /// Dials, serves, dials again. Returns after `stop`, when the sessions have been told to
    /// end and the hub knows, or could not be told in time.
    pub async fn run(mut self, stop: CancellationToken) -> Identity {
        let mut reconnect = Reconnect::new();
        while !stop.is_cancelled() {
            stop.run_until_cancelled(self.vacate()).await;
            let served = stream::serve(&mut self, &mut reconnect, &stop).await;
            let Err(broken) = served else { break };
            if let Some(held) = broken.held() {
                self.lease.hold(BootTime::now(), held);
            }
            if broken.is_lost() {
                self.lease.forfeit(self.sessions.registry());
            }
            let pause = reconnect.pause();
            self.say(broken, pause);
            self.dialer.turn();
            tokio::select! {
                () = stop.cancelled() => (),
                () = sleep(pause) => (),
            }
        }
        self.end_sessions();
        self.identity
    }

    /// Without a lease the hub counts all slots as free: it hears of this agent only when they
    /// are, or it would place sessions that find no room.
    async fn vacate(&self) {
        let registry = self.sessions.registry();
        self.lease.lapse(registry);
        if !self.lease.lasts() && timeout(VACATE_LIMIT, registry.vacated()).await.is_err() {
            warn!("sessions are left that should have ended with the lease");
        }
    }

    fn say(&self, broken: Broken, pause: Duration) {
        let (hub, pause_ms) = (self.dialer.address(), pause.as_millis());
        match broken {
            Broken::Refused(status) => {
                let (code, reason) = (status.code(), status.message());
                error!(%hub, ?code, reason, pause_ms, "the hub refused this agent");
            }
            broken => {
                let why = format!("{:#}", anyhow::Error::new(broken));
                warn!(%hub, why, pause_ms, "no stream to the hub");
            }
        }
    }

    fn end_sessions(&self) {
        let registry = self.sessions.registry();
        registry.close();
        registry.leave(Leave::End("the agent was stopped"));
    }
}
