use serde_json::json;

use super::*;
use crate::{
    browser::{
        Isolation,
        testing::{HEADLESS_SHELL, Place, descriptors, until},
    },
    gateway::Policy,
};

const LIMIT: Duration = Duration::from_secs(20);

struct Filled {
    place: Place,
    pool: Arc<Pool>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Filled {
    async fn new(size: u32, age_max: Duration) -> Self {
        let place = Place::new();
        let launcher = place.launcher(HEADLESS_SHELL).await;
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let pool = Pool::with_age(launcher, size, age_max, &stop, tracker.token());
        let filled = Self { place, pool, stop, tracker };
        filled.is_full().await;
        filled
    }

    async fn is_full(&self) {
        let size = u32::try_from(self.pool.size).unwrap();
        let mut warm = self.pool.warm();
        tokio::time::timeout(LIMIT, warm.wait_for(|warm| *warm == size)).await.unwrap().unwrap();
    }

    fn names(&self) -> Vec<String> {
        self.pool.idle().iter().map(|browser| browser.name().to_owned()).collect()
    }

    async fn leaves_nothing(self) {
        self.pool.close().await;
        self.place.assert_clear();
        assert_eq!(*self.pool.warm().borrow(), 0);
        self.tracker.close();
        tokio::time::timeout(LIMIT, self.tracker.wait()).await.unwrap();
    }
}

#[tokio::test]
async fn a_warm_browser_is_handed_out_at_once_and_replaced() {
    let filled = Filled::new(2, AGE_MAX).await;
    let names = filled.names();
    let browser = filled.pool.take(&LaunchOptions::default()).await.unwrap();
    assert_eq!(browser.name(), names[0], "the oldest comes first");
    assert_eq!(*filled.pool.warm().borrow(), 1);
    filled.is_full().await;
    let taken = browser.name().to_owned();
    browser.close().await;
    assert!(!filled.names().contains(&taken), "a used browser never comes back");
    filled.leaves_nothing().await;
}

#[tokio::test]
async fn what_a_warm_browser_has_rehearsed_is_not_seen() {
    let filled = Filled::new(1, AGE_MAX).await;
    let browser = filled.pool.take(&LaunchOptions::default()).await.unwrap();
    rehearse(&browser.mux).await.unwrap();
    let only_its_first_page = async {
        loop {
            let targets = browser.mux.command("Target.getTargets", json!({})).await.unwrap();
            let targets = targets["targetInfos"].as_array().unwrap();
            // A page, and the tab that it is in.
            if targets.len() == 2 && targets.iter().all(|target| target["url"] == "about:blank") {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, only_its_first_page).await.unwrap();
    assert!(browser.mux.visited().is_empty());
    browser.close().await;
    filled.leaves_nothing().await;
}

#[tokio::test]
async fn who_was_lent_a_browser_opens_a_first_page_before_another_is_started() {
    let filled = Filled::new(1, AGE_MAX).await;
    let browser = filled.pool.take(&LaunchOptions::default()).await.unwrap();
    let lent = *filled.pool.lent().back().unwrap();
    filled.is_full().await;
    assert!(filled.pool.idle()[0].born >= lent + FIRST_PAGE);
    browser.close().await;
    filled.leaves_nothing().await;
}

#[tokio::test]
async fn each_first_page_holds_one_launch_back_and_no_stream_of_them_holds_back_more() {
    let filled = Filled::new(0, AGE_MAX).await;
    let (pool, now) = (&filled.pool, Instant::now());
    let step = FIRST_PAGE / 3;
    assert_eq!(pool.held_back(now), (0, None));
    for lent in 0..30 {
        pool.lent().push_back(now + step * lent);
    }
    // As many as were lent in that time, the oldest of which is over next.
    assert_eq!(pool.held_back(now + step * 29), (3, Some(now + step * 30)));
    assert_eq!(pool.held_back(now + step * 29 + FIRST_PAGE), (0, None));
    filled.leaves_nothing().await;
}

#[tokio::test]
async fn other_options_are_launched_cold() {
    let filled = Filled::new(1, AGE_MAX).await;
    let options = LaunchOptions { viewport: (800, 600), user_agent: None };
    let browser = filled.pool.take(&options).await.unwrap();
    assert!(!filled.names().contains(&browser.name().to_owned()));
    assert_eq!(*filled.pool.warm().borrow(), 1);
    browser.close().await;
    filled.leaves_nothing().await;
}

#[tokio::test]
async fn more_than_are_warm_can_be_taken() {
    let filled = Filled::new(1, AGE_MAX).await;
    let options = LaunchOptions::default();
    let taken = futures_util::future::join_all((0..3).map(|_| filled.pool.take(&options))).await;
    let browsers: Vec<_> = taken.into_iter().map(Result::unwrap).collect();
    join_all(browsers.into_iter().map(Browser::close)).await;
    filled.is_full().await;
    filled.leaves_nothing().await;
}

#[tokio::test]
async fn a_warm_browser_that_dies_is_replaced() {
    let filled = Filled::new(1, AGE_MAX).await;
    let dead = filled.names();
    let closed = filled.pool.idle()[0].mux.clone();
    let _ = closed.command("Browser.close", serde_json::json!({})).await;
    until(LIMIT, "another takes its place", || {
        let names = filled.names();
        names.len() == 1 && names != dead
    })
    .await;
    filled.leaves_nothing().await;
}

#[tokio::test]
async fn an_old_browser_is_replaced_and_never_missing() {
    let filled = Filled::new(1, Duration::from_secs(1)).await;
    let first = filled.names();
    let mut warm = filled.pool.warm();
    warm.mark_unchanged();
    until(LIMIT, "a younger one takes its place", || {
        assert_eq!(filled.names().len(), 1);
        filled.names() != first
    })
    .await;
    filled.leaves_nothing().await;
}

#[tokio::test]
async fn filling_goes_on_when_browsers_start_again() {
    let place = Place::new();
    let mended = place.path().join("mended");
    let script = format!("test -e {} && exec {HEADLESS_SHELL} \"$@\"; exit 1", mended.display());
    // The jail runs no scripts.
    let program = place.script(&script);
    let launcher = Launcher::open(&program, &place.root(), Isolation::none(), Policy::default())
        .await
        .unwrap();
    let launcher = Arc::new(launcher);
    let pool = Pool::start(launcher, 1, CancellationToken::new(), &TaskTracker::new());
    let error = pool.take(&LaunchOptions::default()).await.unwrap_err();
    assert!(matches!(error, LaunchError::Exited { .. }), "{error:?}");
    std::fs::write(mended, "").unwrap();
    let mut warm = pool.warm();
    tokio::time::timeout(LIMIT, warm.wait_for(|warm| *warm == 1)).await.unwrap().unwrap();
    pool.close().await;
    assert_eq!(place.directories(), 0);
}

#[tokio::test]
async fn a_closed_pool_gives_nothing() {
    let filled = Filled::new(0, AGE_MAX).await;
    filled.stop.cancel();
    let error = filled.pool.take(&LaunchOptions::default()).await.unwrap_err();
    assert!(matches!(error, LaunchError::Stopping), "{error:?}");
    filled.leaves_nothing().await;
}

#[tokio::test]
async fn many_rounds_leave_no_descriptor() {
    let filled = Filled::new(1, AGE_MAX).await;
    let before = descriptors();
    for _ in 0..10 {
        filled.pool.take(&LaunchOptions::default()).await.unwrap().close().await;
        filled.is_full().await;
    }
    until(LIMIT, "descriptors are closed", || descriptors() == before).await;
    filled.leaves_nothing().await;
}

#[test]
fn pauses_between_failures_grow_to_a_bound() {
    let mut failures = Failures::default();
    let mut pauses = Vec::new();
    for _ in 0..20 {
        let now = Instant::now();
        failures.note(Err(LaunchError::Stopping));
        pauses.push(failures.retry_at.unwrap() - now);
    }
    assert!(pauses[0] < Duration::from_secs(1));
    assert!(pauses[19] > RETRY_MAX - Duration::from_secs(1));
    assert!(pauses[19] < RETRY_MAX + Duration::from_secs(1));
    failures.note(Ok(()));
    assert_eq!(failures.in_a_row, 0);
    assert!(failures.retry_at.is_none());
}
