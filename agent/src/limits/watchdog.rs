//! Looks twice a second at what every browser takes.
//!
//! One look reads `/proc` once for all browsers. Memory is first summed up the cheap way,
//! which counts too much; only who is over the limit by that is measured exactly.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing::debug;

use super::{
    Excess, Limits, Subject, bound,
    cgroup::Leaf,
    disk, mebibytes,
    order::{Order, Standing},
    processes::{self, Mark, Taken},
};
use crate::metrics::COUNTS;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);

/// Every so many looks directories are measured, too.
const DISK_EVERY: u32 = 4;

/// Looks at all browsers of an agent.
pub struct Watchdog {
    limits: Limits,
    order: Option<Order>,
    browsers: Mutex<Vec<Watched>>,
}

struct Watched {
    subject: Subject,
    leaf: Option<Leaf>,
    excess: watch::Sender<Option<Excess>>,
    standing: Standing,
}

impl Watchdog {
    /// Runs until it is dropped.
    pub fn start(limits: Limits) -> Arc<Self> {
        let watchdog =
            Arc::new(Self { limits, order: Order::of(&limits), browsers: Mutex::default() });
        let weak = Arc::downgrade(&watchdog);
        tokio::spawn(async move {
            let mut tick = interval(EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for look in 0.. {
                tick.tick().await;
                let Some(watchdog) = weak.upgrade() else { return };
                let looked = spawn_blocking(move || watchdog.look(look % DISK_EVERY == 0)).await;
                if looked.is_err() {
                    return; // it has panicked, which is in the log
                }
            }
        });
        watchdog
    }

    /// Looks at this browser until the receiver is dropped.
    pub fn watch(&self, subject: Subject, leaf: Option<Leaf>) -> watch::Receiver<Option<Excess>> {
        let (excess, receiver) = watch::channel(None);
        self.browsers().push(Watched { subject, leaf, excess, standing: Standing::default() });
        receiver
    }

    fn browsers(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.browsers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Measures all browsers and tells those that are over a limit.
    fn look(&self, disk: bool) {
        // Taken out: a launch must not wait for a slow disk.
        let mut browsers = std::mem::take(&mut *self.browsers());
        browsers.retain(|browser| !browser.excess.is_closed());
        let mut memory_bytes = 0;
        let marks: Vec<_> = browsers.iter().map(Watched::mark).collect();
        if !marks.is_empty() {
            let begun = Instant::now();
            let by_kernel = browsers.iter().all(|browser| browser.leaf.is_some());
            let taken = processes::taken(&marks, !by_kernel);
            if let Some(order) = &self.order {
                let standings = browsers.iter_mut();
                let standings = standings.map(|browser| (browser.mark(), &mut browser.standing));
                order.keep(standings, &taken, begun);
            }
            for (browser, mark) in browsers.iter().zip(&marks) {
                let Some(taken) = taken.get(mark) else { continue };
                let of_group = browser.leaf.as_ref().and_then(Leaf::memory_bytes);
                memory_bytes += of_group.unwrap_or(taken.resident_bytes);
                let excess = self.of_processes(browser, taken);
                if let Some(excess) = excess.or_else(|| self.of_disk(browser, disk)) {
                    browser.excess.send_if_modified(|known| known.replace(excess).is_none());
                }
            }
            let took = begun.elapsed();
            if took > EVERY / 2 {
                debug!(?took, browsers = browsers.len(), "measuring browsers takes long");
            }
        }
        COUNTS.browser_memory.set(memory_bytes);
        self.browsers().append(&mut browsers);
    }

    fn of_processes(&self, browser: &Watched, taken: &Taken) -> Option<Excess> {
        if let Some(leaf) = &browser.leaf {
            return leaf.excess(&self.limits);
        }
        if let Some(limit) = bound(self.limits.processes).filter(|limit| taken.tasks > *limit) {
            return Some(Excess::Processes(taken.tasks, limit));
        }
        let limit = mebibytes(self.limits.memory_mb)?;
        if taken.resident_bytes <= limit {
            return None;
        }
        let own = taken.own_bytes();
        (own > limit).then_some(Excess::Memory(own, limit))
    }

    fn of_disk(&self, browser: &Watched, due: bool) -> Option<Excess> {
        let limit = mebibytes(self.limits.disk_mb).filter(|_| due)?;
        let used = disk::used(&browser.subject.directory, limit);
        (used > limit).then_some(Excess::Disk(used, limit))
    }
}

impl Watched {
    fn mark(&self) -> Mark {
        let leader = self.subject.leader.as_raw_nonzero().get();
        self.subject.user.map_or(Mark::Group(leader), Mark::User)
    }
}
