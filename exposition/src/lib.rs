//! Metrics in memory, and the text that Prometheus reads (text format 0.0.4).
//!
//! What is counted is an atomic that its owner keeps; what merely *is*, such as a number of free
//! slots, is read when somebody asks. So there is no registry beside the program that could say
//! something else than the program, nothing to be swept, and a count costs one instruction.

mod page;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

pub use page::{CONTENT_TYPE, Page, Series};

/// Something that only grows.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// At 0.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How many bounds a histogram has.
const BOUNDS: usize = 16;

/// Upper bounds of what falls into each bucket, in microseconds: half a millisecond, as a command
/// may take, to the minute that a request may wait.
const BOUNDS_US: [u64; BOUNDS] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// How long something took, how often. All histograms have the same buckets.
#[derive(Debug)]
pub struct Histogram {
    /// One more than there are bounds: for what is above them all.
    buckets: [AtomicU64; BOUNDS + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// With nothing in it.
    pub const fn new() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BOUNDS + 1], sum_us: AtomicU64::new(0) }
    }

    /// It took this long once.
    pub fn took(&self, span: Duration) {
        let span_us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.iter().position(|bound| span_us <= *bound).unwrap_or(BOUNDS);
        self.sum_us.fetch_add(span_us, Relaxed);
        self.buckets[bucket].fetch_add(1, Relaxed);
    }

    /// How often so far.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// Metrics of one name, one for each combination of labels that has come up. Whoever chooses the
/// labels keeps them few: each combination stays for good.
#[derive(Debug)]
pub struct Family<const LABELS: usize, M> {
    names: [&'static str; LABELS],
    members: RwLock<BTreeMap<[String; LABELS], Arc<M>>>,
}

impl<const LABELS: usize, M: Default> Family<LABELS, M> {
    /// With labels of these names, and no member yet.
    pub const fn new(names: [&'static str; LABELS]) -> Self {
        Self { names, members: RwLock::new(BTreeMap::new()) }
    }

    /// The one with these labels, which is there from now on.
    pub fn of(&self, labels: [&str; LABELS]) -> Arc<M> {
        let labels = labels.map(str::to_owned);
        let known = self.members.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = known.get(&labels) {
            return Arc::clone(member);
        }
        drop(known);
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(members.entry(labels).or_default())
    }

    /// Shows each member with its labels.
    fn each(&self, mut show: impl FnMut(&[(&str, &str)], &M)) {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        for (values, member) in &*members {
            let labels: [_; LABELS] =
                std::array::from_fn(|at| (self.names[at], values[at].as_str()));
            show(&labels, member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_as_long_as_a_bound_is_not_above_it() {
        let histogram = Histogram::new();
        for us in [0, 500, 501, 60_000_000, 60_000_001] {
            histogram.took(Duration::from_micros(us));
        }
        let found: Vec<_> = histogram.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        assert_eq!(found[..2], [2, 1]);
        assert_eq!(found[BOUNDS - 1..], [1, 1]);
        assert_eq!(histogram.count(), 5);
        assert_eq!(histogram.sum_us.load(Relaxed), 120_001_002);
    }

    #[test]
    fn each_combination_of_labels_is_counted_by_itself() {
        let family = Family::<2, Counter>::new(["region", "reason"]);
        family.of(["eu", "idle"]).add(2);
        family.of(["eu", "idle"]).one();
        family.of(["us", "idle"]).one();
        let mut found = Vec::new();
        family.each(|labels, counter| found.push((labels[0].1.to_owned(), counter.get())));
        assert_eq!(found, [("eu".to_owned(), 3), ("us".to_owned(), 1)]);
    }
}
