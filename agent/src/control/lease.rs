//! The lease: until when the hub is sure to count this agent's sessions as living.
//!
//! Counted from when the heartbeat was *sent*, by a clock that also runs while the machine
//! sleeps. When it is about to lapse the agent ends its own sessions, so that none is still
//! there when the hub declares them lost.
//!
//! While the hub's database does not answer no lease can be renewed, and none is judged: the hub
//! says so instead, and sessions go on while it does. Only those end at the lease's end that are
//! not recorded as running: another agent could be told to launch them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use proto::session::EndReason;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::{
    clock::BootTime,
    sessions::{Ending, Registry},
};

/// How long before the lease lapses the sessions are ended: what a clean-up usually takes,
/// with room to spare.
const MARGIN: Duration = Duration::from_secs(2);
/// How often the clock is read. A timer alone would not run while the machine sleeps.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Until when this agent may run sessions.
#[derive(Default)]
pub(crate) struct Lease {
    /// In milliseconds of [`BootTime`]; 0: none.
    until: AtomicU64,
    /// Until when nobody judges it, likewise.
    held: AtomicU64,
}

impl Lease {
    /// The hub answered a heartbeat that was sent at `sent`.
    pub fn grant(&self, sent: BootTime, valid: Duration) {
        self.until.fetch_max(end_of(sent, valid), SeqCst);
    }

    /// The hub's database did not answer what was asked at `sent`: for so long nobody judges the
    /// lease.
    pub fn hold(&self, sent: BootTime, held: Duration) {
        self.held.fetch_max(end_of(sent, held), SeqCst);
    }

    /// Whether sessions may be started now.
    pub fn live(&self) -> bool {
        self.live_after(Duration::ZERO)
    }

    /// Whether they still may then, also if no heartbeat is answered until then.
    pub fn live_after(&self, span: Duration) -> bool {
        BootTime::now().after(span).ms() < self.until.load(SeqCst)
    }

    /// Whether those that run may go on. What has ended with its lease is not held any more.
    pub fn lasts(&self) -> bool {
        let is_held = BootTime::now().ms() < self.held.load(SeqCst);
        self.live() || is_held && self.until.load(SeqCst) != 0
    }

    /// Ends all sessions if the lease has lapsed, once; while nobody judges it, those that the
    /// database does not know to run.
    pub fn lapse(&self, registry: &Registry) {
        let until = self.until.load(SeqCst);
        if until == 0 || BootTime::now().ms() < until {
            return;
        }
        let ending = |detail| Ending::new(EndReason::AgentLost, detail);
        if self.lasts() {
            let ended = registry.end_unrecorded(&ending("the database was away"));
            if ended > 0 {
                warn!(
                    ended,
                    "the database is away: ending the sessions that it does not know to run"
                );
            }
            return;
        }
        // Unless it was renewed at this very moment.
        if self.until.compare_exchange(until, 0, SeqCst, SeqCst).is_ok() {
            error!("the lease lapsed without a word from the hub: ending all sessions");
            registry.end_all(&ending("the agent lost its connection to the control plane"));
        }
    }

    /// The hub has declared this agent lost: ends all sessions.
    pub fn forfeit(&self, registry: &Registry) {
        self.held.store(0, SeqCst);
        if self.until.swap(0, SeqCst) != 0 {
            error!("the hub has declared this agent lost: ending all sessions");
            registry.end_all(&Ending::new(EndReason::AgentLost, "its lease has lapsed"));
        }
    }

    /// Ends all sessions whenever the lease lapses.
    pub async fn guard(self: Arc<Self>, registry: Arc<Registry>, stop: CancellationToken) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick() => (),
            }
            self.lapse(&registry);
        }
    }
}

fn end_of(sent: BootTime, span: Duration) -> u64 {
    sent.after(span.saturating_sub(MARGIN)).ms()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_from_when_the_heartbeat_was_sent_less_a_margin() {
        let lease = Lease::default();
        assert!(!lease.live(), "there is none before the first answer");
        let now = BootTime::now();
        lease.grant(now.before(Duration::from_millis(8_500)), Duration::from_secs(10));
        assert!(!lease.live(), "the answer came too late to be of use");
        lease.grant(now, Duration::from_secs(10));
        assert!(lease.live());
    }

    #[test]
    fn a_lease_that_nobody_judges_lasts_but_starts_nothing() {
        let (lease, now) = (Lease::default(), BootTime::now());
        lease.grant(now.before(Duration::from_secs(9)), Duration::from_secs(10));
        assert!(!lease.lasts());
        lease.hold(now, Duration::from_secs(10));
        assert!(lease.lasts() && !lease.live());
        lease.forfeit(&Registry::new(1));
        assert!(!lease.lasts());
        lease.hold(now, Duration::from_secs(10));
        assert!(!lease.lasts(), "nothing is left that could go on");
    }

    #[test]
    fn a_late_answer_does_not_shorten_a_lease() {
        let lease = Lease::default();
        let now = BootTime::now();
        lease.grant(now, Duration::from_secs(60));
        lease.grant(now.before(Duration::from_secs(59)), Duration::from_secs(60));
        assert!(lease.live());
    }
}
