use http::Method;
use serde_json::json;

use crate::{
    testing::{TestApp, id_of, on_both_databases},
    workspaces::{self, Plan, operator},
};

on_both_databases! {
    async fn a_workspace_has_no_more_sessions_at_once_than_it_may(app: TestApp) {
        app.quick_agent("local", 100).await;
        let create = |key: &str| app.create(key).header("prefer", "respond-async");
        create("before").send().await.expect(201);
        operator::set_session_limit(&app.app.db, "default", Some(2)).await.unwrap();
        let second = create("second").send().await.expect(201);
        let answer = create("third").send().await;
        assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
        let problem = answer.problem(429, "concurrency-limit");
        assert!(problem["detail"].as_str().unwrap().contains("2 sessions"), "{problem}");
        // What there is already is found as ever.
        assert_eq!(create("second").send().await.expect(200)["id"], second["id"]);
        // Another workspace has its own limit.
        let mut tx = app.tx().await;
        let other = workspaces::insert(&mut tx, "other", "Other").await.unwrap();
        tx.commit().await.unwrap();
        let key = app.key_for(other, &["sessions:write"]).await;
        create("third").key(&key).send().await.expect(201);
        let path = format!("/v1/sessions/{}", id_of(&second));
        app.call(Method::DELETE, &path).send().await.expect(204);
        create("third").send().await.expect(201);
        create("fourth").send().await.problem(429, "concurrency-limit");
        operator::set_session_limit(&app.app.db, "default", None).await.unwrap();
        create("fourth").send().await.expect(201);
    }

    async fn the_limit_holds_over_replicas(app: TestApp) {
        app.agent("local", 100).await;
        operator::set_session_limit(&app.app.db, "default", Some(5)).await.unwrap();
        let replicas = [app.clone(), app.another().await];
        let creates: Vec<_> = (0..40)
            .map(|n| {
                let create = replicas[n % 2].create(&n.to_string());
                tokio::spawn(create.header("prefer", "respond-async").send())
            })
            .collect();
        let mut created = 0;
        for create in creates {
            let answer = create.await.unwrap();
            assert!(matches!(answer.status, 201 | 429), "{answer:?}");
            created += i32::from(answer.status == 201);
        }
        assert_eq!(created, 5);
        replicas[1].app.db.close().await;
    }

    async fn a_workspace_at_its_limit_does_not_wait(app: TestApp) {
        app.agent("local", 1).await;
        operator::set_session_limit(&app.app.db, "default", Some(1)).await.unwrap();
        app.create("k").header("prefer", "respond-async").send().await.expect(201);
        let waits = app.create("l").header("prefer", "wait=60").json(&json!({})).send();
        let answer = tokio::time::timeout(std::time::Duration::from_secs(5), waits).await;
        answer.unwrap().problem(429, "concurrency-limit");
        operator::set_session_limit(&app.app.db, "default", Some(0)).await.unwrap();
        app.create("m").send().await.problem(429, "concurrency-limit");
    }

    async fn a_plan_says_how_many_unless_an_operator_does(app: TestApp) {
        app.agent("local", 100).await;
        operator::set_plan(&app.app.db, "default", Plan::Starter).await.unwrap();
        for n in 0..11 {
            let create = app.create(&n.to_string()).header("prefer", "respond-async").send().await;
            assert_eq!(create.status, if n < 10 { 201 } else { 429 });
        }
        operator::set_session_limit(&app.app.db, "default", Some(11)).await.unwrap();
        app.create("10").header("prefer", "respond-async").send().await.expect(201);
    }
}
