use std::collections::HashSet;

use http::Method;
use serde_json::json;

use super::*;
use crate::{
    db::Link,
    files::Source,
    testing::{TestApp, id_of, on_both_databases, on_postgres, on_sqlite},
};

/// Everything of a session is in one of these.
const OF_SESSIONS: &[&str] = &[
    "SELECT COUNT(*) FROM sessions",
    "SELECT COUNT(DISTINCT session_id) FROM session_events",
    "SELECT COUNT(*) FROM idempotency",
    "SELECT COUNT(DISTINCT session_id) FROM session_files",
];

/// A session with a file that has ended and given its slot back.
async fn finished(app: &TestApp, key: &str) -> String {
    let id = id_of(&app.create(key).send().await.expect(201));
    let source = Source::Caller(app.workspace);
    files::tests::store(app, id, source, "a.txt", b"content").await.unwrap();
    app.call(Method::DELETE, &format!("/v1/sessions/{id}")).send().await.expect(204);
    let gone = async || !app.session(id).await.slot_held;
    crate::testing::until(gone).await;
    id.to_string()
}

on_both_databases! {
    async fn a_session_goes_30_days_after_its_end_and_all_that_is_its_own_with_it(app: TestApp) {
        app.quick_agent("local", 3).await;
        let profile = json!({"name": "kept", "storage_state": {}});
        app.call(Method::POST, "/v1/profiles").json(&profile).send().await.expect(201);
        let old = finished(&app, "old").await;
        let recent = finished(&app, "recent").await;
        let lives = id_of(&app.create("lives").send().await.expect(201)).to_string();
        let denial = "INSERT INTO egress_denials VALUES ($1, 'x', 1, 'r', 1, 1, 1)";
        app.sql(denial, &[&old]).await;
        let day = "UPDATE sessions SET ended_us = ended_us - 2591900000000 WHERE id = $1";
        app.sql(day, &[&old]).await;
        sweep(&app.app).await.unwrap();
        assert_eq!(app.count(OF_SESSIONS[0]).await, 3, "not before");
        app.sql("UPDATE sessions SET ended_us = ended_us - 200000000 WHERE id = $1", &[&old]).await;
        // One that is still to be ended on its agent keeps its slot, and its row.
        let held = "UPDATE sessions SET ended_us = 1, slot_held = 1, agent_id = $2 WHERE id = $1";
        let silent = app.agent("eu", 1).await.to_string();
        app.sql(held, &[&recent, &silent]).await;
        sweep(&app.app).await.unwrap();
        app.get(&format!("/v1/sessions/{old}")).send().await.problem(404, "not-found");
        for (id, count) in [(&recent, 2), (&lives, 2)] {
            app.get(&format!("/v1/sessions/{id}")).send().await.expect(200);
            for sql in &OF_SESSIONS[..3] {
                assert_eq!(app.count(sql).await, count, "{sql}");
            }
        }
        assert_eq!(app.count(OF_SESSIONS[3]).await, 1);
        assert_eq!(app.count("SELECT COUNT(*) FROM file_chunks").await, 1);
        assert_eq!(app.count("SELECT COUNT(*) FROM egress_denials").await, 0);
        assert_eq!(app.count("SELECT COUNT(*) FROM profiles").await, 1);
    }

    async fn what_is_more_than_a_transaction_takes_goes_in_several(app: TestApp) {
        let rows = "INSERT INTO outbox SELECT 'x' || n, id, 'k', 's', payload, 1 FROM workspaces, \
            (WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 1100) \
            SELECT n, payload FROM r, (SELECT detail AS payload FROM audit LIMIT 1) AS p) AS all_rows";
        app.agent("local", 1).await;
        app.create("k").header("prefer", "respond-async").send().await.expect(201);
        app.sql("DELETE FROM outbox", &[]).await;
        assert_eq!(app.sql(rows, &[]).await, 1100);
        sweep(&app.app).await.unwrap();
        assert_eq!(app.count("SELECT COUNT(*) FROM outbox").await, 0);
    }

    async fn the_audit_log_goes_after_a_year(app: TestApp) {
        app.agent("local", 2).await;
        for key in ["old", "new"] {
            app.create(key).header("prefer", "respond-async").send().await.expect(201);
            app.sql("UPDATE audit SET at_us = at_us - 31536000000000", &[]).await;
            if key == "old" {
                app.sql("UPDATE audit SET at_us = at_us - 1000000", &[]).await;
            }
        }
        app.sql("UPDATE audit SET at_us = at_us + 60000000", &[]).await;
        let before = app.count("SELECT COUNT(*) FROM audit").await;
        sweep(&app.app).await.unwrap();
        assert_eq!(app.count("SELECT COUNT(*) FROM audit").await, 1, "of {before}");
    }

    async fn an_agent_goes_30_days_after_it_was_last_there_once_its_sessions_are_gone(app: TestApp) {
        let [unused, used] = [app.agent("eu", 1).await, app.quick_agent("local", 1).await];
        finished(&app, "k").await;
        let ago = "UPDATE agents SET gone_us = gone_us - 2591000000000";
        for agent in [unused, used] {
            app.lapse(agent).await;
        }
        agents::lost::declare_all(&app.app).await.unwrap();
        app.sql(ago, &[]).await;
        let agents = "SELECT COUNT(*) FROM agents";
        sweep(&app.app).await.unwrap();
        assert_eq!(app.count(agents).await, 2, "not before");
        app.sql("UPDATE agents SET gone_us = gone_us - 2000000000", &[]).await;
        sweep(&app.app).await.unwrap();
        assert_eq!(app.count(agents).await, 1);
        let left = "SELECT COUNT(*) FROM agents WHERE region = 'local'";
        assert_eq!(app.count(left).await, 1, "a session tells of it");
        app.sql("UPDATE sessions SET ended_us = 1", &[]).await;
        // Sessions go after agents, so that takes two turns.
        for _ in 0..2 {
            sweep(&app.app).await.unwrap();
        }
        assert_eq!(app.count(agents).await, 0);
    }

    async fn an_agent_that_lives_stays_however_long_ago_it_was_gone(app: TestApp) {
        app.agent("local", 1).await;
        app.sql("UPDATE agents SET gone_us = 1", &[]).await;
        sweep(&app.app).await.unwrap();
        assert_eq!(app.count("SELECT COUNT(*) FROM agents").await, 1);
    }

    async fn a_join_token_goes_90_days_after_it_was_good_unless_an_agent_has_it(app: TestApp) {
        use crate::join_tokens::operator;
        let region = "local".parse().unwrap();
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.push(operator::create(&app.app.db, &region, "", None).await.unwrap().0.id);
        }
        let mut tx = app.tx().await;
        let agent = app.registration("local", 1);
        agents::store::register(&mut tx, &agent, Some(ids[0])).await.unwrap();
        let now = tx.now_us().await.unwrap();
        tx.commit().await.unwrap();
        let old = (now - 90 * DAY_US - 1).to_string();
        let recent = (now - 89 * DAY_US).to_string();
        for (id, set, at) in [
            (ids[0], "UPDATE join_tokens SET revoked_us = CAST($2 AS BIGINT) WHERE id = $1", &old),
            (ids[1], "UPDATE join_tokens SET revoked_us = CAST($2 AS BIGINT) WHERE id = $1", &old),
            (ids[2], "UPDATE join_tokens SET expires_us = CAST($2 AS BIGINT) WHERE id = $1", &old),
            (ids[3], "UPDATE join_tokens SET revoked_us = CAST($2 AS BIGINT) WHERE id = $1", &recent),
        ] {
            app.sql(set, &[&id.to_string(), at]).await;
        }
        sweep(&app.app).await.unwrap();
        let (left, _) = operator::list(&app.app.db).await.unwrap();
        let left: HashSet<_> = left.iter().map(|row| row.id).collect();
        assert_eq!(left, HashSet::from([ids[0], ids[3], ids[4]]));
    }

    async fn orders_that_nobody_waits_for_go(app: TestApp) {
        app.quick_agent("local", 1).await;
        finished(&app, "k").await;
        app.sql("UPDATE file_orders SET created_us = 1", &[]).await;
        assert_eq!(app.count("SELECT COUNT(*) FROM file_orders").await, 1);
        sweep(&app.app).await.unwrap();
        assert_eq!(app.count("SELECT COUNT(*) FROM file_orders").await, 0);
    }
}

#[test]
fn no_days_are_for_ever() {
    assert_eq!(days(0), None);
    assert_eq!(days(2), Some(172_800_000_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_replica_is_at_is_left_to_it() {
    async fn story(app: TestApp) {
        app.quick_agent("local", 9).await;
        let (held, free) = (finished(&app, "held").await, finished(&app, "free").await);
        app.sql("UPDATE sessions SET ended_us = 1", &[]).await;
        app.sql("UPDATE idempotency SET expires_us = 1", &[]).await;
        let mut other = app.tx().await;
        let Link::Postgres(db) = other.link() else { unreachable!() };
        let lock = "SELECT 1 FROM sessions, idempotency WHERE sessions.id = $1 \
                    AND session_id = sessions.id FOR UPDATE";
        sqlx::query(lock).bind(&held).execute(db).await.unwrap();
        // It neither waits nor fails.
        tokio::time::timeout(Duration::from_secs(5), sweep(&app.app)).await.unwrap().unwrap();
        app.get(&format!("/v1/sessions/{free}")).send().await.problem(404, "not-found");
        assert_eq!(app.count("SELECT COUNT(*) FROM idempotency").await, 1);
        drop(other);
        sweep(&app.app).await.unwrap();
        app.get(&format!("/v1/sessions/{held}")).send().await.problem(404, "not-found");
        assert_eq!(app.count("SELECT COUNT(*) FROM idempotency").await, 0);
    }
    on_postgres(story).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_old_is_found_without_reading_what_is_not() {
    async fn story(app: TestApp) {
        // The rows of other tables are as many as there are keys that make requests today.
        let all = texts(0).into_iter().filter(|text| !text.contains("rate_limits"));
        let mut all: Vec<_> = all.collect();
        all.extend(sessions::store::halves(0).iter().filter(|text| text.contains("LIMIT 100")));
        all.extend(sessions::store::halves(0).iter().filter(|text| text.contains("ended_us <")));
        assert!(all.len() >= 10);
        for text in all {
            for step in app.steps(text).await {
                let scan = step.starts_with("SCAN ") && !step.contains("USING");
                assert!(!scan, "{step}: {text}");
            }
        }
    }
    on_sqlite(story).await;
}
