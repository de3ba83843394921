use std::time::{Duration, Instant};

use http::Method;
use proto::session::EndReason;
use serde_json::json;

use super::create::until_held;
use crate::testing::{TestApp, id_of, on_both_databases, until};

fn waiting(app: &TestApp) -> usize {
    app.app.queue.len(&"local".parse().unwrap())
}

on_both_databases! {
    async fn a_full_region_answers_503_with_what_helps(app: TestApp) {
        app.agent("eu", 1).await;
        app.quick_agent("local", 1).await;
        app.create("first").send().await.expect(201);
        let began = Instant::now();
        let answer = app.create("k").header("prefer", "wait=1").send().await;
        assert!(began.elapsed() >= Duration::from_secs(1));
        // No slot became free within the last minute.
        assert_eq!(answer.headers["retry-after"], "60");
        let problem = answer.problem(503, "insufficient-capacity");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("number 1 of the 1 that wait"), "{detail}");
        assert!(detail.contains("local") && detail.contains("eu") && detail.contains("ms"), "{detail}");
        assert_eq!(app.count("SELECT COUNT(*) FROM sessions").await, 1);
        let began = Instant::now();
        app.create("k").header("prefer", "wait=0").send().await.problem(503, "insufficient-capacity");
        assert!(began.elapsed() < Duration::from_secs(1));
    }

    async fn a_freed_slot_goes_to_the_one_who_came_first(app: TestApp) {
        app.quick_agent("local", 1).await;
        let first = app.create("first").send().await.expect(201);
        let mut creates = Vec::new();
        for n in 0..4 {
            let create = app.create(&format!("k{n}")).header("prefer", "wait=60");
            creates.push(tokio::spawn(create.json(&json!({"labels": {"n": n.to_string()}})).send()));
            until(async || waiting(&app) == n + 1).await;
        }
        let mut running = id_of(&first);
        for (n, create) in creates.into_iter().enumerate() {
            // Who comes late does not overtake.
            let late = app.create("late").header("prefer", "wait=0").send().await;
            late.problem(503, "insufficient-capacity");
            let path = format!("/v1/sessions/{running}");
            app.call(Method::DELETE, &path).send().await.expect(204);
            let session = create.await.unwrap().expect(201);
            assert_eq!(session["labels"]["n"], n.to_string());
            running = id_of(&session);
        }
        assert_eq!(waiting(&app), 0);
    }

    async fn a_workspace_that_asks_for_much_does_not_keep_others_waiting(app: TestApp) {
        app.quick_agent("local", 1).await;
        let mut tx = app.tx().await;
        let other = crate::workspaces::insert(&mut tx, "other", "Other").await.unwrap();
        tx.commit().await.unwrap();
        let key = app.key_for(other, &["sessions:write", "sessions:read"]).await;
        let first = app.create("first").send().await.expect(201);
        let mut creates = Vec::new();
        for n in 0..5 {
            // The greedy one comes four times before the modest one does.
            let create = app.create(&format!("k{n}")).header("prefer", "wait=60");
            let create = if n == 4 { create.key(&key) } else { create };
            creates.push(tokio::spawn(create.send()));
            until(async || waiting(&app) == n + 1).await;
        }
        let late = app.create("late").header("prefer", "wait=0").send().await;
        let detail = late.problem(503, "insufficient-capacity")["detail"].to_string();
        assert!(detail.contains("number 6 of the 6 that wait"), "{detail}");
        app.call(Method::DELETE, &format!("/v1/sessions/{}", id_of(&first))).send().await.expect(204);
        until(async || waiting(&app) == 4).await;
        let second = id_of(&creates.remove(0).await.unwrap().expect(201));
        app.call(Method::DELETE, &format!("/v1/sessions/{second}")).send().await.expect(204);
        creates.pop().unwrap().await.unwrap().expect(201);
        assert_eq!(waiting(&app), 3);
        creates.iter().for_each(tokio::task::JoinHandle::abort);
    }

    async fn a_client_that_is_gone_leaves_the_queue(app: TestApp) {
        let agent = app.agent("local", 1).await;
        let first = tokio::spawn(app.create("first").send());
        let held = until_held(&app, agent).await;
        let head = tokio::spawn(app.create("head").header("prefer", "wait=60").send());
        until(async || waiting(&app) == 1).await;
        let next = tokio::spawn(app.create("next").header("prefer", "wait=60").send());
        until(async || waiting(&app) == 2).await;
        head.abort();
        until(async || waiting(&app) == 1).await;
        crate::sessions::ended(&app.app, agent, held, EndReason::LaunchFailed, "").await.unwrap();
        first.await.unwrap().problem(503, "insufficient-capacity");
        let second = until_held(&app, agent).await;
        crate::sessions::started(&app.app, agent, second).await.unwrap();
        assert_eq!(id_of(&next.await.unwrap().expect(201)), second);
        assert_eq!(app.count("SELECT COUNT(*) FROM sessions").await, 2);
    }

    async fn an_agent_that_joins_serves_those_who_wait(app: TestApp) {
        let creates: Vec<_> = (0..3)
            .map(|n| tokio::spawn(app.create(&format!("k{n}")).header("prefer", "wait=60").send()))
            .collect();
        until(async || waiting(&app) == 3).await;
        app.quick_agent("local", 3).await;
        for create in creates {
            create.await.unwrap().expect(201);
        }
    }

    async fn stopping_ends_the_wait(app: TestApp) {
        let create = tokio::spawn(app.create("k").header("prefer", "wait=60").send());
        until(async || waiting(&app) == 1).await;
        app.app.closing.cancel();
        let answer = create.await.unwrap();
        assert_eq!(answer.headers["retry-after"], "1", "at another replica");
        answer.problem(503, "insufficient-capacity");
    }

    async fn capacity_is_never_exceeded_over_replicas(app: TestApp) {
        let agents = [app.quick_agent("local", 3).await, app.quick_agent("local", 2).await];
        let replicas = [app.clone(), app.another().await];
        let creates: Vec<_> = (0..30)
            .map(|n| {
                let create = replicas[n % 2].create(&format!("k{n}")).header("prefer", "wait=1");
                tokio::spawn(create.send())
            })
            .collect();
        let mut created = 0;
        for create in creates {
            let answer = create.await.unwrap();
            assert!(matches!(answer.status, 201 | 503), "{answer:?}");
            created += i64::from(answer.status == 201);
        }
        assert_eq!(created, 5);
        let mut tx = app.app.db.read().await.unwrap();
        for (agent, capacity) in agents.into_iter().zip([3, 2]) {
            let held = crate::sessions::store::held_by(&mut tx, agent).await.unwrap();
            assert_eq!(held.len(), capacity);
        }
        drop(tx);
        replicas[1].app.db.close().await;
    }
}
