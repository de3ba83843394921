//! Creates sessions, many at once or by a schedule, and takes the time of each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use ulid::Ulid;

use crate::api::Api;

/// What was made.
#[derive(Debug, Default)]
pub struct Made {
    /// Ids of the sessions.
    pub ids: Vec<String>,
    /// How long each took: until its 201, from when it was sent or was to be sent.
    pub times: Vec<Duration>,
    /// From the first to the last.
    pub elapsed: Duration,
}

impl Made {
    /// Sessions a second.
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "there are not that many")]
        let count = self.ids.len() as f64;
        count / self.elapsed.as_secs_f64()
    }
}

/// When those who ask as fast as they can are done.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// So many sessions are made.
    Count(usize),
    /// So much time is over.
    Over(Duration),
}

/// So many clients, spread over the replicas, each of which asks again once it was answered.
///
/// # Panics
///
/// When a session is refused.
pub async fn at_once(apis: &[Api], clients: usize, until: Until) -> Made {
    let (asked, began) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let mut tasks = JoinSet::new();
    for n in 0..clients {
        let (api, asked) = (apis[n % apis.len()].clone(), Arc::clone(&asked));
        tasks.spawn(async move {
            let mut made = Vec::new();
            loop {
                let goes_on = match until {
                    Until::Count(count) => asked.fetch_add(1, Ordering::Relaxed) < count,
                    Until::Over(span) => began.elapsed() < span,
                };
                if !goes_on {
                    return made;
                }
                made.push(timed(&api, Instant::now()).await);
            }
        });
    }
    let made = tasks.join_all().await.into_iter().flatten().unzip();
    let (ids, times): (Vec<_>, Vec<_>) = made;
    Made { ids, times, elapsed: began.elapsed() }
}

/// So many a second, each at its moment whatever became of those before it. A moment that was
/// missed counts as waiting.
///
/// # Panics
///
/// When a session is refused.
pub async fn on_schedule(apis: &[Api], per_second: f64, span: Duration) -> Made {
    let began = Instant::now();
    let gap = Duration::from_secs_f64(1.0 / per_second);
    let mut tasks = JoinSet::new();
    for (n, api) in (0..).zip(apis.iter().cycle()) {
        let moment = gap * n;
        if moment >= span {
            break;
        }
        sleep_until(began + moment).await;
        let api = api.clone();
        tasks.spawn(async move { timed(&api, began + moment).await });
    }
    let (ids, times) = tasks.join_all().await.into_iter().unzip();
    Made { ids, times, elapsed: began.elapsed() }
}

async fn timed(api: &Api, since: Instant) -> (String, Duration) {
    let id = create(api, &Ulid::generate().to_string()).await;
    (id, since.elapsed())
}

/// A session that lives for as long as one may; returns its id.
///
/// # Panics
///
/// When it is refused.
pub async fn create(api: &Api, key: &str) -> String {
    let answer = api.create_with(key, "wait=10", &json!({ "timeout_seconds": 86_400 })).await;
    assert!([200, 201].contains(&answer.status), "{} {}", answer.status, answer.body);
    answer.body["id"].as_str().expect("an id").to_owned()
}

/// Ends sessions, so many at once.
///
/// # Panics
///
/// When one is not there.
pub async fn release(apis: &[Api], ids: Vec<String>, clients: usize) {
    let (next, ids) = (Arc::new(AtomicUsize::new(0)), Arc::new(ids));
    let mut tasks = JoinSet::new();
    for n in 0..clients {
        let (api, next, ids) = (apis[n % apis.len()].clone(), Arc::clone(&next), Arc::clone(&ids));
        tasks.spawn(async move {
            while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                api.release(id).await;
            }
        });
    }
    tasks.join_all().await;
}
