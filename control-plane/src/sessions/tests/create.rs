use http::Method;
use proto::{
    id::{AgentId, SessionId},
    session::EndReason,
};
use serde_json::json;

use crate::{
    sessions,
    testing::{TestApp, id_of, on_both_databases, until},
};

on_both_databases! {
    async fn a_create_answers_when_the_browser_is_there(app: TestApp) {
        let agent = app.quick_agent("local", 2).await;
        let answer = app.create("k").json(&json!({
            "timeout_seconds": 60, "keep_alive_seconds": 7, "labels": {"team": "search"},
            "viewport": {"width": 800, "height": 600}, "user_agent": "Test/1",
        })).header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
            .send().await;
        let location = answer.headers["location"].clone();
        assert!(!answer.headers.contains_key("preference-applied"));
        let session = answer.expect(201);
        let id = id_of(&session);
        assert_eq!(location, format!("/v1/sessions/{id}"));
        assert_eq!(session["status"], "RUNNING");
        assert_eq!(session["viewport"], json!({"width": 800, "height": 600}));
        assert_eq!(session["labels"], json!({"team": "search"}));
        let url = session["connect_url"].as_str().unwrap();
        assert!(url.starts_with(&format!("ws://local.test/v1/sessions/{id}/cdp?token=")), "{url}");
        let row = app.session(id).await;
        assert_eq!(row.agent_id, Some(agent));
        assert_eq!(row.expires_us, row.created_us + 60_000_000);
        assert!(row.traceparent.starts_with("00-4bf92f35"));
        assert!(row.started_us.unwrap() >= row.created_us);
        let events = app.get(&format!("/v1/sessions/{id}/events")).send().await.expect(200);
        let statuses: Vec<_> =
            events["items"].as_array().unwrap().iter().map(|e| e["status"].clone()).collect();
        assert_eq!(statuses, ["QUEUED", "PROVISIONING", "RUNNING"]);
        assert_eq!(events["items"][0]["at"], session["created_at"]);
        assert_eq!(events["items"][2]["reason"], json!(null));
    }

    async fn the_session_object_has_every_member_of_the_contract(app: TestApp) {
        app.quick_agent("local", 1).await;
        let mut session = app.create("k").send().await.expect(201);
        session["usage"]["duration_ms"] = "[ms]".into();
        for varying in ["id", "connect_url", "created_at", "started_at", "expires_at"] {
            assert!(session[varying].is_string(), "{session}");
            session[varying] = format!("[{varying}]").into();
        }
        insta::assert_json_snapshot!("session", session);
    }

    async fn respond_async_answers_with_a_slot_alone(app: TestApp) {
        app.agent("local", 1).await;
        let answer = app.create("k").header("prefer", "respond-async, wait=3").send().await;
        assert_eq!(answer.headers["preference-applied"], "respond-async, wait=3");
        let session = answer.expect(201);
        assert_eq!(session["status"], "PROVISIONING");
        assert!(session["connect_url"].is_string());
        assert_eq!(session["started_at"], json!(null));
    }

    async fn a_launch_that_fails_goes_to_another_agent_unnoticed(app: TestApp) {
        let bad = app.agent("local", 1).await;
        let create = tokio::spawn(app.create("k").send());
        let held = until_held(&app, bad).await;
        let good = app.quick_agent("local", 1).await;
        sessions::ended(&app.app, bad, held, EndReason::LaunchFailed, "no")
            .await.unwrap();
        let session = create.await.unwrap().expect(201);
        assert_eq!(id_of(&session), held);
        let row = app.session(held).await;
        assert_eq!((row.agent_id, row.tried), (Some(good), vec![bad]));
        // What the first agent still says of it no longer counts.
        sessions::ended(&app.app, bad, held, EndReason::BrowserCrashed, "")
            .await.unwrap();
        assert!(app.session(held).await.slot_held);
        assert_eq!(app.count("SELECT COUNT(*) FROM session_events").await, 4);
    }

    async fn a_launch_that_fails_everywhere_fails_the_create_and_frees_its_key(app: TestApp) {
        let bad = app.agent("local", 1).await;
        let create = tokio::spawn(app.create("k").send());
        let held = until_held(&app, bad).await;
        sessions::ended(&app.app, bad, held, EndReason::LaunchFailed, "no X")
            .await.unwrap();
        let answer = create.await.unwrap();
        assert!(answer.headers.contains_key("retry-after"));
        let problem = answer.problem(503, "insufficient-capacity");
        assert!(problem["detail"].as_str().unwrap().contains("local"), "{problem}");
        let session = app.get(&format!("/v1/sessions/{held}")).send().await.expect(200);
        assert_eq!(session["status"], "ERRORED");
        assert_eq!(session["status_reason"]["code"], "launch_failed");
        assert_eq!(session["status_reason"]["message"], "the browser could not be started: no X");
        assert_eq!(app.count("SELECT COUNT(*) FROM idempotency").await, 0);
        let again = tokio::spawn(app.create("k").send());
        let second = until_held(&app, bad).await;
        assert_ne!(second, held);
        sessions::started(&app.app, bad, second).await.unwrap();
        assert_eq!(id_of(&again.await.unwrap().expect(201)), second);
    }

    async fn an_agent_lost_while_launching_is_a_launch_that_failed(app: TestApp) {
        let bad = app.agent("local", 1).await;
        let create = tokio::spawn(app.create("k").send());
        let held = until_held(&app, bad).await;
        app.lapse(bad).await;
        sessions::lost(&app.app, bad).await.unwrap();
        create.await.unwrap().problem(503, "insufficient-capacity");
        let row = app.session(held).await;
        assert_eq!(row.reason.unwrap().code, EndReason::AgentLost);
        assert!(!row.slot_held);
    }

    async fn a_session_released_while_it_launches_answers_as_it_is(app: TestApp) {
        let agent = app.agent("local", 1).await;
        let create = tokio::spawn(app.create("k").send());
        let held = until_held(&app, agent).await;
        let path = format!("/v1/sessions/{held}");
        app.call(Method::DELETE, &path).send().await.expect(204);
        let session = create.await.unwrap().expect(201);
        assert_eq!(session["status"], "COMPLETED");
        assert_eq!(session["connect_url"], json!(null));
        // The slot is held until the agent has said that the browser is gone.
        assert!(app.session(held).await.slot_held);
        sessions::started(&app.app, agent, held).await.unwrap();
        assert_eq!(app.session(held).await.status.as_str(), "COMPLETED");
        let released = EndReason::Released;
        sessions::ended(&app.app, agent, held, released, "").await.unwrap();
        assert!(!app.session(held).await.slot_held);
    }

    async fn regions_that_do_not_exist_are_refused_with_those_that_do(app: TestApp) {
        app.agent("eu-west", 1).await;
        for region in ["mars", "Not A Region"] {
            let answer = app.create("k").json(&json!({"region": region})).send().await;
            let problem = answer.problem(422, "unknown-region");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("eu-west") && detail.contains("local"), "{detail}");
            assert_eq!(problem["errors"][0]["pointer"], "/region");
        }
    }

    async fn bodies_that_cannot_be_read_are_refused(app: TestApp) {
        let problem = app.create("k").body("{").send().await.problem(400, "validation-error");
        assert_eq!(problem["errors"][0]["pointer"], "");
        app.create("k").body("").send().await.problem(400, "validation-error");
        app.create("k").body("{\"region\":null,\"region\":\"local\"}").send().await
            .problem(400, "validation-error");
        app.create("k").body("{} {}").send().await.problem(400, "validation-error");
        app.create("k").json(&json!({"nope": 1})).send().await.problem(400, "validation-error");
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
            let call = app.create("k").body("{}").header("content-type", kind);
            call.send().await.problem(415, "unsupported-media-type");
        }
        let call = app.create("k").body("{}").without("content-type");
        call.send().await.problem(415, "unsupported-media-type");
        let large = format!("{{\"labels\":{{\"a\":\"{}\"}}}}", "x".repeat(6 << 20));
        app.create("k").body(&large).send().await.problem(413, "payload-too-large");
        let call = app.create("k").body("{}").header("content-type", "Application/JSON; charset=utf-8");
        call.header("prefer", "wait=0").send().await.problem(503, "insufficient-capacity");
        app.create("k").header("prefer", "wait=0").send().await.problem(503, "insufficient-capacity");
    }

    async fn an_idempotency_key_is_required(app: TestApp) {
        let create = || app.create("k");
        let refused = create().without("idempotency-key").send().await;
        refused.problem(400, "idempotency-key-required");
        for bad in ["", "a b", "ü", &"x".repeat(256)] {
            let refused = create().header("idempotency-key", bad).send().await;
            refused.problem(400, "idempotency-key-required");
        }
        let longest = create().header("idempotency-key", &"x".repeat(255));
        longest.header("prefer", "wait=0").send().await.problem(503, "insufficient-capacity");
    }
}

/// Waits until an agent has a session to launch.
pub(super) async fn until_held(app: &TestApp, agent: AgentId) -> SessionId {
    let first = async || {
        let mut tx = app.app.db.read().await.unwrap();
        let held = sessions::store::held_by(&mut tx, agent).await.unwrap();
        held.first().map(|session| session.id)
    };
    until(async || first().await.is_some()).await;
    first().await.unwrap()
}
