mod plans;

use std::collections::HashSet;

use futures_util::FutureExt;
use sqlx::{Executor, SqlSafeStr};

use super::*;
use crate::{
    agents, audit, files, hints, invitations, join_tokens, keys, members, metrics, outbox, people,
    profiles, rate_limits, regions, retention, secrets, sessions, sign_in, signing,
    testing::{OWNER, TestApp, on_both_databases, until},
    workspaces,
};

/// Every text that both databases run, then those of one alone.
fn texts() -> [Vec<&'static str>; 3] {
    [
        [
            COMMON,
            agents::drain::COMMON,
            agents::object::COMMON,
            agents::roster::COMMON,
            agents::store::COMMON,
            audit::COMMON,
            files::orders::COMMON,
            files::store::COMMON,
            invitations::store::COMMON,
            join_tokens::store::COMMON,
            keys::store::COMMON,
            members::store::COMMON,
            metrics::COMMON,
            outbox::COMMON,
            people::store::COMMON,
            profiles::store::COMMON,
            rate_limits::store::COMMON,
            regions::COMMON,
            &secrets::texts(),
            secrets::store::COMMON,
            sessions::idempotency::COMMON,
            sessions::captures::COMMON,
            sessions::denials::COMMON,
            sessions::inputs::COMMON,
            sessions::store::COMMON,
            sign_in::store::COMMON,
            signing::COMMON,
            workspaces::store::COMMON,
        ]
        .concat(),
        [
            &agents::slots::texts(0),
            people::store::SQLITE_ONLY,
            rate_limits::store::SQLITE_ONLY,
            &outbox::halves(0),
            &sessions::store::halves(0),
            &files::store::halves(0),
            &retention::texts(0),
            workspaces::store::SQLITE_ONLY,
        ]
        .concat(),
        [
            POSTGRES_ONLY,
            &agents::slots::texts(1),
            hints::POSTGRES_ONLY,
            people::store::POSTGRES_ONLY,
            rate_limits::store::POSTGRES_ONLY,
            &outbox::halves(1),
            &sessions::store::halves(1),
            &files::store::halves(1),
            &retention::texts(1),
            sign_in::store::POSTGRES_ONLY,
            signing::POSTGRES_ONLY,
            workspaces::store::POSTGRES_ONLY,
        ]
        .concat(),
    ]
}

const SLUGS: &str = "SELECT slug FROM workspaces ORDER BY slug";

async fn slugs(app: &TestApp) -> Vec<String> {
    let mut tx = app.app.db.read().await.unwrap();
    on!(tx, |db| sqlx::query_scalar(SLUGS).fetch_all(db).await).unwrap()
}

on_both_databases! {
    async fn every_text_can_be_prepared(app: TestApp) {
        let [common, sqlite, postgres] = texts();
        let mut tx = app.tx().await;
        let own = dialect!(tx, sqlite, postgres);
        for text in common.into_iter().chain(own) {
            let prepared = on!(tx, |db| db.prepare(text.into_sql_str()).await.map(drop));
            assert!(prepared.is_ok(), "{prepared:?}: {text}");
        }
    }

    async fn an_operation_that_is_dropped_leaves_nothing(app: TestApp) {
        let mut tx = app.tx().await;
        workspaces::insert(&mut tx, "dropped", "").await.unwrap();
        drop(tx);
        assert_eq!(slugs(&app).await, ["default"]);
    }

    async fn rows_that_are_added_are_there_with_the_commit_in_order(app: TestApp) {
        app.sql("CREATE TABLE counted (n BIGINT, what TEXT)", &[]).await;
        let next = "INSERT INTO counted SELECT COALESCE(MAX(n), 0) + CAST($1 AS BIGINT), $2 \
             FROM counted";
        let plain = "INSERT INTO counted VALUES ($2, CAST($1 AS TEXT))";
        let mut dropped = app.tx().await;
        dropped.add(plain, ["dropped".into(), 9.into()]).await.unwrap();
        drop(dropped);
        let mut tx = app.tx().await;
        tx.add(next, [1.into(), "first".into()]).await.unwrap();
        tx.add(plain, [Bind::Text(None), 40.into()]).await.unwrap();
        tx.add(next, [2.into(), "second".into()]).await.unwrap();
        tx.commit().await.unwrap();
        let rows = "SELECT COUNT(*) FROM counted \
             WHERE (n, what) IN ((1, 'first'), (42, 'second')) OR (n = 40 AND what IS NULL)";
        assert_eq!((app.count(rows).await, app.count("SELECT COUNT(*) FROM counted").await), (3, 3));
    }

    async fn an_operation_whose_rows_cannot_be_added_leaves_nothing(app: TestApp) {
        app.sql("CREATE TABLE once (n BIGINT PRIMARY KEY)", &[]).await;
        let mut tx = app.tx().await;
        workspaces::insert(&mut tx, "half", "").await.unwrap();
        tx.add("INSERT INTO once VALUES ($1)", [1.into()]).await.unwrap();
        let failed = match tx.add("INSERT INTO once VALUES ($1 + 0)", [1.into()]).await {
            Ok(()) => tx.commit().await.is_err(),
            Err(_) => true,
        };
        assert!(failed);
        assert_eq!(slugs(&app).await, ["default"]);
        assert_eq!(app.count("SELECT COUNT(*) FROM once").await, 0);
    }

    async fn an_operation_that_fails_takes_no_other_with_it(app: TestApp) {
        let operations: Vec<_> = (0..60).map(|n| {
            let app = app.clone();
            tokio::spawn(async move {
                let mut tx = app.tx().await;
                let slug = format!("w{n:02}");
                workspaces::insert(&mut tx, &slug, "").await.unwrap();
                match n % 3 {
                    0 => {
                        workspaces::insert(&mut tx, "default", "").await.unwrap_err();
                        None
                    }
                    1 => None,
                    _ => {
                        tx.commit().await.unwrap();
                        // It is there for everybody as soon as the commit has returned.
                        assert!(slugs(&app).await.contains(&slug));
                        Some(slug)
                    }
                }
            })
        }).collect();
        let mut expected = HashSet::from(["default".to_owned()]);
        for operation in operations {
            expected.extend(operation.await.unwrap());
        }
        assert_eq!(slugs(&app).await.into_iter().collect::<HashSet<_>>(), expected);
    }

    async fn an_operation_that_is_cancelled_as_it_begins_leaves_no_transaction(app: TestApp) {
        let other = app.another().await;
        let open = "SELECT COUNT(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
        // At every point at which it may wait for the database.
        for polls in 1..20 {
            let mut begin = Box::pin(app.app.db.begin());
            for _ in 0..polls {
                if begin.as_mut().now_or_never().is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(begin);
            if app.app.db.is_shared() {
                until(async || other.count(open).await == 0).await;
            }
        }
        other.app.db.close().await;
    }

    async fn an_operation_that_is_cancelled_blocks_nobody(app: TestApp) {
        let (began, has_begun) = tokio::sync::oneshot::channel();
        let cancelled = tokio::spawn({
            let app = app.clone();
            async move {
                let mut tx = app.tx().await;
                workspaces::insert(&mut tx, "cancelled", "").await.unwrap();
                began.send(()).unwrap();
                std::future::pending::<()>().await;
            }
        });
        has_begun.await.unwrap();
        let blocked = tokio::spawn({
            let app = app.clone();
            async move {
                let mut tx = app.tx().await;
                workspaces::insert(&mut tx, "first", "").await.unwrap();
                tx.commit().await.unwrap();
            }
        });
        cancelled.abort();
        assert!(cancelled.await.unwrap_err().is_cancelled());
        blocked.await.unwrap();
        let mut last = app.tx().await;
        workspaces::insert(&mut last, "last", "").await.unwrap();
        last.commit().await.unwrap();
        assert_eq!(slugs(&app).await, ["default", "first", "last"]);
    }

    async fn the_clock_is_the_databases_and_stands_still_within_an_operation(app: TestApp) {
        let ours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        let mut tx = app.tx().await;
        let now = tx.now_us().await.unwrap();
        assert!((now - i64::try_from(ours).unwrap()).abs() < 60_000_000);
        assert_eq!(tx.now_us().await.unwrap(), now);
    }

    async fn a_second_start_finds_everything_as_it_was(app: TestApp) {
        let again = Db::open(&app.app.config.database_url).await.unwrap();
        assert!(workspaces::bootstrap(&again, &OWNER.parse().unwrap(), None).await.unwrap().is_none());
        again.close().await;
        assert_eq!(slugs(&app).await, ["default"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_together_make_one_workspace() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/x.db", directory.path().display());
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move {
                let db = Db::open(&url).await.unwrap();
                let key = workspaces::bootstrap(&db, &OWNER.parse().unwrap(), None).await.unwrap();
                db.close().await;
                key
            })
        })
        .collect();
    let mut keys = 0;
    for start in starts {
        keys += i32::from(start.await.unwrap().is_some());
    }
    assert_eq!(keys, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_that_come_together_share_a_commit() {
    let directory = tempfile::tempdir().unwrap();
    let db = Db::open(&format!("sqlite://{}/x.db", directory.path().display())).await.unwrap();
    // The one that holds the connection keeps the others together.
    let first = db.begin().await.unwrap();
    let operations: Vec<_> = (0..40)
        .map(|n| {
            let db = db.clone();
            tokio::spawn(async move {
                let mut tx = db.begin().await.unwrap();
                workspaces::insert(&mut tx, &format!("w{n}"), "").await.unwrap();
                tx.commit().await.unwrap();
            })
        })
        .collect();
    let Db::Sqlite { writer, .. } = &db else { unreachable!() };
    until(async || writer.waiting() >= 40).await;
    let before = writer.commits();
    first.commit().await.unwrap();
    for operation in operations {
        operation.await.unwrap();
    }
    assert_eq!(writer.commits() - before, 1);
    db.close().await;
}

#[tokio::test]
async fn another_scheme_is_refused() {
    let error = Db::open("mysql://secret@host/db").await.err().unwrap();
    assert!(!format!("{error:#}").contains("secret"));
}
