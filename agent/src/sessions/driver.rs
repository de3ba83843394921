//! The task that owns one session: launch, prepare, lend, end, clean up, report.

use std::{process::ExitStatus, sync::Arc, time::Duration};

use proto::{session::EndReason, trace};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{Instrument, info, info_span, warn};

use super::{
    Ending, Lent, Order, Outcome, Report, Source, Terms, Usage,
    registry::{Entry, Leave, Phase},
};
use crate::{cdp::Mux, files::Desk, hub::Hub, limits::Excess, metrics::COUNTS, storage_state};

/// How often a browser is asked whether it lives.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// How long it may take to answer.
const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// How long clients may take what is in flight when their session ends.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// How long a launch that no one wants any more may take before it is torn down half-way.
const LAUNCH_GRACE: Duration = Duration::from_secs(3);
/// How long clients may be kept waiting for the hub's word on why their session ends.
const AGREED_LIMIT: Duration = Duration::from_secs(1);
/// How long the end of a browser's pipe and of its process may lie apart.
const EXIT_GRACE: Duration = Duration::from_millis(300);

/// One session, and its slot.
pub(super) struct Driver {
    order: Order,
    entry: Arc<Entry>,
    slot: Option<OwnedSemaphorePermit>,
    source: Arc<dyn Source>,
    reports: mpsc::UnboundedSender<Report>,
    hub: Hub,
    wish: watch::Receiver<Option<Ending>>,
    leave: watch::Receiver<Leave>,
    terms: watch::Receiver<Terms>,
}

impl Driver {
    pub fn new(
        order: Order,
        entry: Arc<Entry>,
        slot: OwnedSemaphorePermit,
        source: Arc<dyn Source>,
        reports: mpsc::UnboundedSender<Report>,
        hub: Hub,
    ) -> Self {
        let (wish, leave) = (entry.wish.subscribe(), entry.leave.subscribe());
        let terms = entry.terms.subscribe();
        Self { order, entry, slot: Some(slot), source, reports, hub, wish, leave, terms }
    }

    /// Runs the session to its end. Returns when nothing of it is left.
    pub async fn run(mut self) {
        let source = self.source.clone();
        let options = self.order.options.clone();
        let mut launching = source.take(&options);
        let launch = self.order.launch_span();
        let launched = self.launched(&mut launching).instrument(launch.clone()).await;
        let (ending, browser, desk) = match launched {
            Ok(mut browser) => {
                let account = browser.lend(std::mem::take(&mut self.order.way));
                self.entry.account.get_or_init(|| account);
                let mut desk = None;
                let mux = browser.mux();
                let ending = match self.prepare(&mux).instrument(launch.clone()).await {
                    Ok(()) => {
                        drop(launch);
                        mux.belongs_to(self.order.id, &self.order.traceparent);
                        desk = Some(self.desk(&*browser));
                        let ending = self.serve(&mut *browser).await;
                        self.agreed(ending).await
                    }
                    Err(ending) => {
                        trace::failed(launch, ending.reason.as_str());
                        ending
                    }
                };
                (ending, Some(browser), desk)
            }
            Err(ending) => {
                trace::failed(launch, ending.reason.as_str());
                self.over(ending.reason);
                let late = match ending.reason {
                    EndReason::LaunchFailed | EndReason::ForceStopped => None,
                    _ => timeout(LAUNCH_GRACE, launching).await.ok().and_then(Result::ok),
                };
                (ending, late, None)
            }
        };
        self.over(ending.reason);
        let usage = match browser {
            Some(browser) => clean_up(browser, desk, &self.entry, ending.reason).await,
            None => Usage::default(),
        };
        info!(reason = %ending.reason, detail = ending.detail, "session over");
        self.finish(Outcome { ending, usage });
    }

    /// Waits for the browser, or until it is called off.
    async fn launched<T>(
        &mut self,
        launching: impl Future<Output = Result<T, String>>,
    ) -> Result<T, Ending> {
        tokio::select! {
            launched = launching => launched.map_err(|error| {
                warn!(%error, "the browser could not be started");
                Ending::new(EndReason::LaunchFailed, error)
            }),
            ending = self.called_off_early() => Err(ending),
        }
    }

    /// Serves the browser's files from now on.
    fn desk(&self, browser: &dyn Lent) -> Desk {
        Desk::open(&self.hub, self.order.id, browser.trays(), &browser.mux(), &self.entry.orders)
    }

    /// Makes the browser what its first client is to find.
    async fn prepare(&mut self, mux: &Arc<Mux>) -> Result<(), Ending> {
        let state = std::mem::take(&mut self.order.storage_state).0;
        if state.is_empty() {
            return Ok(());
        }
        let span = info_span!(target: trace::TARGET, "storage_state.restore");
        tokio::select! {
            applied = storage_state::apply(mux, &state).instrument(span) => applied.map_err(|error| {
                let detail = format!("the storage state cannot be restored: {error}");
                warn!(detail, "the browser could not be prepared");
                Ending::new(EndReason::LaunchFailed, detail)
            }),
            ending = self.called_off_early() => Err(ending),
        }
    }

    /// Lends the browser to clients until something ends the session.
    async fn serve(&mut self, browser: &mut dyn Lent) -> Ending {
        let mux = browser.mux();
        let (clients, exceeded) = (mux.clients(), browser.exceeded());
        self.entry.phase.send_replace(Phase::Running(mux.clone()));
        self.report(Report::Running(self.order.id));
        let (terms, keep_alive) = (self.terms.clone(), self.order.keep_alive);
        tokio::select! {
            ending = self.called_off() => ending,
            () = idle(clients, terms, keep_alive) => Ending::new(EndReason::Idle, ""),
            excess = exceeded => over_limit(excess),
            status = browser.exited() => {
                // What it still said is in the pipe, and clients get that first.
                let _ = timeout(EXIT_GRACE, mux.closed()).await;
                browser.cause_of_end().map_or_else(|| gone(&mux, Some(status)), over_limit)
            }
            () = mux.closed() => {
                let status = timeout(EXIT_GRACE, browser.exited()).await.ok();
                browser.cause_of_end().map_or_else(|| gone(&mux, status), over_limit)
            }
            () = unresponsive(&mux) => {
                Ending::new(EndReason::BrowserUnresponsive, "")
            }
        }
    }

    /// The end as it is recorded: another may have come first. So what clients hear is what
    /// they then read, also one that releases its session as soon as it hears of the end. When
    /// the hub does not answer, the agent's word stands.
    async fn agreed(&mut self, ending: Ending) -> Ending {
        if self.wish.borrow().is_none() {
            self.entry.ending.get_or_init(|| ending.clone());
            self.report(Report::Ending(self.order.id));
        }
        match timeout(AGREED_LIMIT, wished(&mut self.wish)).await {
            Ok(recorded) if recorded.reason != ending.reason => recorded,
            _ => ending,
        }
    }

    /// Waits until someone wants the session to end, or its deadline, which may move.
    async fn called_off(&mut self) -> Ending {
        loop {
            let deadline = self.terms.borrow_and_update().deadline;
            let leave = *self.leave.borrow_and_update();
            if let Leave::End(detail) = leave {
                return Ending::new(EndReason::AgentDrained, detail);
            }
            tokio::select! {
                ending = wished(&mut self.wish) => return ending,
                () = sleep_until(deadline) => return Ending::new(EndReason::Deadline, ""),
                Ok(()) = self.terms.changed() => {}
                Ok(()) = self.leave.changed() => {}
            }
        }
    }

    /// The same before the browser is lent. A launch that the agent gives up because it is
    /// drained has failed here, and the hub finds another agent for it.
    async fn called_off_early(&mut self) -> Ending {
        let mut leave = self.leave.clone();
        let ending = tokio::select! {
            ending = self.called_off() => ending,
            Ok(_) = leave.wait_for(|leave| *leave != Leave::No) => {
                Ending::new(EndReason::AgentDrained, "")
            }
        };
        match ending.reason {
            EndReason::AgentDrained => Ending::new(EndReason::LaunchFailed, "the agent is drained"),
            _ => ending,
        }
    }

    fn over(&self, reason: EndReason) {
        self.entry.phase.send_replace(Phase::Over(reason));
    }

    fn finish(&mut self, outcome: Outcome) {
        self.slot = None; // before the report: the hub may fill it at once
        if self.entry.outcome.set(outcome).is_ok() {
            self.report(Report::Ended(self.order.id));
        }
    }

    fn report(&self, report: Report) {
        // No one listens only when the agent is about to exit.
        let _ = self.reports.send(report);
    }
}

impl Drop for Driver {
    /// However the task ends, also by a panic, the session does.
    fn drop(&mut self) {
        if self.entry.outcome.get().is_none() {
            let ending = Ending::new(EndReason::AgentLost, "the agent failed to run the session");
            self.over(ending.reason);
            self.finish(Outcome { ending, usage: Usage::default() });
        }
    }
}

async fn wished(wish: &mut watch::Receiver<Option<Ending>>) -> Ending {
    let wished = wish.wait_for(Option::is_some).await.ok().and_then(|wish| wish.clone());
    match wished {
        Some(ending) => ending,
        // Never: the entry holds the sender, and the session's task holds the entry.
        None => std::future::pending().await,
    }
}

/// Clients are flushed and closed while the browser is torn down: neither waits for the other.
/// So are its last downloads kept, which are held open before their directory goes. One that
/// is forced to stop waits for neither.
async fn clean_up(
    browser: Box<dyn Lent>,
    desk: Option<Desk>,
    entry: &Entry,
    reason: EndReason,
) -> Usage {
    let mux = browser.mux();
    mux.end(reason);
    if reason == EndReason::ForceStopped {
        browser.close().await;
        return entry.used(&mux);
    }
    let keeping = match desk {
        Some(desk) => Some(desk.close().await),
        None => None,
    };
    let kept = async {
        if let Some(keeping) = keeping {
            keeping.done().await;
        }
    };
    let drained = timeout(DRAIN_LIMIT, mux.drained());
    let (drained, (), ()) = tokio::join!(drained, browser.close(), kept);
    if drained.is_err() {
        warn!("a client did not take its last messages in time");
    }
    entry.used(&mux)
}

/// Waits until clients were there and the last has been gone for `keep_alive`, or for as
/// long since the keep-alive was restarted.
async fn idle(
    mut clients: watch::Receiver<usize>,
    mut terms: watch::Receiver<Terms>,
    keep_alive: Duration,
) {
    // Any change means that a client came, even if it has left again meanwhile: so a change
    // from before this line must still count.
    let mut any = *clients.borrow() > 0;
    loop {
        let alone = any && *clients.borrow_and_update() == 0;
        let restarted = async {
            let kept = terms.borrow_and_update().keepalives;
            terms.wait_for(|terms| terms.keepalives > kept).await.is_ok()
        };
        tokio::select! {
            () = sleep(keep_alive), if alone => return,
            true = restarted => {}
            changed = clients.changed() => {
                if changed.is_err() {
                    return std::future::pending().await; // the mux is gone: others see why
                }
                any = true;
            }
        }
    }
}

/// More than it may take: the detail has the figures.
fn over_limit(excess: Excess) -> Ending {
    Ending::new(EndReason::ResourceLimit, excess.to_string())
}

/// Why a browser went that no one here ended.
fn gone(mux: &Mux, status: Option<ExitStatus>) -> Ending {
    if mux.closed_by_client() {
        return Ending::new(EndReason::ClosedByClient, "");
    }
    COUNTS.browser_crashes.inc();
    let detail = match status {
        Some(status) => format!("the browser ended: {status}"),
        None => "the browser closed its pipe".to_owned(),
    };
    Ending::new(EndReason::BrowserCrashed, detail)
}

/// Waits until the browser has stopped to answer.
async fn unresponsive(mux: &Mux) {
    loop {
        sleep(PROBE_EVERY).await;
        let asked = Instant::now();
        let probe = mux.command("Browser.getVersion", serde_json::json!({}));
        match timeout(PROBE_LIMIT, probe).await {
            Ok(Ok(_)) => (),
            // The pipe ended; whoever waits for that knows more. If no one sees it, it counts.
            Ok(Err(_)) => return sleep(PROBE_LIMIT.saturating_sub(asked.elapsed())).await,
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::testing::soon;

    const SHORT: Duration = Duration::from_millis(30);

    fn terms() -> watch::Sender<Terms> {
        watch::Sender::new(Terms { deadline: Instant::now(), keepalives: 0 })
    }

    #[tokio::test]
    async fn before_the_first_client_a_session_is_not_idle() {
        let (clients, terms) = (watch::Sender::new(0), terms());
        assert!(
            timeout(SHORT * 3, idle(clients.subscribe(), terms.subscribe(), SHORT)).await.is_err()
        );
    }

    #[tokio::test]
    async fn a_session_is_idle_when_its_last_client_has_been_gone_for_long_enough() {
        let (clients, terms) = (watch::Sender::new(0), terms());
        let waiting = idle(clients.subscribe(), terms.subscribe(), SHORT);
        tokio::pin!(waiting);
        clients.send_replace(2);
        assert!(timeout(SHORT * 3, &mut waiting).await.is_err(), "clients are there");
        clients.send_replace(1);
        clients.send_replace(0);
        let left = Instant::now();
        soon(waiting).await;
        assert!(left.elapsed() >= SHORT);
    }

    #[tokio::test]
    async fn a_client_that_was_there_only_briefly_counts() {
        let (clients, terms) = (watch::Sender::new(0), terms());
        let waiting = idle(clients.subscribe(), terms.subscribe(), SHORT);
        clients.send_replace(1);
        clients.send_replace(0);
        soon(waiting).await;
    }

    #[tokio::test]
    async fn a_client_that_comes_back_starts_the_time_anew() {
        let (clients, terms) = (watch::Sender::new(1), terms());
        let keep_alive = SHORT * 4;
        let waiting = idle(clients.subscribe(), terms.subscribe(), keep_alive);
        tokio::pin!(waiting);
        clients.send_replace(0);
        assert!(timeout(SHORT * 2, &mut waiting).await.is_err());
        clients.send_replace(1);
        clients.send_replace(0);
        let left = Instant::now();
        soon(waiting).await;
        assert!(left.elapsed() >= keep_alive - Duration::from_millis(1));
    }

    #[tokio::test]
    async fn a_keep_alive_by_request_starts_the_time_anew_and_another_deadline_does_not() {
        let (clients, terms) = (watch::Sender::new(1), terms());
        let keep_alive = SHORT * 20;
        let waiting = idle(clients.subscribe(), terms.subscribe(), keep_alive);
        tokio::pin!(waiting);
        clients.send_replace(0);
        assert!(timeout(SHORT * 2, &mut waiting).await.is_err());
        terms.send_modify(|terms| terms.keepalives += 1);
        let kept = Instant::now();
        assert!(timeout(SHORT * 18, &mut waiting).await.is_err());
        terms.send_modify(|terms| terms.deadline += SHORT);
        soon(waiting).await;
        let waited = kept.elapsed();
        assert!(waited >= keep_alive - Duration::from_millis(1), "{waited:?}");
        // Begun anew by the deadline it would be 18 more: far enough for a busy machine.
        assert!(waited < keep_alive + SHORT * 16, "{waited:?}");
    }
}
