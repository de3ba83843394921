//! What time it is. Deadlines are judged by the database's clock, and this machine's own may be
//! wrong: so the agent keeps the database's, by a clock that also runs while the machine sleeps.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

/// A difference that is worth a line in the log, in milliseconds.
const WRONG_MS: i64 = 5_000;

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

    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    #[cfg(test)]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Milliseconds since the machine was started.
    pub fn ms(self) -> u64 {
        self.0
    }

    fn signed(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

/// The database's clock, as far as the hub has told of it; this machine's own until then.
pub(crate) struct Clock {
    /// From [`BootTime`] to Unix time, in milliseconds.
    since_boot: AtomicI64,
}

impl Clock {
    /// By this machine's clock.
    pub fn new() -> Self {
        Self { since_boot: AtomicI64::new(own_ms() - BootTime::now().signed()) }
    }

    /// Now, in Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        BootTime::now().signed() + self.since_boot.load(Relaxed)
    }

    /// From now to a time in Unix milliseconds; nothing if that has passed.
    pub fn until(&self, unix_ms: i64) -> Duration {
        Duration::from_millis(unix_ms.saturating_sub(self.now_ms()).try_into().unwrap_or(0))
    }

    /// A time that was read from this machine's clock a moment ago, in Unix milliseconds.
    pub fn corrected(&self, own_ms: i64) -> i64 {
        own_ms.saturating_add(self.now_ms() - self::own_ms())
    }

    /// It was `unix_ms` by the database's clock at some time between `asked` and now. The clock
    /// is moved no further than that demands: most answers leave it as it is.
    pub fn told(&self, unix_ms: i64, asked: BootTime) {
        let least = unix_ms.saturating_sub(BootTime::now().signed());
        let most = unix_ms.saturating_sub(asked.signed());
        let former = self.since_boot.load(Relaxed);
        let now = former.clamp(least, most.max(least));
        self.since_boot.store(now, Relaxed);
        if now.abs_diff(former) >= WRONG_MS.unsigned_abs() {
            let by_ms = former - now;
            warn!(by_ms, "this machine's clock is wrong: deadlines are judged by the database's");
        }
    }
}

/// By this machine's clock, in Unix milliseconds.
fn own_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn it_is_this_machines_clock_until_the_hub_says_otherwise() {
        let clock = Clock::new();
        assert!((clock.now_ms() - own_ms()).abs() < 1_000);
        let ahead = own_ms() + HOUR;
        clock.told(ahead, BootTime::now());
        assert!((clock.now_ms() - ahead).abs() < 1_000);
        assert!((clock.corrected(own_ms()) - ahead).abs() < 1_000);
        assert!(clock.until(ahead + HOUR).as_secs().abs_diff(3_600) < 2);
        assert_eq!(clock.until(ahead - HOUR), Duration::ZERO);
    }

    #[test]
    fn an_answer_that_took_its_time_does_not_move_a_clock_that_may_be_right() {
        let clock = Clock::new();
        let before = clock.now_ms();
        // It was so when the hub was asked, half a minute ago, or at any time since.
        let asked = BootTime::now().before(Duration::from_secs(30));
        for ago in [0, 10_000, 29_000] {
            clock.told(before - ago, asked);
            assert!((clock.now_ms() - before).abs() < 1_000);
        }
        clock.told(before - 60_000, asked);
        assert!((clock.now_ms() - (before - 30_000)).abs() < 1_000, "no further than it must");
    }
}
