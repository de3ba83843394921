//! Keepalive and force-stop, from any replica to the agent.

use http::Method;

use super::*;
use crate::testing::Call;

fn keepalive(app: &TestApp, id: SessionId, body: &Value) -> Call {
    app.call(Method::POST, &format!("/v1/sessions/{id}/keepalive")).json(body)
}

on_both_databases! {
    async fn a_keepalive_reaches_the_agent_and_moves_the_deadline(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        let before = app.session(id).await;
        let kept = app.call(Method::POST, &format!("/v1/sessions/{id}/keepalive")).send().await;
        assert_eq!(kept.expect(200)["timeout_seconds"], 1800);
        let adjust = agent.hear_adjust().await;
        let told = (adjust.session_id, adjust.expires_ms, adjust.keepalives);
        assert_eq!(told, (id.to_string(), before.expires_us / 1000, 1));

        let kept = keepalive(&app, id, &json!({"extend_seconds": 60})).send().await.expect(200);
        assert_eq!(kept["timeout_seconds"], 1860);
        assert!(kept["connect_url"].is_string());
        let row = app.session(id).await;
        assert_eq!(row.expires_us, before.expires_us + 60_000_000);
        assert_eq!(row.expires_us, row.created_us + 1_860_000_000);
        let adjust = agent.hear_adjust().await;
        assert_eq!((adjust.expires_ms, adjust.keepalives), (row.expires_us / 1000, 2));
    }

    async fn a_keepalive_on_another_replica_reaches_the_agent_once(app: TestApp) {
        let hub = listen(&app).await;
        let other = app.another().await;
        let hello = hello(AgentId::generate());
        let mut agent = Agent::attach(&hub, &hello).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        keepalive(&other, id, &json!({"extend_seconds": 5})).send().await.expect(200);
        let adjust = agent.hear_adjust().await;
        assert_eq!((adjust.session_id, adjust.keepalives), (id.to_string(), 1));
        // The next thing that it hears is about the next keepalive.
        keepalive(&other, id, &json!({})).send().await.expect(200);
        assert_eq!(agent.hear_adjust().await.keepalives, 2);
        // Another stream does not know what this one has told.
        let sessions = vec![report(id, session_report::State::Running(true))];
        let mut newer = Agent::attach(&hub, &Hello { sessions, ..hello }).await.unwrap();
        assert_eq!(newer.hear_adjust().await.keepalives, 2);
        other.app.db.close().await;
    }

    async fn a_session_that_has_yet_to_run_is_assigned_with_what_it_was_given(app: TestApp) {
        let hub = listen(&app).await;
        let hello = hello(AgentId::generate());
        let mut agent = Agent::attach(&hub, &hello).await.unwrap();
        let id = provision(&app, "one").await;
        assert_eq!(agent.hear_whole_assign().await.keepalives, 0);
        let kept = keepalive(&app, id, &json!({"extend_seconds": 5})).send().await.expect(200);
        assert_eq!(kept["status"], "PROVISIONING");
        assert_eq!(agent.hear_adjust().await.keepalives, 1);
        drop(agent);
        until(|| async { app.count("SELECT connected_us FROM agents").await == 0 }).await;
        let mut agent = Agent::attach(&hub, &hello).await.unwrap();
        let assign = agent.hear_whole_assign().await;
        let expires_ms = app.session(id).await.expires_us / 1000;
        assert_eq!((assign.keepalives, assign.expires_ms), (1, expires_ms));
    }

    async fn a_session_lives_for_a_day_at_most(app: TestApp) {
        app.quick_agent("local", 1).await;
        let body = json!({"timeout_seconds": 86_000});
        let id = id_of(&app.create("k").json(&body).send().await.expect(201));
        let refused = keepalive(&app, id, &json!({"extend_seconds": 401})).send().await;
        let problem = refused.problem(422, "validation-error");
        assert_eq!(problem["errors"][0]["pointer"], "/extend_seconds");
        assert!(problem["detail"].as_str().unwrap().contains("400 more"), "{problem}");
        keepalive(&app, id, &json!({"extend_seconds": 400})).send().await.expect(200);
        keepalive(&app, id, &json!({"extend_seconds": null})).send().await.expect(200);
        assert_eq!(app.session(id).await.keepalives, 2);
        for (body, status) in [
            (json!({"extend_seconds": 0}), 422),
            (json!({"extend_seconds": 86_401}), 422),
            (json!({"extend_seconds": "1"}), 422),
            (json!([]), 422),
            (json!({"nope": 1}), 400),
        ] {
            keepalive(&app, id, &body).send().await.problem(status, "validation-error");
        }
    }

    async fn extensions_that_race_are_all_counted_and_stay_within_the_limit(app: TestApp) {
        app.quick_agent("local", 1).await;
        let body = json!({"timeout_seconds": 86_000});
        let id = id_of(&app.create("k").json(&body).send().await.expect(201));
        let other = app.another().await;
        let calls: Vec<_> = (0..10)
            .map(|n| {
                let app = if n % 2 == 0 { &app } else { &other };
                tokio::spawn(keepalive(app, id, &json!({"extend_seconds": 100})).send())
            })
            .collect();
        let mut kept = 0;
        for call in calls {
            kept += i64::from(call.await.unwrap().status == 200);
        }
        assert_eq!(kept, 4);
        let row = app.session(id).await;
        assert_eq!((row.timeout_seconds, row.keepalives), (86_400, 4));
        other.app.db.close().await;
    }

    async fn what_is_over_stays_over(app: TestApp) {
        let agent = app.quick_agent("local", 2).await;
        let id = id_of(&app.create("one").send().await.expect(201));
        app.call(Method::DELETE, &format!("/v1/sessions/{id}")).send().await.expect(204);
        keepalive(&app, id, &json!({})).send().await.problem(409, "conflict");
        // Its time has run out, though nobody has ended it yet.
        let id = id_of(&app.create("two").send().await.expect(201));
        assert_eq!(app.session(id).await.agent_id, Some(agent));
        app.sql("UPDATE sessions SET expires_us = created_us WHERE id = $1", &[&id.to_string()]).await;
        let extend = json!({"extend_seconds": 60});
        keepalive(&app, id, &extend).send().await.problem(409, "conflict");
        keepalive(&app, SessionId::generate(), &extend).send().await.problem(404, "not-found");
    }

    async fn a_force_stop_tells_the_agent_to_hurry(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let admin = app.key_for(app.workspace, &["admin"]).await;
        let id = run_session(&app, &mut agent, "one").await;
        let path = format!("/v1/sessions/{id}/force-stop");
        app.call(Method::POST, &path).send().await.problem(403, "forbidden");
        // Also when it is being released already.
        app.call(Method::DELETE, &format!("/v1/sessions/{id}")).send().await.expect(204);
        assert_eq!(agent.hear_release().await.reason, "released");
        app.call(Method::POST, &path).key(&admin).send().await.expect(204);
        while agent.hear_release().await.reason != "force_stopped" {}
        assert_eq!(app.session(id).await.reason.unwrap().code, EndReason::Released);
        agent.ended(id, EndReason::Released);
        assert_eq!(agent.hear_acknowledge().await, id);

        let id = run_session(&app, &mut agent, "two").await;
        let path = format!("/v1/sessions/{id}/force-stop");
        app.call(Method::POST, &path).key(&admin).send().await.expect(204);
        assert_eq!(agent.hear_release().await.reason, "force_stopped");
        let session = app.get(&format!("/v1/sessions/{id}")).send().await.expect(200);
        assert_eq!(session["status"], "COMPLETED");
        assert_eq!(session["status_reason"]["code"], "force_stopped");
        agent.ended(id, EndReason::ForceStopped);
        assert_eq!(agent.hear_acknowledge().await, id);
        app.call(Method::POST, &path).key(&admin).send().await.expect(204);
        let deeds = "SELECT COUNT(*) FROM audit WHERE action = 'session.force_stop'";
        assert_eq!(app.count(deeds).await, 1, "what changed nothing is no deed");
    }
}
