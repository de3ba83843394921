//! The stream to the hub: this agent dials out, says what is, and is told what should be.
//!
//! The stream may break at any time. Sessions go on while the lease lasts; the next stream
//! begins with the whole truth. Nothing that the hub must know is lost with a stream: ended
//! sessions are kept and repeated until they are acknowledged.

mod identity;
mod lease;
mod messages;
mod reconnect;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use proto::session::EndReason;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

pub(crate) use self::{identity::Identity, lease::Lease};
use self::{reconnect::Reconnect, stream::Broken};
use crate::{
    admit::Verifier,
    browser::Layer,
    config::Config,
    sessions::{Ending, Report, Sessions},
};

/// How long a stopping agent may take to tell the hub how its sessions ended.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// Keeps a stream to the hub, for as long as the agent runs.
pub(crate) struct Control {
    pub config: Arc<Config>,
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
    /// Becomes true when a hub has welcomed this agent for the first time.
    pub welcomed: watch::Sender<bool>,
}

impl Control {
    /// Dials, serves, dials again. Returns after `stop`, when the sessions have been told to
    /// end and the hub knows, or could not be told in time.
    pub async fn run(mut self, stop: CancellationToken) -> Identity {
        let mut reconnect = Reconnect::new();
        while !stop.is_cancelled() {
            let served = stream::serve(&mut self, &mut reconnect, &stop).await;
            let Err(broken) = served else { break };
            let pause = reconnect.pause();
            let pause_ms = pause.as_millis();
            match &broken {
                Broken::Refused(status) => {
                    error!(code = ?status.code(), reason = status.message(), pause_ms, "the hub refused this agent");
                }
                broken => warn!(%broken, pause_ms, "no stream to the hub"),
            }
            tokio::select! {
                () = stop.cancelled() => (),
                () = sleep(pause) => (),
            }
        }
        self.end_sessions();
        self.identity
    }

    fn end_sessions(&self) {
        let registry = self.sessions.registry();
        registry.close();
        registry.end_all(&Ending::new(EndReason::AgentLost, "the agent was stopped"));
    }
}
