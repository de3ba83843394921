//! How fast slots become free in a region.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Over how long slots are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// The longest that anyone is asked to stay away, also where nothing became free lately.
pub const LONGEST_SECONDS: u32 = 60;
/// Most slots that are counted: more than this a minute are as good as at once.
const COUNTED: usize = 6_000;

/// When slots became free lately, the oldest first.
#[derive(Default)]
pub struct Freed {
    at: VecDeque<Instant>,
}

impl Freed {
    /// Counts a slot.
    pub fn count(&mut self, now: Instant) {
        self.forget(now);
        if self.at.len() == COUNTED {
            self.at.pop_front();
        }
        self.at.push_back(now);
    }

    /// In how many seconds the slot for this position in a queue becomes free, if it goes on
    /// as it went lately: 1 to [`LONGEST_SECONDS`].
    pub fn estimate(&mut self, now: Instant, position: usize) -> u32 {
        self.forget(now);
        let Some(first) = self.at.front() else { return LONGEST_SECONDS };
        // Of a few the pace is that since the first of them, not that of the whole window.
        let over = if self.at.len() < 5 { WINDOW } else { (now - *first).min(WINDOW) };
        let seconds = (over.as_secs_f64() * position as f64 / self.at.len() as f64).ceil();
        (seconds as u32).clamp(1, LONGEST_SECONDS)
    }

    fn forget(&mut self, now: Instant) {
        while self.at.front().is_some_and(|at| now - *at > WINDOW) {
            self.at.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_follows_the_pace_of_the_last_minute() {
        let (mut freed, begin) = (Freed::default(), Instant::now());
        assert_eq!(freed.estimate(begin, 1), LONGEST_SECONDS, "nothing is known");
        for second in 0..60 {
            freed.count(begin + Duration::from_secs(second));
        }
        let now = begin + Duration::from_secs(60);
        assert_eq!(freed.estimate(now, 1), 1);
        assert_eq!(freed.estimate(now, 10), 10);
        assert_eq!(freed.estimate(now, 1000), LONGEST_SECONDS);
        let later = now + Duration::from_secs(30);
        assert_eq!(freed.estimate(later, 10), 20, "half as many in the last minute");
        assert_eq!(freed.estimate(later + WINDOW, 1), LONGEST_SECONDS, "none in the last minute");
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let (mut freed, now) = (Freed::default(), Instant::now());
        (0..COUNTED + 10).for_each(|_| freed.count(now));
        assert_eq!(freed.at.len(), COUNTED);
        assert_eq!(freed.estimate(now, 1), 1);
    }
}
