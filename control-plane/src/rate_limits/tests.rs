use http::Method;
use proto::id::SessionId;
use serde_json::json;

use super::*;
use crate::testing::{Answer, REQUESTS_PER_MINUTE, TestApp, on_both_databases};

const LIMITS: Limits = Limits { per_minute: 2, per_day: Some(3) };
/// Moves every window on, so that none ends while a test runs.
const LATER: &str = "UPDATE rate_limits SET minute = minute + 10000, day = day + 7";

/// The three headers.
fn told(answer: &Answer) -> Option<[i64; 3]> {
    let number = |name: &str| answer.headers.get(name)?.to_str().ok()?.parse().ok();
    Some([
        number("x-ratelimit-limit")?,
        number("x-ratelimit-remaining")?,
        number("x-ratelimit-reset")?,
    ])
}

/// Begins the windows of the test's key and saves them, with this many requests in the minute.
async fn used(app: &TestApp, in_minute: i64) -> TestApp {
    app.get("/v1/regions").send().await.expect(200);
    app.app.rate_limits.save(&app.app.db).await.unwrap();
    app.sql(LATER, &[]).await;
    let requests = format!("{in_minute}");
    app.sql("UPDATE rate_limits SET in_minute = CAST($1 AS BIGINT)", &[&requests]).await;
    app.another().await
}

/// One request with [`LIMITS`], counted by a process that has only just started.
async fn take(app: &TestApp, key: KeyId) -> Verdict {
    let counts = RateLimits::default();
    let mut tx = app.app.db.read().await.unwrap();
    let verdict = counts.take(&mut tx, key, LIMITS).await.unwrap();
    drop(tx);
    counts.save(&app.app.db).await.unwrap();
    verdict
}

on_both_databases! {
    async fn every_answer_to_a_good_key_tells_what_is_left(app: TestApp) {
        let app = used(&app, 10).await;
        let limit = i64::from(REQUESTS_PER_MINUTE.get());
        let none = app.key_for(app.workspace, &[]).await;
        let one = format!("/v1/sessions/{}", SessionId::generate());
        let mut resets = Vec::new();
        for (n, (call, status)) in [
            (app.get("/v1/regions"), 200),
            (app.get(&one), 404),
            (app.get("/v1/sessions?limit=0"), 400),
            (app.create("k").json(&json!({"timeout_seconds": 1})), 422),
            (app.create("k").header("content-type", "text/plain"), 415),
            (app.call(Method::POST, "/v1/sessions"), 400),
            (app.create("k").header("prefer", "wait=0"), 503),
        ].into_iter().enumerate() {
            let answer = call.send().await;
            assert_eq!(answer.status, status, "{}", answer.text);
            let [told_limit, remaining, reset] = told(&answer).unwrap();
            assert_eq!((told_limit, remaining), (limit, limit - 11 - i64::try_from(n).unwrap()));
            resets.push(reset);
        }
        resets.dedup();
        assert_eq!(resets.len(), 1);
        assert_eq!(resets[0] % 60, 0);
        // Each key counts for itself, and 403 is an answer to a good key too.
        let refused = app.get("/v1/regions").key(&none).send().await;
        assert_eq!(told(&refused).unwrap()[..2], [limit, limit - 1]);
        refused.problem(403, "forbidden");
        // Whose key is not good learns nothing, and where none is needed there is no limit.
        let unknown = app.get("/v1/regions").key("vs_x.y").send().await;
        assert_eq!(told(&unknown), None);
        assert_eq!(told(&app.get("/v1/health").send().await), None);
    }

    async fn what_is_too_much_is_refused_before_the_scope_is_looked_at(app: TestApp) {
        let limit = REQUESTS_PER_MINUTE.get();
        let app = used(&app, i64::from(limit) - 1).await;
        app.get("/v1/regions").send().await.expect(200);
        app.sql("UPDATE api_keys SET scopes = ''", &[]).await;
        let answer = app.get("/v1/regions").send().await;
        let [_, remaining, reset] = told(&answer).unwrap();
        assert_eq!(remaining, 0);
        let wait: i64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!(wait >= 1 && wait <= reset);
        answer.problem(429, "rate-limited");
        // A bad key is none of the limit's business.
        app.get("/v1/regions").key("vs_x.y").send().await.problem(401, "unauthorized");
        // What was refused was not counted.
        app.app.rate_limits.save(&app.app.db).await.unwrap();
        let counted = app.count("SELECT in_minute FROM rate_limits").await;
        assert_eq!(counted, i64::from(limit));
    }

    async fn replicas_let_exactly_as_many_pass_as_the_limit_says(app: TestApp) {
        const ROOM: usize = 100;
        let used_up = i64::from(REQUESTS_PER_MINUTE.get()) - i64::try_from(ROOM).unwrap();
        let one = used(&app, used_up).await;
        // SQLite has one process, so there the other replica is the same one.
        let two = match &one.app.db {
            Db::Sqlite { .. } => one.clone(),
            Db::Postgres(_) => one.another().await,
        };
        let requests: Vec<_> = (0..4 * ROOM).map(|n| {
            let call = if n % 2 == 0 { one.get("/v1/regions") } else { two.get("/v1/regions") };
            tokio::spawn(call.send())
        }).collect();
        let mut left = Vec::new();
        for request in requests {
            let answer = request.await.unwrap();
            let [_, remaining, _] = told(&answer).unwrap();
            match answer.status {
                200 => left.push(remaining),
                _ => drop(answer.problem(429, "rate-limited")),
            }
        }
        // Each that passed was told another number, down to none.
        left.sort_unstable();
        assert_eq!(left, (0..i64::try_from(ROOM).unwrap()).collect::<Vec<_>>());
    }

    async fn a_window_that_is_over_counts_no_more(app: TestApp) {
        let key = KeyId::generate();
        assert!(take(&app, key).await.passed);
        app.sql(LATER, &[]).await;
        let second = take(&app, key).await;
        assert_eq!((second.passed, second.limit, second.remaining), (true, 2, 0));
        let third = take(&app, key).await;
        assert_eq!((third.passed, third.limit, third.reset % 60), (false, 2, 0));
        // Another minute of the same day: it has room for one request more.
        app.sql("UPDATE rate_limits SET minute = minute - 20000", &[]).await;
        let fourth = take(&app, key).await;
        assert_eq!((fourth.passed, fourth.limit, fourth.remaining), (true, 3, 0));
        assert_eq!(fourth.reset % DAY_SECONDS, 0);
        let fifth = take(&app, key).await;
        assert_eq!((fifth.passed, fifth.limit), (false, 3));
        // Another day, and the minute that it begins with.
        let before = "UPDATE rate_limits SET minute = minute - 20000, day = day - 20";
        app.sql(before, &[]).await;
        let sixth = take(&app, key).await;
        assert_eq!((sixth.passed, sixth.limit, sixth.remaining), (true, 2, 1));
    }

    async fn counts_of_days_gone_by_are_deleted(app: TestApp) {
        let (old, new) = (KeyId::generate(), KeyId::generate());
        take(&app, old).await;
        app.sql("UPDATE rate_limits SET day = day - 1", &[]).await;
        take(&app, new).await;
        crate::retention::sweep(&app.app).await.unwrap();
        let mut tx = app.app.db.read().await.unwrap();
        assert_eq!(store::load(&mut tx, old).await.unwrap(), None);
        assert!(store::load(&mut tx, new).await.unwrap().is_some());
    }
}

#[test]
fn the_limits_are_those_of_the_plan() {
    let config = crate::testing::config("sqlite://");
    let of = |plan| {
        let limits = Limits::of(plan, &config);
        (limits.per_minute, limits.per_day)
    };
    assert_eq!(of(Plan::Starter), (60, Some(10_000)));
    assert_eq!(of(Plan::Pro), (300, Some(100_000)));
    assert_eq!(of(Plan::Enterprise), (6_000, None));
}

#[test]
fn the_window_with_less_room_is_told() {
    let told = |in_minute, in_day, limits| {
        let counts = Counts { minute: 2_880, in_minute, day: 2, in_day };
        let verdict = Verdict::new(counts, true, 172_800, limits);
        (verdict.limit, verdict.remaining, verdict.reset)
    };
    let (minute, day) = (172_860, 259_200);
    let both = Limits { per_minute: 60, per_day: Some(1_000) };
    assert_eq!(told(1, 1, both), (60, 59, minute));
    assert_eq!(told(1, 999, both), (1_000, 1, day));
    assert_eq!(told(60, 1_000, both), (1_000, 0, day));
    assert_eq!(told(0, 0, Limits { per_minute: 60, per_day: None }), (60, 60, minute));
    // A plan that was cut down may have been overdrawn.
    assert_eq!(told(300, 300, both), (60, 0, minute));
}

#[test]
fn a_refusal_asks_for_a_second_at_least() {
    let counts = Counts { minute: 1, in_minute: 2, day: 0, in_day: 2 };
    for (now_seconds, wait) in [(60, "60"), (119, "1"), (120, "1"), (500, "1")] {
        let verdict = Verdict::new(counts, false, now_seconds, LIMITS);
        let problem = verdict.admit(&Extensions::new()).unwrap_err();
        assert!(format!("{problem:?}").contains(&format!("\"retry-after\", \"{wait}\"")));
    }
}
