//! The bandwidth of one browser: a bucket that fills at a steady rate, shared by all of the
//! browser's connections, and by nobody else's.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What may be saved up: so much time's worth.
const BURST: Duration = Duration::from_millis(250);

/// Bytes that may pass now. Who takes goes into debt at most by what it takes, and all wait
/// until the debt is paid.
#[derive(Debug)]
pub struct Bucket {
    /// In bytes a second.
    rate: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bytes: f64,
    at: Instant,
}

impl Bucket {
    #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
    pub fn new(rate: u64, now: Instant) -> Self {
        let rate = rate.max(1) as f64;
        let state = State { bytes: rate * BURST.as_secs_f64(), at: now };
        Self { rate, state: Mutex::new(state) }
    }

    /// Takes bytes that have passed.
    #[expect(clippy::cast_precision_loss, reason = "one read or write")]
    pub fn take(&self, bytes: usize, now: Instant) {
        self.filled(now).bytes -= bytes as f64;
    }

    /// When more may pass; `None`: now.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let state = self.filled(now);
        let debt = (-state.bytes).max(0.0);
        (debt > 0.0).then(|| state.at + Duration::from_secs_f64(debt / self.rate))
    }

    fn filled(&self, now: Instant) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.duration_since(state.at).as_secs_f64();
        state.bytes = (state.bytes + since * self.rate).min(self.rate * BURST.as_secs_f64());
        state.at = now;
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_passes_than_the_rate_allows() {
        let begun = Instant::now();
        let bucket = Bucket::new(1_000_000, begun);
        let (mut now, mut passed) = (begun, 0);
        while now < begun + Duration::from_secs(10) {
            if let Some(next) = bucket.next(now) {
                now = next;
            }
            bucket.take(16 << 10, now);
            passed += 16 << 10;
        }
        // Ten seconds' worth and what was saved up.
        assert!((10_200_000..10_300_000).contains(&passed), "{passed}");
    }

    #[test]
    fn silence_saves_up_only_a_moment() {
        let begun = Instant::now();
        let bucket = Bucket::new(1_000_000, begun);
        let now = begun + Duration::from_secs(60);
        bucket.take(250_000, now);
        assert_eq!(bucket.next(now), None);
        bucket.take(1, now);
        assert!(bucket.next(now).is_some());
    }
}
