//! Requests that wait for a slot: first come, first served in each region of a replica.
//!
//! Only the head of a queue tries to get a slot; it tries when a slot became free, and now
//! and then by itself, since slots also become free on other replicas. A request that is
//! dropped leaves the queue, wherever in it it stands. Nobody overtakes: a new request asks
//! [`Queue::is_waiting`] before it tries, and joins the queue when others wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use proto::region::Region;
use tokio::sync::{Mutex, MutexGuard, Notify};

/// Most requests that may wait for one region.
pub const LONGEST: usize = 1000;
/// How often the head of a queue looks without having been woken.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The queues of all regions.
#[derive(Clone, Default)]
pub struct Queue {
    lines: Arc<DashMap<Region, Arc<Line>>>,
}

impl Queue {
    /// The queue of a region.
    pub fn line(&self, region: &Region) -> Arc<Line> {
        if let Some(line) = self.lines.get(region) {
            return Arc::clone(&line);
        }
        Arc::clone(&self.lines.entry(region.clone()).or_default())
    }

    /// Whether anybody waits for a region.
    pub fn is_waiting(&self, region: &Region) -> bool {
        self.lines.get(region).is_some_and(|line| !line.is_empty())
    }

    /// Says that a region has room again, or more of it.
    pub fn wake(&self, region: &Region) {
        if let Some(line) = self.lines.get(region) {
            line.room.notify_one();
        }
    }
}

/// One region's queue.
#[derive(Default)]
pub struct Line {
    waiting: AtomicUsize,
    /// Fair: handed on in the order of asking. Whoever has it is the head.
    head: Mutex<()>,
    /// Keeps one wake-up for a head that is just looking.
    room: Notify,
}

impl Line {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Takes the last place, or none when the queue is too long.
    pub fn join(&self) -> Option<Place<'_>> {
        let joined = self.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |waiting| {
            (waiting < LONGEST).then_some(waiting + 1)
        });
        joined.is_ok().then(|| Place(self))
    }
}

/// A place in a queue, given up when dropped.
pub struct Place<'a>(&'a Line);

impl Place<'_> {
    /// Waits to be the head. Cancel-safe in that the place is lost with the future.
    pub async fn head(&self) -> Head<'_> {
        Head { _turn: self.0.head.lock().await, line: self.0 }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The first place in a queue.
pub struct Head<'a> {
    _turn: MutexGuard<'a, ()>,
    line: &'a Line,
}

impl Head<'_> {
    /// Waits until looking again may help.
    pub async fn room(&self) {
        // Running into the limit is one of the two reasons to look again.
        let _ = tokio::time::timeout(LOOK_EVERY, self.line.room.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_head_is_handed_on_in_order_and_a_dropped_place_is_skipped() {
        let queue = Queue::default();
        let line = queue.line(&"eu".parse().unwrap());
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let first = line.join().unwrap();
        let head = first.head().await;
        let mut tasks = Vec::new();
        for n in 0..4 {
            let (waiting, order) = (Arc::clone(&line), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let place = waiting.join().unwrap();
                let _head = place.head().await;
                order.lock().unwrap().push(n);
            }));
            while line.len() != n + 2 {
                tokio::task::yield_now().await;
            }
        }
        tasks[1].abort();
        assert!((&mut tasks[1]).await.unwrap_err().is_cancelled());
        assert_eq!(line.len(), 4);
        drop(head);
        drop(first);
        for (n, task) in tasks.into_iter().enumerate() {
            if n != 1 {
                task.await.unwrap();
            }
        }
        assert_eq!(*order.lock().unwrap(), [0, 2, 3]);
        assert!(line.is_empty());
    }

    #[tokio::test]
    async fn a_queue_is_bounded() {
        let line = Line::default();
        let places: Vec<_> = std::iter::from_fn(|| line.join()).take(LONGEST + 1).collect();
        assert_eq!(places.len(), LONGEST);
        drop(places);
        assert!(line.join().is_some());
    }

    #[tokio::test]
    async fn a_wake_up_that_comes_early_is_kept() {
        let queue = Queue::default();
        let region = "eu".parse().unwrap();
        let line = queue.line(&region);
        let place = line.join().unwrap();
        let head = place.head().await;
        queue.wake(&region);
        assert!(tokio::time::timeout(LOOK_EVERY / 2, head.room()).await.is_ok());
    }
}
