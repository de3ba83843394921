//! How many requests an API key may make, over all replicas together.
//!
//! Two fixed windows, the minute and the day, both UTC. A request passes when both have room,
//! and only what passes is counted, so exactly as many pass as the plan says. On PostgreSQL
//! one statement counts and decides, whichever replica asks. SQLite has one process: it
//! counts in memory, and saves so that a restart does not forget the day; a crash forgets at
//! most [`SAVE_EVERY`].

pub mod store;
#[cfg(test)]
mod tests;

use std::{cmp::Reverse, time::Duration};

use dashmap::DashMap;
use http::{Extensions, HeaderName, HeaderValue};
use proto::{
    id::KeyId,
    problem::{AnswerHeaders, Problem, Slug},
};

use crate::{
    config::Config,
    db::{Db, Link, Tx},
    workspaces::Plan,
};

/// How often SQLite's counts are saved.
pub const SAVE_EVERY: Duration = Duration::from_secs(5);
/// Length of the windows.
const MINUTE_SECONDS: i64 = 60;
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// The most requests of a key in each window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    per_minute: i64,
    /// `None`: as many as the minutes let pass.
    per_day: Option<i64>,
}

impl Limits {
    /// Those of a workspace's plan.
    pub fn of(plan: Plan, config: &Config) -> Self {
        match plan {
            Plan::Starter => Self { per_minute: 60, per_day: Some(10_000) },
            Plan::Pro => Self { per_minute: 300, per_day: Some(100_000) },
            Plan::Enterprise => {
                Self { per_minute: config.rate_limit_per_minute.get().into(), per_day: None }
            }
        }
    }
}

/// The requests of a key that passed, in the windows of its last request. A window's number
/// is its start in Unix seconds divided by its length.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    minute: i64,
    in_minute: i64,
    day: i64,
    in_day: i64,
}

impl Counts {
    /// Counts a request, if there is room for it; says whether. `store::TAKE` does the same.
    fn take(&mut self, now_seconds: i64, limits: Limits) -> bool {
        let (minute, day) = (now_seconds / MINUTE_SECONDS, now_seconds / DAY_SECONDS);
        if self.minute < minute {
            (self.minute, self.in_minute) = (minute, 0);
        }
        if self.day < day {
            (self.day, self.in_day) = (day, 0);
        }
        let passes = self.in_minute < limits.per_minute
            && limits.per_day.is_none_or(|limit| self.in_day < limit);
        if passes {
            self.in_minute += 1;
            self.in_day += 1;
        }
        passes
    }
}

/// What a key's limits say to one request, in terms of the window with less room left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Requests in the window.
    limit: i64,
    /// Those that are left.
    remaining: i64,
    /// When it ends, Unix seconds.
    reset: i64,
    passed: bool,
    now_seconds: i64,
}

impl Verdict {
    fn new(counts: Counts, passed: bool, now_seconds: i64, limits: Limits) -> Self {
        let window = |limit: i64, used: i64, ends: i64| (limit, (limit - used).max(0), ends);
        let ends = (counts.minute + 1) * MINUTE_SECONDS;
        let minute = window(limits.per_minute, counts.in_minute, ends);
        let ends = (counts.day + 1) * DAY_SECONDS;
        let day = limits.per_day.map(|limit| window(limit, counts.in_day, ends));
        // Of equals the longer one: until it ends nothing passes.
        let (limit, remaining, reset) = day.into_iter().fold(minute, |minute, day| {
            std::cmp::min_by_key(day, minute, |&(_, left, ends)| (left, Reverse(ends)))
        });
        Self { limit, remaining, reset, passed, now_seconds }
    }

    /// Sees to the headers of the answer, whatever it will be, and refuses a request too many.
    pub fn admit(self, request: &Extensions) -> Result<(), Problem> {
        if let Some(answer) = request.get::<AnswerHeaders>() {
            answer.insert(LIMIT, HeaderValue::from(self.limit));
            answer.insert(REMAINING, HeaderValue::from(self.remaining));
            answer.insert(RESET, HeaderValue::from(self.reset));
        }
        if self.passed {
            return Ok(());
        }
        let detail = format!("the API key has made the {} requests of its window", self.limit);
        let seconds = u32::try_from(self.reset - self.now_seconds).unwrap_or(1).max(1);
        Err(Problem::new(Slug::RateLimited, detail).with_retry_after(seconds))
    }
}

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// What this process counts itself: everything on SQLite, nothing on PostgreSQL.
#[derive(Default)]
pub struct RateLimits {
    counted: DashMap<KeyId, Counted>,
}

#[derive(Default)]
struct Counted {
    counts: Counts,
    /// What of them the database has.
    saved: Counts,
}

impl RateLimits {
    /// Counts a request of a key and decides on it.
    pub async fn take(&self, tx: &mut Tx, key: KeyId, limits: Limits) -> sqlx::Result<Verdict> {
        if let Link::Postgres(_) = tx.link() {
            let (counts, passed, now_seconds) =
                store::take(tx, key, limits.per_minute, limits.per_day).await?;
            return Ok(Verdict::new(counts, passed, now_seconds, limits));
        }
        let now_seconds = tx.now_us().await? / 1_000_000;
        if !self.counted.contains_key(&key) {
            let saved = store::load(tx, key).await?.unwrap_or_default();
            // Of requests that come together each may have loaded: the first one counts.
            self.counted.entry(key).or_insert(Counted { counts: saved, saved });
        }
        let mut counted = self.counted.entry(key).or_default();
        let passed = counted.counts.take(now_seconds, limits);
        Ok(Verdict::new(counted.counts, passed, now_seconds, limits))
    }

    /// Saves what has changed, and forgets keys that have been silent since yesterday.
    pub async fn save(&self, db: &Db) -> sqlx::Result<()> {
        let changed = self.counted.iter().filter(|counted| counted.counts != counted.saved);
        let changed: Vec<_> = changed.map(|counted| (*counted.key(), counted.counts)).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let mut tx = db.begin().await?;
        let today = tx.now_us().await? / 1_000_000 / DAY_SECONDS;
        for (key, counts) in &changed {
            store::save(&mut tx, *key, *counts).await?;
        }
        tx.commit().await?;
        for (key, counts) in changed {
            if let Some(mut counted) = self.counted.get_mut(&key) {
                counted.saved = counts;
            }
        }
        self.counted.retain(|_, counted| counted.counts.day >= today);
        Ok(())
    }
}
