//! The sessions of this agent. One task owns one session and alone changes its phase;
//! others ask it to end and watch.
//!
//! ```text
//! Launching ──▶ Running ──▶ Over ──▶ reported ──▶ acknowledged
//!     └──────────────────────▲
//! ```
//!
//! Over is told to clients at once. The report to the hub follows when the browser, its
//! files and its slot are gone, and is repeated until the hub has acknowledged it.

mod browsers;
mod driver;
mod registry;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::{fmt, process::ExitStatus, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use proto::{id::SessionId, session::EndReason, trace};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, error_span, field::Empty, info_span};

pub(crate) use self::registry::{Leave, Outcome, State};
pub use self::registry::{Phase, Registry};
use crate::{
    browser::LaunchOptions,
    cdp::{self, Mux},
    files::{self, PlaceError, Trays},
    gateway::{Account, Way},
    hub::Hub,
    limits::Excess,
    storage_state::{self, StateError},
};

/// How long a session without keep-alive waits for its client to come back.
pub const RECONNECT_GRACE: Duration = Duration::from_secs(10);

/// A session to run, as the hub asked for it.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub id: SessionId,
    pub terms: Terms,
    /// How long it outlives its last client.
    pub keep_alive: Duration,
    pub options: LaunchOptions,
    /// Where its traffic goes.
    pub way: Way,
    /// What its browser has to start with.
    pub storage_state: StorageState,
    /// W3C trace context of the request that made it; empty: none.
    pub traceparent: String,
}

impl Order {
    /// What its log lines are in, at whatever level they are.
    fn log_span(&self) -> Span {
        let traceparent = Some(&*self.traceparent).filter(|traceparent| !traceparent.is_empty());
        error_span!("session", session = %self.id, traceparent)
    }

    /// Its launch, in its trace: from the assignment until clients may come.
    fn launch_span(&self) -> Span {
        let span = info_span!(target: trace::TARGET, "session.launch",
            ventus.session.id = %self.id, otel.status_code = Empty, "error.type" = Empty);
        trace::continues(&span, &self.traceparent);
        span
    }
}

/// What a session has used since its browser was lent.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Usage {
    pub clients: cdp::Usage,
    /// What passed between its browser and the network, both directions together.
    pub egress_bytes: u64,
}

/// What may change while a session runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Terms {
    /// When it ends by this process's clock. The control plane judges it too.
    pub deadline: Instant,
    /// How often its keep-alive was restarted by request.
    pub keepalives: u64,
}

/// A storage state as JSON, full of secrets; empty: none.
#[derive(Clone, Default)]
pub(crate) struct StorageState(pub Vec<u8>);

impl fmt::Debug for StorageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorageState({} bytes)", self.0.len())
    }
}

/// Why a session is to end, or has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub reason: EndReason,
    /// More than the reason's own message, or empty.
    pub detail: String,
}

impl Ending {
    pub fn new(reason: EndReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// Why there is no storage state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    #[error("the session does not run here")]
    NotRunning,
    #[error("the storage state cannot be read: {0}")]
    State(#[from] StateError),
}

/// News for the hub. Only a hint that the registry has changed: what is said is read there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Report {
    Running(SessionId),
    Ending(SessionId),
    Ended(SessionId),
}

/// Where browsers come from: the warm pool, or a fake in the tests.
pub(crate) trait Source: Send + Sync {
    fn take<'a>(
        &'a self,
        options: &'a LaunchOptions,
    ) -> BoxFuture<'a, Result<Box<dyn Lent>, String>>;
}

/// A browser lent to one session.
pub(crate) trait Lent: Send {
    fn mux(&self) -> Arc<Mux>;
    /// Opens its way to the network, before anything else.
    fn lend(&self, way: Way) -> Account;
    /// Where its files come and go.
    fn trays(&self) -> Arc<Trays>;
    /// Waits until its process has ended. Cancel-safe.
    fn exited(&mut self) -> BoxFuture<'_, ExitStatus>;
    /// Waits until it takes more of the machine than it may.
    fn exceeded(&self) -> BoxFuture<'static, Excess>;
    /// The limit that it was over, if that is why it has ended.
    fn cause_of_end(&self) -> Option<Excess>;
    /// Ends every process of it and removes its directory.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// Starts sessions, each in a task of its own.
pub(crate) struct Sessions {
    registry: Arc<Registry>,
    source: Arc<dyn Source>,
    drivers: TaskTracker,
    reports: mpsc::UnboundedSender<Report>,
    hub: Hub,
}

impl Sessions {
    /// The reports come out of the receiver, in order. A session makes at most three.
    pub fn new(
        registry: Arc<Registry>,
        source: Arc<dyn Source>,
        hub: Hub,
    ) -> (Self, mpsc::UnboundedReceiver<Report>) {
        let (reports, receiver) = mpsc::unbounded_channel();
        (Self { registry, source, drivers: TaskTracker::new(), reports, hub }, receiver)
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Runs a session. One that is known only gets its new terms, and what is known of it is
    /// reported again: the hub asks because it missed that.
    pub fn assign(&self, order: Order) {
        let id = order.id;
        self.registry.adjust(id, order.terms);
        match self.registry.admit(&order) {
            Ok((entry, slot)) => {
                let span = order.log_span();
                let driver = driver::Driver::new(
                    order,
                    entry,
                    slot,
                    self.source.clone(),
                    self.reports.clone(),
                    self.hub.clone(),
                );
                self.drivers.spawn(driver.run().instrument(span));
            }
            Err(State::Launching) => (),
            Err(State::Running) => self.report(Report::Running(id)),
            Err(State::Ended(_)) => self.report(Report::Ended(id)),
        }
    }

    /// Reads the storage state of a session's browser, in a task of its own, and hands it
    /// to `then`.
    pub fn capture<F>(
        &self,
        id: SessionId,
        then: impl FnOnce(Result<Vec<u8>, CaptureError>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send,
    {
        let running = self.registry.running(id);
        self.drivers.spawn(async move {
            let captured = match running {
                Some((mux, places)) => {
                    storage_state::capture(&mux, &places).await.map_err(CaptureError::from)
                }
                None => Err(CaptureError::NotRunning),
            };
            then(captured).await;
        });
    }

    /// Carries out what is to be done with an upload, in a task of its own, and hands what
    /// came of it to `then`. Orders of one session are carried out one after the other.
    pub fn place<F>(
        &self,
        id: SessionId,
        order: files::Order,
        then: impl FnOnce(Result<(), PlaceError>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send,
    {
        let queued = self.registry.place(id, order);
        self.drivers.spawn(async move {
            let placed = match queued {
                Some(placed) => placed.await.unwrap_or(Err(PlaceError::NotRunning)),
                None => Err(PlaceError::NotRunning),
            };
            then(placed).await;
        });
    }

    /// Waits until no session's task is left. The registry must have been closed.
    pub async fn finished(&self) {
        self.drivers.close();
        self.drivers.wait().await;
    }

    fn report(&self, report: Report) {
        // No one listens only when the agent is about to exit.
        let _ = self.reports.send(report);
    }
}
