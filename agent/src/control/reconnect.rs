//! How long to wait before the hub is dialled again: soon at first, a lease is short; then
//! less often, and with jitter, so that a region does not come back all at once.
//!
//! The only place that knows the `backoff` crate.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);
/// Each pause is this part shorter or longer, at random.
const JITTER: f64 = 0.5;

/// The pauses between attempts.
pub(super) struct Reconnect(ExponentialBackoff);

impl Reconnect {
    pub fn new() -> Self {
        Self(
            ExponentialBackoffBuilder::new()
                .with_initial_interval(FIRST)
                .with_max_interval(LONGEST)
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
        assert!(reconnect.pause() <= FIRST.mul_f64(1.0 + JITTER));
        for _ in 0..20 {
            assert!(reconnect.pause() <= LONGEST.mul_f64(1.0 + JITTER));
        }
        assert!(reconnect.pause() >= LONGEST.mul_f64(1.0 - JITTER));
        reconnect.succeeded();
        assert!(reconnect.pause() <= FIRST.mul_f64(1.0 + JITTER));
    }
}
