use std::collections::HashSet;

use serde_json::json;

use super::create::until_held;
use crate::testing::{TestApp, id_of, on_both_databases};

const SESSIONS: &str = "SELECT COUNT(*) FROM sessions";

on_both_databases! {
    async fn a_hundred_duplicates_make_one_session(app: TestApp) {
        app.quick_agent("local", 50).await;
        let body = json!({"labels": {"a": "b"}});
        let creates: Vec<_> =
            (0..100).map(|_| tokio::spawn(app.create("k").json(&body).send())).collect();
        let (mut ids, mut created) = (HashSet::new(), 0);
        for create in creates {
            let answer = create.await.unwrap();
            assert!(matches!(answer.status, 200 | 201), "{answer:?}");
            created += i32::from(answer.status == 201);
            let session = answer.json();
            assert_eq!(session["status"], "RUNNING");
            ids.insert(id_of(&session));
        }
        assert_eq!((ids.len(), created), (1, 1));
        assert_eq!(app.count(SESSIONS).await, 1);
    }

    async fn duplicates_over_replicas_make_one_session(app: TestApp) {
        app.quick_agent("local", 50).await;
        let replicas = [app.clone(), app.another().await, app.another().await];
        for round in 0..5 {
            let key = format!("k{round}");
            let creates: Vec<_> = (0..12)
                .map(|n| tokio::spawn(replicas[n % 3].create(&key).send()))
                .collect();
            let mut ids = HashSet::new();
            for create in creates {
                let answer = create.await.unwrap();
                assert!(matches!(answer.status, 200 | 201), "{answer:?}");
                ids.insert(id_of(&answer.json()));
            }
            assert_eq!(ids.len(), 1);
            assert_eq!(app.count(SESSIONS).await, round + 1);
        }
        for replica in &replicas[1..] {
            replica.app.db.close().await;
        }
    }

    async fn a_repetition_gets_the_session_as_it_now_is(app: TestApp) {
        app.quick_agent("local", 1).await;
        let first = app.create("k").json(&json!({"timeout_seconds": 60, "region": null})).send().await.expect(201);
        let again = app.create("k").body(" {\"timeout_seconds\" : 60}").send().await;
        assert_eq!(again.headers["location"], format!("/v1/sessions/{}", id_of(&first)));
        let again = again.expect(200);
        assert_eq!(again["id"], first["id"]);
        assert!(again["connect_url"].is_string());
        let path = format!("/v1/sessions/{}", id_of(&first));
        app.call(http::Method::DELETE, &path).send().await.expect(204);
        let over = app.create("k").json(&json!({"timeout_seconds": 60})).send().await.expect(200);
        assert_eq!(over["status"], "COMPLETED");
        assert_eq!(over["connect_url"], json!(null));
    }

    async fn a_key_stands_for_one_body(app: TestApp) {
        app.quick_agent("local", 1).await;
        app.create("k").json(&json!({"timeout_seconds": 60})).send().await.expect(201);
        let other = app.create("k").json(&json!({"timeout_seconds": 61})).send().await;
        other.problem(422, "idempotency-key-reused");
        assert_eq!(app.count(SESSIONS).await, 1);
    }

    async fn a_key_belongs_to_a_workspace(app: TestApp) {
        app.quick_agent("local", 2).await;
        let mut tx = app.tx().await;
        let other = crate::workspaces::insert(&mut tx, "other", "Other").await.unwrap();
        tx.commit().await.unwrap();
        let key = app.key_for(other, &["sessions:write"]).await;
        let first = app.create("k").send().await.expect(201);
        let second = app.create("k").key(&key).send().await.expect(201);
        assert_ne!(first["id"], second["id"]);
    }

    async fn a_create_that_failed_does_not_use_its_key_up(app: TestApp) {
        let create = || app.create("k").header("prefer", "wait=0");
        create().send().await.problem(503, "insufficient-capacity");
        create().json(&json!({"timeout_seconds": 1})).send().await.problem(422, "validation-error");
        app.quick_agent("local", 1).await;
        create().json(&json!({"timeout_seconds": 7})).send().await.expect(201);
    }

    async fn a_key_is_free_again_after_a_day(app: TestApp) {
        app.quick_agent("local", 2).await;
        let first = app.create("k").send().await.expect(201);
        app.sql("UPDATE idempotency SET expires_us = expires_us - 86400000000", &[]).await;
        let second = app.create("k").json(&json!({"timeout_seconds": 60})).send().await.expect(201);
        assert_ne!(first["id"], second["id"]);
        app.sql("UPDATE idempotency SET expires_us = expires_us - 86400000000", &[]).await;
        crate::retention::sweep(&app.app).await.unwrap();
        assert_eq!(app.count("SELECT COUNT(*) FROM idempotency").await, 0);
    }

    async fn a_repetition_finds_what_a_server_that_died_had_begun(app: TestApp) {
        let agent = app.agent("local", 1).await;
        let first = tokio::spawn(app.create("k").send());
        let held = until_held(&app, agent).await;
        // The client is gone, and the replica with it: only the row is left.
        first.abort();
        let after = app.another().await;
        let again = tokio::spawn(after.create("k").send());
        crate::sessions::started(&after.app, agent, held).await.unwrap();
        assert_eq!(id_of(&again.await.unwrap().expect(200)), held);
        assert_eq!(app.count(SESSIONS).await, 1);
        after.app.db.close().await;
    }
}
