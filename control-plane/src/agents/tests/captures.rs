//! save-profile: from any replica to the agent and back.

use http::Method;
use proto::agent::{Captured, captured::Outcome};

use super::*;
use crate::{sessions::captures, testing::Call};

const CAPTURES: &str = "SELECT COUNT(*) FROM captures";

fn save(app: &TestApp, id: SessionId, body: &Value) -> Call {
    app.call(Method::POST, &format!("/v1/sessions/{id}/save-profile")).json(body)
}

fn state(value: &str) -> Value {
    json!({"cookies": [{
        "name": "sid", "value": value, "domain": "a.example", "path": "/", "expires": -1,
        "httpOnly": true, "secure": false, "sameSite": "Lax",
    }], "origins": []})
}

impl Agent {
    fn captured(&self, capture: &Capture, outcome: Outcome) {
        self.say(Said::Captured(Captured {
            capture_id: capture.capture_id.clone(),
            session_id: capture.session_id.clone(),
            outcome: Some(outcome),
        }));
    }
}

async fn held(app: &TestApp, profile: &Value) -> Value {
    let path = format!("/v1/profiles/{}/storage-state", profile["id"].as_str().unwrap());
    app.get(&path).send().await.expect(200)
}

on_both_databases! {
    async fn a_browser_becomes_a_profile_and_replaces_it(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        let saving = tokio::spawn(save(&app, id, &json!({"name": "login"})).send());
        let capture = agent.hear_capture().await;
        assert_eq!(capture.session_id, id.to_string());
        agent.captured(&capture, Outcome::StorageState(state("first").to_string().into()));
        let answer = saving.await.unwrap();
        let location = answer.headers["location"].clone();
        let profile = answer.expect(201);
        assert_eq!(location, format!("/v1/profiles/{}", profile["id"].as_str().unwrap()));
        assert_eq!(profile["name"], "login");
        assert_eq!(profile["size_bytes"], state("first").to_string().len());
        assert_eq!(held(&app, &profile).await, state("first"));

        let saving = tokio::spawn(save(&app, id, &json!({"profile_id": profile["id"]})).send());
        let capture = agent.hear_capture().await;
        agent.captured(&capture, Outcome::StorageState(state("second").to_string().into()));
        let replaced = saving.await.unwrap().expect(200);
        assert_eq!((&replaced["id"], &replaced["name"]), (&profile["id"], &profile["name"]));
        assert_eq!(held(&app, &profile).await, state("second"));
        assert_eq!(app.count(CAPTURES).await, 0);
        let deeds = "SELECT COUNT(*) FROM audit WHERE action = 'session.save_profile'";
        assert_eq!(app.count(deeds).await, 2);
        assert_eq!(app.session(id).await.status, SessionStatus::Running);
    }

    async fn any_replica_can_ask(app: TestApp) {
        let hub = listen(&app).await;
        let other = app.another().await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        let savings: Vec<_> = ["a", "b"].map(|name| {
            tokio::spawn(save(&other, id, &json!({"name": name})).send())
        }).into();
        // Each is asked once, though the stream looks again before it is answered.
        let captures = [agent.hear_capture().await, agent.hear_capture().await];
        assert_ne!(captures[0].capture_id, captures[1].capture_id);
        for capture in &captures {
            agent.captured(capture, Outcome::StorageState(state("x").to_string().into()));
        }
        for saving in savings {
            saving.await.unwrap().expect(201);
        }
        assert_eq!(app.count(CAPTURES).await, 0);
        other.app.db.close().await;
    }

    async fn what_cannot_be_read_is_no_profile(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        for (outcome, status, slug) in [
            (Outcome::Error("the page hangs".to_owned()), 503, "session-not-ready"),
            (Outcome::StorageState(b"nonsense".to_vec()), 500, "internal"),
        ] {
            let saving = tokio::spawn(save(&app, id, &json!({"name": "n"})).send());
            let capture = agent.hear_capture().await;
            agent.captured(&capture, outcome);
            let problem = saving.await.unwrap().problem(status, slug);
            let detail = problem["detail"].as_str().unwrap();
            assert_eq!(detail.contains("the page hangs"), status == 503, "{detail}");
        }
        assert_eq!(app.count("SELECT COUNT(*) FROM profiles").await, 0);
        assert_eq!(app.count(CAPTURES).await, 0);
    }

    async fn a_session_that_ends_meanwhile_is_a_conflict(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        let saving = tokio::spawn(save(&app, id, &json!({"name": "n"})).send());
        agent.hear_capture().await;
        agent.ended(id, EndReason::BrowserCrashed);
        saving.await.unwrap().problem(409, "conflict");
        save(&app, id, &json!({"name": "n"})).send().await.problem(409, "conflict");
        let id = provision(&app, "two").await;
        let problem = save(&app, id, &json!({"name": "n"})).send().await.problem(409, "conflict");
        assert!(problem["detail"].as_str().unwrap().contains("PROVISIONING"), "{problem}");
    }

    async fn a_place_for_the_state_is_found_first(app: TestApp) {
        app.quick_agent("local", 1).await;
        let id = id_of(&app.create("k").send().await.expect(201));
        let unknown = proto::id::ProfileId::generate().to_string();
        let refused = save(&app, id, &json!({"profile_id": unknown})).send().await;
        refused.problem(422, "unknown-profile");
        for (body, status) in [
            (json!({}), 422),
            (json!({"name": "n", "profile_id": unknown}), 422),
            (json!({"name": ""}), 422),
            (json!({"name": "x".repeat(129)}), 422),
            (json!({"name": "a\nb"}), 422),
            (json!({"profile_id": 1}), 422),
            (json!({"name": "n", "nope": 1}), 400),
        ] {
            save(&app, id, &body).send().await.problem(status, "validation-error");
        }
        assert_eq!(app.count(CAPTURES).await, 0);
    }

    async fn an_agent_answers_for_its_own_captures_only(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let stranger = app.agent("eu", 1).await;
        let id = run_session(&app, &mut agent, "one").await;
        let saving = tokio::spawn(save(&app, id, &json!({"name": "n"})).send());
        let capture = agent.hear_capture().await;
        let forged = Captured {
            capture_id: capture.capture_id.clone(),
            session_id: capture.session_id.clone(),
            outcome: Some(Outcome::StorageState(state("forged").to_string().into())),
        };
        captures::captured(&app.app, stranger, forged).await.unwrap();
        agent.captured(&capture, Outcome::StorageState(state("true").to_string().into()));
        let profile = saving.await.unwrap().expect(201);
        assert_eq!(held(&app, &profile).await, state("true"));
    }

    async fn a_capture_that_nobody_waits_for_is_swept(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        let saving = tokio::spawn(save(&app, id, &json!({"name": "n"})).send());
        agent.hear_capture().await;
        app.sql("UPDATE captures SET created_us = created_us - 121000000", &[]).await;
        crate::retention::sweep(&app.app).await.unwrap();
        saving.await.unwrap().problem(503, "session-not-ready");
    }

    async fn stopping_ends_the_wait_for_a_browser(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        let saving = tokio::spawn(save(&app, id, &json!({"name": "n"})).send());
        agent.hear_capture().await;
        app.app.stop.cancel();
        saving.await.unwrap().problem(503, "session-not-ready");
        assert_eq!(app.count(CAPTURES).await, 0);
    }
}
