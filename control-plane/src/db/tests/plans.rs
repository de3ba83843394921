//! No statement reads a whole large table: PostgreSQL says how it would run each text that the
//! product has, on a database with many rows.

use std::collections::BTreeSet;

use sqlx::AssertSqlSafe;

use super::{super::Link, texts};
use crate::testing::{TestApp, on_postgres, on_sqlite};

/// Tables that grow with use. All others have a row for each agent, key, person or the like,
/// or keep their rows for minutes.
const LARGE: [&str; 5] = ["sessions", "session_events", "idempotency", "audit", "outbox"];

/// Which texts may: those that delete what is left of a workspace, 500 rows in a turn, which
/// happens once for each. On a table where that is less work PostgreSQL takes the index.
const MAY: [&str; 3] = [
    "FROM audit WHERE workspace_id = $1 LIMIT 500",
    "FROM outbox WHERE workspace_id = $1 LIMIT 500",
    "FROM sessions WHERE workspace_id = $1 ORDER BY id LIMIT 500",
];

/// A region with many agents, sessions that run, and ten times as many that are over.
const FILL: [&str; 9] = [
    // Neither foreign keys nor triggers: only plans are asked for.
    "SET LOCAL session_replication_role = replica",
    "INSERT INTO workspaces (id, slug, name, created_us) \
     SELECT 'W' || n, 'w' || n, '', 1 FROM generate_series(0, 49) n",
    "INSERT INTO agents (id, region, instance, epoch, capacity, warm, data_plane_url, \
     browser_version, lease_expires_us, connected_us, in_use) \
     SELECT 'A' || n, 'eu', 'I', 1, 100, 0, '', '', 1000000000, 1, 10 \
     FROM generate_series(0, 499) n",
    "INSERT INTO sessions (id, workspace_id, region, agent_id, status, timeout_seconds, \
     keep_alive_seconds, viewport_width, viewport_height, labels, slot_held, created_us, \
     ended_us, expires_us) SELECT 'S' || n, 'W' || n % 50, 'eu', 'A' || n % 500, \
     CASE n % 11 WHEN 0 THEN 'RUNNING' ELSE 'COMPLETED' END, 300, 60, 1, 1, '{}', \
     CASE n % 11 WHEN 0 THEN 1 ELSE 0 END, n, CASE n % 11 WHEN 0 THEN NULL ELSE n END, n \
     FROM generate_series(1, 55000) n",
    "INSERT INTO session_events (session_id, seq, status, at_us) \
     SELECT 'S' || n, seq, 'RUNNING', n FROM generate_series(1, 55000) n, generate_series(1, 2) seq",
    "INSERT INTO idempotency (workspace_id, key, fingerprint, session_id, created_us, expires_us) \
     SELECT 'W' || n % 50, 'k' || n, '', 'S' || n, n, n FROM generate_series(1, 55000) n",
    "INSERT INTO audit (id, workspace_id, at_us, actor_kind, actor_id, action, target_kind, \
     target_id, detail) SELECT 'D' || n, 'W' || n % 50, n, 'system', 'x', 'session.create', \
     'session', 'S' || n, '{}' FROM generate_series(1, 55000) n",
    "INSERT INTO outbox (id, workspace_id, kind, subject_id, payload, created_us) \
     SELECT 'O' || n, 'W' || n % 50, 'session.transition', 'S' || n, '{}', n \
     FROM generate_series(1, 55000) n",
    "ANALYZE",
];

async fn fill(app: &TestApp) {
    let mut tx = app.tx().await;
    let Link::Postgres(db) = tx.link() else { unreachable!() };
    for fill in FILL {
        sqlx::raw_sql(fill).execute(&mut *db).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// How many parameters a text has.
fn parameters(text: &str) -> usize {
    (1..20).take_while(|n| text.contains(&format!("${n}"))).count()
}

async fn plan(app: &TestApp, name: &str, text: &str) -> Vec<String> {
    let mut tx = app.tx().await;
    let Link::Postgres(db) = tx.link() else { unreachable!() };
    // As it is planned once and for all: with values that are not known.
    let generic = "SET LOCAL plan_cache_mode = force_generic_plan";
    sqlx::raw_sql(generic).execute(&mut *db).await.unwrap();
    let prepare = AssertSqlSafe(format!("PREPARE {name} AS {text}"));
    sqlx::raw_sql(prepare).execute(&mut *db).await.unwrap();
    let values = vec!["NULL"; parameters(text)].join(", ");
    let values = if values.is_empty() { values } else { format!("({values})") };
    let explain = AssertSqlSafe(format!("EXPLAIN (COSTS OFF) EXECUTE {name}{values}"));
    let lines = sqlx::query_scalar(explain).persistent(false).fetch_all(db).await;
    lines.unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The large tables that a plan reads as a whole.
fn scanned(plan: &[String]) -> BTreeSet<&'static str> {
    let scans = |line: &str, table: &str| {
        line.split_once("Seq Scan on ").is_some_and(|(_, of)| of.split(' ').next() == Some(table))
    };
    LARGE.into_iter().filter(|table| plan.iter().any(|line| scans(line, table))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_reads_a_whole_large_table() {
    async fn story(app: TestApp) {
        fill(&app).await;
        let whole = plan(&app, "whole", "SELECT COUNT(*) FROM sessions WHERE proxy_url = $1").await;
        assert_eq!(scanned(&whole), BTreeSet::from(["sessions"]), "a check that can fail");
        let [common, _, postgres] = texts();
        let is_planned = |text: &&str| {
            ["SELECT", "INSERT", "UPDATE", "DELETE"].contains(&text.split(' ').next().unwrap())
        };
        let mut wrong = Vec::new();
        for (n, text) in common.into_iter().chain(postgres).filter(is_planned).enumerate() {
            let plan = plan(&app, &format!("text_{n}"), text).await;
            let scanned = scanned(&plan);
            if !scanned.is_empty() && !MAY.iter().any(|part| text.contains(part)) {
                wrong.push(format!("{scanned:?}: {text}\n{}", plan.join("\n")));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    }
    on_postgres(story).await;
}

/// What is read of an index for a page of sessions, of sessions by status, and of what was done.
const BEGINS: [&str; 3] = [
    "Index Cond: ((workspace_id = $1) AND (id < $2))",
    "Index Cond: ((workspace_id = $1) AND (status = 'ERRORED'::text) AND (id < $2))",
    "Index Cond: ((workspace_id = $1) AND (id < $2))",
];

/// The texts that read those pages, for which an index has the page as it is.
fn pages([common, one, other]: [Vec<&'static str>; 3], database: usize) -> [&'static str; 3] {
    let own = if database == 0 { one } else { other };
    let all = [own, common].concat();
    let page = |table: &str, is_by_status: bool| {
        let from = format!("FROM {table} WHERE workspace_id = $1 AND id < $2");
        let is_it = |text: &&&str| {
            text.contains(&from)
                && text.contains("UNION") == is_by_status
                && !text.contains("region =")
        };
        let mut found = all.iter().filter(is_it);
        let text = found.next().unwrap_or_else(|| panic!("no page of {table}"));
        assert_eq!(found.next(), None);
        *text
    };
    [page("sessions", false), page("sessions", true), page("audit", false)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_read_from_where_it_begins_by_postgresql() {
    async fn story(app: TestApp) {
        fill(&app).await;
        let check = async |round: &str| {
            for (n, (text, begins)) in pages(texts(), 1).into_iter().zip(BEGINS).enumerate() {
                let plan = plan(&app, &format!("{round}_{n}"), text).await.join("\n");
                // The index of the workspace has sessions of all states.
                let strays = text.contains("UNION") && plan.contains("sessions_page");
                assert!(plan.contains(begins) && !strays, "{round}: {text}\n{plan}");
            }
        };
        check("some_running").await;
        let over = "UPDATE sessions SET status = 'COMPLETED', ended_us = 1, slot_held = 0";
        app.sql(over, &[]).await;
        app.sql("ANALYZE sessions", &[]).await;
        check("none_running").await;
    }
    on_postgres(story).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_read_from_where_it_begins_by_sqlite() {
    async fn story(app: TestApp) {
        let of_one = "(workspace_id=? AND id<?)";
        let expected = [(of_one, 1), ("(workspace_id=? AND status=? AND id<?)", 2), (of_one, 1)];
        for (text, (by, times)) in pages(texts(), 0).into_iter().zip(expected) {
            let steps = app.steps(text).await;
            let reads = steps.iter().filter(|step| step.ends_with(by)).count();
            assert_eq!(reads, times, "{text}\n{steps:?}");
        }
    }
    on_sqlite(story).await;
}
