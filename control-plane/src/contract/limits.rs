//! A row for every limit of the contract, asked for just within it and just beyond it.
//!
//! Limits that are not of the control plane, or are more than a number, have their tests
//! elsewhere: 16 clients on a browser `tests/it/limits.rs`; the end of a session and the grace
//! between two clients `tests/it/deadlines.rs`; a connect token's end `tests/it/tokens.rs`;
//! exactly as many requests as the rate allows, over replicas, `rate_limits/tests.rs`; at least
//! one owner `members/tests.rs`; how long a create waits
//! `sessions/tests/queue.rs`; sessions at once `sessions/tests/caps.rs`; the forms
//! that a proxy, a rule of egress or a storage state may have `sessions/proxy.rs`, `proto/src/egress.rs`
//! and `storage_state/tests.rs`; names, sizes and numbers of files `files/name.rs` and
//! `files/tests.rs`; how long a drain may last `agents/tests/drains.rs`.

use http::Method;
use serde_json::{Value, json};
use ulid::Ulid;

use crate::{
    people::Role,
    testing::{Answer, Call, TestApp, TestPerson, on_both_databases},
};

/// Who asks, and for what.
struct World {
    app: TestApp,
    owner: TestPerson,
    /// The path of a session of 86 000 s.
    session: String,
}

impl World {
    async fn make(app: TestApp) -> Self {
        app.quick_agent("local", 100).await;
        let long = json!({"timeout_seconds": 86_000});
        let session = app.create("long").json(&long).send().await.expect(201);
        let session = format!("/v1/sessions/{}", session["id"].as_str().unwrap());
        Self { owner: app.owner().await, session, app }
    }

    fn create(&self, body: &Value) -> Call {
        self.app.create(&Ulid::generate().to_string()).json(body)
    }

    fn label(&self, key: &str, value: &str) -> Call {
        self.create(&json!({"labels": {key: value}}))
    }

    fn extend(&self, seconds: i64) -> Call {
        let keepalive = self.app.call(Method::POST, &format!("{}/keepalive", self.session));
        keepalive.json(&json!({"extend_seconds": seconds}))
    }
}

/// A limit's name; how to ask for so much; how much is within and beyond it; and the statuses
/// of the two answers.
type Row = (&'static str, fn(&World, i64) -> Call, [i64; 2], [u16; 2]);

const NUMBERS: &[Row] = &[
    ("shortest timeout_seconds", timeout, [5, 4], [201, 422]),
    ("longest timeout_seconds", timeout, [86_400, 86_401], [201, 422]),
    ("shortest keep_alive_seconds", keep_alive, [0, -1], [201, 422]),
    ("longest keep_alive_seconds", keep_alive, [3_600, 3_601], [201, 422]),
    ("smallest width", width, [100, 99], [201, 422]),
    ("largest width", width, [7_680, 7_681], [201, 422]),
    ("smallest height", height, [100, 99], [201, 422]),
    ("largest height", height, [7_680, 7_681], [201, 422]),
    ("shortest user_agent", user_agent, [1, 0], [201, 422]),
    ("longest user_agent", user_agent, [512, 513], [201, 422]),
    ("largest storage_state of a session", state, [5 << 20, (5 << 20) + 1], [201, 422]),
    ("largest storage_state of a profile", profile, [5 << 20, (5 << 20) + 1], [201, 422]),
    ("most labels", labels, [32, 33], [201, 422]),
    ("shortest key of a label", |w, n| w.label(&many("k", n), ""), [1, 0], [201, 422]),
    ("longest key of a label", |w, n| w.label(&many("k", n), ""), [63, 64], [201, 422]),
    ("longest value of a label", |w, n| w.label("k", &many("ü", n)), [256, 257], [201, 422]),
    ("fewest regions", regions, [1, 0], [201, 422]),
    ("most regions", regions, [16, 17], [201, 422]),
    ("most entries of egress.allow", |w, n| egress(w, "allow", n, 1), [100, 101], [201, 422]),
    ("most entries of egress.deny", |w, n| egress(w, "deny", n, 1), [100, 101], [201, 422]),
    ("longest entry of egress", |w, n| egress(w, "allow", 1, n), [256, 257], [201, 422]),
    ("shortest Idempotency-Key", |w, n| w.app.create(&many("k", n)), [1, 0], [201, 400]),
    ("longest Idempotency-Key", |w, n| w.app.create(&many("k", n)), [255, 256], [201, 400]),
    ("shortest extend_seconds", World::extend, [1, 0], [200, 422]),
    ("a day in all, of which 1 s was just added", World::extend, [399, 400], [200, 422]),
    ("smallest page of sessions", |w, n| page(w, "sessions", n), [1, 0], [200, 400]),
    ("largest page of sessions", |w, n| page(w, "sessions", n), [100, 101], [200, 400]),
    ("smallest page of profiles", |w, n| page(w, "profiles", n), [1, 0], [200, 400]),
    ("largest page of profiles", |w, n| page(w, "profiles", n), [100, 101], [200, 400]),
    ("smallest page of the audit", audit, [1, 0], [200, 400]),
    ("largest page of the audit", audit, [100, 101], [200, 400]),
    ("longest slug", slug, [63, 64], [201, 422]),
];

fn many(text: &str, count: i64) -> String {
    text.repeat(usize::try_from(count).unwrap())
}

fn timeout(world: &World, seconds: i64) -> Call {
    world.create(&json!({"timeout_seconds": seconds}))
}

fn regions(world: &World, count: i64) -> Call {
    let regions = vec!["local"; usize::try_from(count).unwrap()];
    world.create(&json!({"region": regions}))
}

fn keep_alive(world: &World, seconds: i64) -> Call {
    world.create(&json!({"keep_alive_seconds": seconds}))
}

fn width(world: &World, pixels: i64) -> Call {
    world.create(&json!({"viewport": {"width": pixels, "height": 720}}))
}

fn height(world: &World, pixels: i64) -> Call {
    world.create(&json!({"viewport": {"width": 1280, "height": pixels}}))
}

fn user_agent(world: &World, characters: i64) -> Call {
    world.create(&json!({"user_agent": many("x", characters)}))
}

/// So many entries of so many bytes: names of many labels.
fn egress(world: &World, list: &str, entries: i64, bytes: i64) -> Call {
    let entry = many("x.", bytes / 2) + &many("x", bytes % 2);
    let entries: Vec<_> = (0..entries).map(|_| entry.clone()).collect();
    world.create(&json!({"egress": {list: entries}}))
}

/// A storage state of so many bytes.
fn of_size(bytes: i64) -> Value {
    let state = |value: String| {
        let item = json!({"name": "n", "value": value});
        json!({"origins": [{"origin": "https://x.test", "localStorage": [item]}]})
    };
    let frame = state(String::new()).to_string().len();
    state(many("x", bytes - i64::try_from(frame).unwrap()))
}

fn state(world: &World, bytes: i64) -> Call {
    world.create(&json!({"storage_state": of_size(bytes)}))
}

fn profile(world: &World, bytes: i64) -> Call {
    let profile = json!({"name": "n", "storage_state": of_size(bytes)});
    world.app.call(Method::POST, "/v1/profiles").json(&profile)
}

fn labels(world: &World, count: i64) -> Call {
    let labels: serde_json::Map<_, _> = (0..count).map(|n| (format!("k{n}"), json!(""))).collect();
    world.create(&json!({"labels": labels}))
}

fn page(world: &World, of: &str, items: i64) -> Call {
    world.app.get(&format!("/v1/{of}?limit={items}"))
}

fn audit(world: &World, items: i64) -> Call {
    world.owner.ws(Method::GET, &format!("/audit?limit={items}"))
}

fn slug(world: &World, characters: i64) -> Call {
    let workspace = json!({"slug": many("s", characters), "name": "N"});
    world.owner.call(Method::POST, "/workspaces").json(&workspace)
}

/// What lasts so many seconds, and what to subtract a time from to make it older.
const AGES: &[(&str, &str, i64)] = &[
    (
        "idempotency key",
        "UPDATE idempotency SET expires_us = expires_us - CAST($1 AS BIGINT)",
        86_400,
    ),
    ("magic link", "UPDATE magic_links SET expires_us = expires_us - CAST($1 AS BIGINT)", 900),
    (
        "invitation",
        "UPDATE invitations SET expires_us = expires_us - CAST($1 AS BIGINT)",
        7 * 86_400,
    ),
    (
        "refresh token",
        "UPDATE sign_ins SET refresh_expires_us = refresh_expires_us - CAST($1 AS BIGINT)",
        2_592_000,
    ),
    (
        "listing of a revoked key",
        "UPDATE api_keys SET revoked_us = revoked_us - CAST($1 AS BIGINT)",
        90 * 86_400,
    ),
    (
        "deleted workspace",
        "UPDATE workspaces SET deleted_us = deleted_us - CAST($1 AS BIGINT)",
        30 * 86_400,
    ),
    // Comes last: nobody's token is good after it.
    (
        "access token",
        "UPDATE sign_ins SET access_expires_us = access_expires_us - CAST($1 AS BIGINT)",
        3_600,
    ),
];

/// Makes one more of these, and tells what it is known by.
async fn make(world: &World, what: &str, name: &str) -> String {
    let World { app, owner, .. } = world;
    let email = format!("{name}@ventus.test");
    match what {
        "idempotency key" => {
            app.create(name).send().await.expect(201);
            name.to_owned()
        }
        "magic link" => {
            app.person(name, Role::Viewer).await;
            app.link_for(&email).await
        }
        "invitation" => {
            let invite = json!({"email": email, "role": "viewer"});
            let invite = owner.ws(Method::POST, "/invitations").json(&invite);
            app.mailed(&email, invite, 201).await
        }
        "access token" => app.person(name, Role::Viewer).await.token,
        "refresh token" => app.person(name, Role::Viewer).await.refresh,
        "listing of a revoked key" => {
            let (id, _) = owner.key(&json!({"label": name})).await;
            owner.ws(Method::DELETE, &format!("/api-keys/{id}")).send().await.expect(204);
            id
        }
        "deleted workspace" => {
            let workspace = json!({"slug": name, "name": "N"});
            owner.call(Method::POST, "/workspaces").json(&workspace).send().await.expect(201);
            let path = format!("/ws/{name}");
            owner.call(Method::DELETE, &path).send().await.expect(204);
            path
        }
        _ => panic!("how is {what} made?"),
    }
}

/// Whether one of these still does what it is for. It may do so only once.
async fn is_good(world: &World, what: &str, made: &str) -> bool {
    let World { app, owner, .. } = world;
    match what {
        // A new session is made when the key no longer stands for the old one.
        "idempotency key" => app.create(made).send().await.status == 200,
        "magic link" | "invitation" => app.exchange(made).await.status == 200,
        "access token" => app.get("/v1/dashboard/me").key(made).send().await.status == 200,
        "refresh token" => {
            let refresh = app.open(Method::POST, "/v1/dashboard/auth/refresh");
            refresh.json(&json!({"refresh_token": made})).send().await.status == 200
        }
        "listing of a revoked key" => {
            owner.ws(Method::GET, "/api-keys").send().await.text.contains(made)
        }
        "deleted workspace" => {
            let restore = owner.call(Method::POST, &format!("{made}/restore"));
            restore.send().await.status == 200
        }
        _ => panic!("what is {what} for?"),
    }
}

/// Requests a minute and a day, of each plan.
const RATES: &[(&str, i64, Option<i64>)] = &[
    ("starter", 60, Some(10_000)),
    ("pro", 300, Some(100_000)),
    // As these tests configure it: the default.
    ("enterprise", 6_000, None),
];

/// The last request of a window and the one after it, in a process that has just started.
async fn last_and_next(app: &TestApp, in_minute: i64, in_day: i64) -> [Answer; 2] {
    let (minute, day) = (in_minute.to_string(), in_day.to_string());
    let sql = "UPDATE rate_limits SET in_minute = CAST($1 AS BIGINT), in_day = CAST($2 AS BIGINT)";
    app.sql(sql, &[&minute, &day]).await;
    let fresh = app.another().await;
    let answers = [fresh.get("/v1/regions").send().await, fresh.get("/v1/regions").send().await];
    fresh.app.db.close().await;
    answers
}

on_both_databases! {
    async fn every_number_is_taken_within_its_limit_and_refused_beyond_it(app: TestApp) {
        let world = World::make(app).await;
        for (name, ask, [within, beyond], [taken, refused]) in NUMBERS {
            let answer = ask(&world, *beyond).send().await;
            assert_eq!(answer.status, *refused, "{name}: {beyond}: {}", answer.text);
            let answer = ask(&world, *within).send().await;
            assert_eq!(answer.status, *taken, "{name}: {within}: {}", answer.text);
        }
    }

    async fn what_is_too_long_is_cut_or_replaced_where_it_is_no_fault(app: TestApp) {
        let world = World::make(app).await;
        for (length, kept) in [(1, true), (128, true), (129, false)] {
            let given = many("r", length);
            let answer = world.app.get("/v1/health").header("x-request-id", &given).send().await;
            assert_eq!(answer.headers["x-request-id"] == given, kept, "{length}");
        }
        for (asked, granted) in [(0, 0), (60, 60), (61, 60)] {
            let create = world.create(&json!({})).header("prefer", &format!("wait={asked}"));
            let answer = create.send().await;
            assert_eq!(answer.headers["preference-applied"], format!("wait={granted}"));
        }
        for (length, kept) in [(512, 512), (513, 512)] {
            let key = world.owner.ws(Method::POST, "/api-keys").json(&json!({"label": "k"}));
            key.header("user-agent", &many("u", length)).send().await.expect(201);
            let last = audit(&world, 1).send().await.expect(200);
            assert_eq!(last["items"][0]["user_agent"], many("u", kept));
        }
    }

    async fn what_lasts_for_a_time_lasts_that_long(app: TestApp) {
        let world = World::make(app).await;
        for (n, (what, sql, seconds)) in AGES.iter().copied().enumerate() {
            let early = make(&world, what, &format!("early-{n}")).await;
            let late = make(&world, what, &format!("late-{n}")).await;
            let older = async |seconds: i64| {
                let us = (seconds * 1_000_000).to_string();
                world.app.sql(sql, &[&us]).await;
            };
            // A minute for the test itself.
            older(seconds - 60).await;
            assert!(is_good(&world, what, &early).await, "{what} within its time");
            older(61).await;
            assert!(!is_good(&world, what, &late).await, "{what} beyond its time");
        }
    }

    async fn a_plan_allows_its_requests_a_minute_and_a_day(app: TestApp) {
        app.get("/v1/regions").send().await.expect(200);
        app.app.rate_limits.save(&app.app.db).await.unwrap();
        // So that no window ends while the test runs.
        app.sql("UPDATE rate_limits SET minute = minute + 10000, day = day + 7", &[]).await;
        for (plan, per_minute, per_day) in RATES.iter().copied() {
            app.sql("UPDATE workspaces SET plan = $1", &[plan]).await;
            let in_day = per_day.unwrap_or(1_000_000_000);
            let windows = [(per_minute - 1, 0, Some(per_minute)), (0, in_day - 1, per_day)];
            for (in_minute, in_day, limit) in windows {
                let [last, next] = last_and_next(&app, in_minute, in_day).await;
                assert_eq!(last.status, 200, "{plan}: {}", last.text);
                let Some(limit) = limit else {
                    assert_eq!(next.status, 200, "{plan}: {}", next.text);
                    continue;
                };
                assert_eq!(last.headers["x-ratelimit-limit"], limit.to_string(), "{plan}");
                assert_eq!(last.headers["x-ratelimit-remaining"], "0", "{plan}");
                let wait: i64 = next.headers["retry-after"].to_str().unwrap().parse().unwrap();
                assert!(wait >= 1, "{plan}");
                next.problem(429, "rate-limited");
            }
        }
    }
}
