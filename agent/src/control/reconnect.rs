//! How long to wait before the hub is dialled again: soon at first, a lease is short; then
//! less often, and with full jitter, so that a region does not come back all at once.
//!
//! The only place that knows the `backoff` crate.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};

/// The longest that the first pause may be, and any.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(2);
/// The crate's pauses are around a middle: from nothing to twice as much is full jitter.
const JITTER: f64 = 1.0;

/// The pauses between attempts.
pub(super) struct Reconnect(ExponentialBackoff);

impl Reconnect {
    pub fn new() -> Self {
        Self(
            ExponentialBackoffBuilder::new()
                .with_initial_interval(FIRST / 2)
                .with_max_interval(LONGEST / 2)
                .with_multiplier(2.0)
                .with_randomization_factor(JITTER)
                .with_max_elapsed_time(None)
                .build(),
        )
    }

    /// How long to wait now.
    pub fn pause(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(LONGEST)
    }

    /// The stream works: the next pause is a short one again.
    pub fn succeeded(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_start_over() {
        let mut reconnect = Reconnect::new();
        assert!(reconnect.pause() <= FIRST);
        let later: Vec<_> = (0..200).map(|_| reconnect.pause()).collect();
        assert!(later.iter().all(|pause| *pause <= LONGEST));
        assert!(later.iter().any(|pause| *pause > LONGEST / 2));
        reconnect.succeeded();
        assert!(reconnect.pause() <= FIRST);
    }

    #[test]
    fn who_breaks_off_together_does_not_come_back_together() {
        let mut reconnect = Reconnect::new();
        for _ in 0..10 {
            reconnect.pause();
        }
        // Each tenth of the time gets its share.
        let mut tenths = [0; 10];
        for _ in 0..1_000 {
            let part = reconnect.pause().as_secs_f64() / LONGEST.as_secs_f64();
            tenths[((part * 10.0) as usize).min(9)] += 1;
        }
        assert!(tenths.iter().all(|count| *count > 40), "{tenths:?}");
    }
}
