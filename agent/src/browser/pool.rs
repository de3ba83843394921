//! Warm browsers: idle, never used, handed out at once.
//!
//! One task, the keeper, fills the pool, replaces what dies or grows old, and empties it at
//! the end. Callers only take. A browser that was taken never comes back.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::available_parallelism,
    time::{Duration, Instant},
};

use futures_util::{
    StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use tokio::{
    sync::{Notify, watch},
    time::sleep_until,
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tracing::{Span, error, info, warn};

use super::{Browser, LaunchError, LaunchOptions, Launcher, rehearsal::rehearse};
use crate::metrics::COUNTS;

/// How long a browser may wait to be used: later ones have newer certificates and less
/// that has crept in.
const AGE_MAX: Duration = Duration::from_secs(600);

/// How long whoever was lent a browser has the processor to himself, before another is started in
/// its place: to connect and open a first page. A launch at the same time, of half a second of
/// processor time, would make that take half as long again.
const FIRST_PAGE: Duration = Duration::from_millis(300);

/// How long filling steps back for launches that somebody waits for.
const YIELD_MAX: Duration = Duration::from_secs(2);

const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Idle browsers with default options.
#[derive(Debug)]
pub struct Pool {
    launcher: Arc<Launcher>,
    options: LaunchOptions,
    size: usize,
    age_max: Duration,
    /// Oldest first.
    idle: Mutex<VecDeque<Browser>>,
    warm: watch::Sender<u32>,
    /// When those were lent whose first page may not be there yet: each holds back one launch.
    lent: Mutex<VecDeque<Instant>>,
    /// Launches that somebody waits for.
    cold: AtomicUsize,
    /// Nothing is started in advance.
    resting: AtomicBool,
    changed: Notify,
    stop: CancellationToken,
    /// Holds the keeper.
    tracker: TaskTracker,
}

impl Pool {
    /// Fills a pool of `size` in the background, until `stop` or [`close`](Self::close).
    pub fn start(
        launcher: Arc<Launcher>,
        size: u32,
        stop: CancellationToken,
        tracker: &TaskTracker,
    ) -> Arc<Self> {
        Self::with_age(launcher, size, AGE_MAX, &stop, tracker.token())
    }

    fn with_age(
        launcher: Arc<Launcher>,
        size: u32,
        age_max: Duration,
        stop: &CancellationToken,
        owner: TaskTrackerToken,
    ) -> Arc<Self> {
        let pool = Arc::new(Self {
            launcher,
            options: LaunchOptions::default(),
            size: size as usize,
            age_max,
            idle: Mutex::default(),
            warm: watch::Sender::new(0),
            lent: Mutex::default(),
            cold: AtomicUsize::new(0),
            resting: AtomicBool::new(false),
            changed: Notify::new(),
            stop: stop.child_token(),
            tracker: TaskTracker::new(),
        });
        let keeper = pool.clone();
        pool.tracker.spawn(async move {
            keeper.keep().await;
            drop(owner);
        });
        pool.tracker.close();
        pool
    }

    /// A browser with these options: a warm one at once, else one that is launched now.
    ///
    /// # Errors
    ///
    /// When none comes up, or the pool is closed.
    pub async fn take(&self, options: &LaunchOptions) -> Result<Browser, LaunchError> {
        if self.stop.is_cancelled() {
            return Err(LaunchError::Stopping);
        }
        if *options == self.options
            && let Some(browser) = self.take_warm()
        {
            Span::current().record("ventus.browser.warm", true);
            return Ok(browser);
        }
        let _cold = Cold::new(self);
        tokio::select! {
            launched = self.launcher.launch(options) => launched.inspect(|_| self.lend()),
            () = self.stop.cancelled() => Err(LaunchError::Stopping),
        }
    }

    fn lend(&self) {
        let now = Instant::now();
        self.held_back(now); // forgets those of before, also where nothing is ever filled
        self.lent().push_back(now);
    }

    fn take_warm(&self) -> Option<Browser> {
        let mut idle = self.idle();
        // Dropping a dead one clears it away.
        let taken = std::iter::from_fn(|| idle.pop_front()).find_map(|mut browser| {
            let running = browser.is_running();
            COUNTS.browser_crashes.inc_by(u64::from(!running));
            running.then_some(browser)
        });
        if taken.is_some() {
            self.lend(); // before it is missed
        }
        self.counted(&idle);
        drop(idle);
        self.changed.notify_one();
        taken
    }

    /// How many launches are held back by first pages, and when that changes.
    fn held_back(&self, now: Instant) -> (usize, Option<Instant>) {
        let mut lent = self.lent();
        lent.retain(|lent| *lent + FIRST_PAGE > now);
        (lent.len(), lent.front().map(|lent| *lent + FIRST_PAGE))
    }

    /// How many browsers are ready.
    pub fn warm(&self) -> watch::Receiver<u32> {
        self.warm.subscribe()
    }

    /// From now on starts no browser before it is asked for, or does so again.
    pub fn rest(&self, resting: bool) {
        self.resting.store(resting, SeqCst);
        self.changed.notify_one();
    }

    /// Ends all idle browsers, and waits until nothing is left of them, nor of those that
    /// were taken and closed.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tracker.wait().await;
        self.launcher.cleared().await;
    }

    fn lent(&self) -> MutexGuard<'_, VecDeque<Instant>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Browser>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called after every change, while the list is locked.
    fn counted(&self, idle: &VecDeque<Browser>) {
        self.warm.send_replace(u32::try_from(idle.len()).unwrap_or(u32::MAX));
    }

    fn is_old(&self, browser: &Browser) -> bool {
        browser.born.elapsed() >= self.age_max
    }

    async fn keep(&self) {
        let mut work = Work::new();
        loop {
            let next = work.start(self);
            let step = async {
                tokio::select! {
                    () = self.changed.notified() => {}
                    Some(launched) = work.launching.next() => work.failures.note(self.add(launched)),
                    Some(()) = work.ends.next() => self.remove_dead(),
                    () = wait_until(next) => {}
                }
            };
            if self.stop.run_until_cancelled(step).await.is_none() {
                break;
            }
            work.watch(self);
        }
        drop(work); // clears away what is half started
        let idle = std::mem::take(&mut *self.idle());
        self.warm.send_replace(0);
        join_all(idle.into_iter().map(Browser::close)).await;
    }

    /// A browser for a client whom nobody knows yet.
    async fn launch(&self) -> Result<Browser, LaunchError> {
        let browser = self.launcher.launch(&self.options).await?;
        if let Err(error) = rehearse(&browser.mux).await {
            // It answers, and a client's page may still open.
            warn!(browser = browser.name(), %error, "a warm browser could not open a page");
        }
        Ok(browser)
    }

    /// Takes in what was launched, in place of one that has grown old.
    fn add(&self, launched: Result<Browser, LaunchError>) -> Result<(), LaunchError> {
        let browser = launched?;
        let mut idle = self.idle();
        idle.push_back(browser);
        while idle.len() > self.size {
            idle.pop_front(); // dropping it clears it away
        }
        self.counted(&idle);
        Ok(())
    }

    fn remove_dead(&self) {
        let mut idle = self.idle();
        let before = idle.len();
        idle.retain_mut(Browser::is_running);
        if idle.len() < before {
            COUNTS.browser_crashes.inc_by((before - idle.len()) as u64);
            info!("a warm browser ended by itself; another takes its place");
        }
        self.counted(&idle);
    }
}

/// What the keeper is about.
struct Work<'a> {
    launching: FuturesUnordered<BoxFuture<'a, Result<Browser, LaunchError>>>,
    /// Resolves when an idle browser's pipe ends.
    ends: FuturesUnordered<BoxFuture<'static, ()>>,
    watched: Vec<String>,
    failures: Failures,
    /// Since when filling has stepped back.
    yielding: Option<Instant>,
}

impl<'a> Work<'a> {
    fn new() -> Self {
        Self {
            launching: FuturesUnordered::new(),
            ends: FuturesUnordered::new(),
            watched: Vec::new(),
            failures: Failures::default(),
            yielding: None,
        }
    }

    /// Starts the launches that are due. Says when to look again if nothing happens.
    fn start(&mut self, pool: &'a Pool) -> Option<Instant> {
        let (fresh, next_old) = {
            let idle = pool.idle();
            let mut fresh = idle.iter().filter(|browser| !pool.is_old(browser)).peekable();
            let next_old = fresh.peek().map(|oldest| oldest.born + pool.age_max);
            (fresh.count(), next_old)
        };
        let missing = pool.size.saturating_sub(fresh + self.launching.len());
        if missing == 0 || pool.resting.load(SeqCst) {
            self.yielding = None;
            return next_old.filter(|_| missing == 0);
        }
        let now = Instant::now();
        if let Some(retry) = self.failures.retry_at
            && retry > now
        {
            return Some(retry);
        }
        if pool.cold.load(SeqCst) > 0 {
            let since = *self.yielding.get_or_insert(now);
            if now < since + YIELD_MAX {
                return Some(since + YIELD_MAX);
            }
        }
        self.yielding = None;
        let (held_back, until) = pool.held_back(now);
        // After failures one is enough to see whether they are over.
        let room = if self.failures.in_a_row > 0 { 1 } else { at_once() };
        let due = missing.saturating_sub(held_back);
        for _ in 0..due.min(room.saturating_sub(self.launching.len())) {
            self.launching.push(Box::pin(pool.launch()));
        }
        if due < missing { until } else { next_old }
    }

    /// Watches the browsers that have come in.
    fn watch(&mut self, pool: &Pool) {
        let idle = pool.idle();
        self.watched.retain(|name| idle.iter().any(|browser| browser.name() == name));
        for browser in &*idle {
            if !self.watched.iter().any(|name| name == browser.name()) {
                self.watched.push(browser.name().to_owned());
                let mux = browser.mux.clone();
                self.ends.push(Box::pin(async move { mux.closed().await }));
            }
        }
    }
}

/// Failed launches: told once, tried again after growing pauses.
#[derive(Default)]
struct Failures {
    in_a_row: u32,
    retry_at: Option<Instant>,
}

impl Failures {
    fn note(&mut self, result: Result<(), LaunchError>) {
        match result {
            Ok(()) => {
                if self.in_a_row > 0 {
                    info!(failures = self.in_a_row, "warm browsers start again");
                }
                *self = Self::default();
            }
            Err(error) => {
                if self.in_a_row == 0 {
                    error!(%error, "a warm browser cannot be started; trying again in silence");
                }
                let pause = RETRY_MIN.saturating_mul(1 << self.in_a_row.min(10)).min(RETRY_MAX);
                self.in_a_row += 1;
                self.retry_at = Some(Instant::now() + pause);
            }
        }
    }
}

/// Counts a launch that somebody waits for.
struct Cold<'a>(&'a Pool);

impl<'a> Cold<'a> {
    fn new(pool: &'a Pool) -> Self {
        pool.cold.fetch_add(1, SeqCst);
        Self(pool)
    }
}

impl Drop for Cold<'_> {
    fn drop(&mut self) {
        if self.0.cold.fetch_sub(1, SeqCst) == 1 {
            self.0.changed.notify_one();
        }
    }
}

/// How many browsers may start at the same time: starting one keeps two cores busy.
fn at_once() -> usize {
    available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

async fn wait_until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
