//! The lease: until when the hub is sure to count this agent's sessions as living.
//!
//! Counted from when the heartbeat was *sent*, by a clock that also runs while the machine
//! sleeps. When it is about to lapse the agent ends its own sessions, so that none is still
//! there when the hub declares them lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use proto::session::EndReason;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::sessions::{Ending, Registry};

/// How long before the lease lapses the sessions are ended: what a clean-up usually takes,
/// with room to spare.
const MARGIN: Duration = Duration::from_secs(2);
/// How often the clock is read. A timer alone would not run while the machine sleeps.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A moment by `CLOCK_BOOTTIME`, in milliseconds: monotonic, and counts suspended time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct BootTime(u64);

impl BootTime {
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        // Neither is negative on this clock.
        Self(now.tv_sec.unsigned_abs() * 1_000 + now.tv_nsec.unsigned_abs() / 1_000_000)
    }

    pub fn elapsed(self) -> Duration {
        Duration::from_millis(Self::now().0.saturating_sub(self.0))
    }

    fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Until when this agent may run sessions.
#[derive(Default)]
pub(crate) struct Lease {
    /// Milliseconds of [`BootTime`]; 0: none.
    until: AtomicU64,
}

impl Lease {
    /// The hub answered a heartbeat that was sent at `sent`.
    pub fn grant(&self, sent: BootTime, valid: Duration) {
        let until = sent.after(valid.saturating_sub(MARGIN));
        self.until.fetch_max(until.0, Ordering::SeqCst);
    }

    /// Whether sessions may run now.
    pub fn live(&self) -> bool {
        BootTime::now().0 < self.until.load(Ordering::SeqCst)
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
            if !self.live() && self.until.swap(0, Ordering::SeqCst) != 0 {
                error!("the lease lapsed without a word from the hub: ending all sessions");
                registry.end_all(&Ending::new(
                    EndReason::AgentLost,
                    "the agent lost its connection to the control plane",
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_from_when_the_heartbeat_was_sent_less_a_margin() {
        let lease = Lease::default();
        assert!(!lease.live(), "there is none before the first answer");
        let now = BootTime::now();
        lease.grant(BootTime(now.0.saturating_sub(8_500)), Duration::from_secs(10));
        assert!(!lease.live(), "the answer came too late to be of use");
        lease.grant(now, Duration::from_secs(10));
        assert!(lease.live());
    }

    #[test]
    fn a_late_answer_does_not_shorten_a_lease() {
        let lease = Lease::default();
        let now = BootTime::now();
        lease.grant(now, Duration::from_secs(60));
        lease.grant(BootTime(now.0.saturating_sub(59_000)), Duration::from_secs(60));
        assert!(lease.live());
    }
}
