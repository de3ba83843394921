//! What a launch needs beyond the session's row, on its way to the agent.

use proto::agent::Proxy;

use super::*;
use crate::testing::Call;

const INPUTS: &str = "SELECT COUNT(*) FROM session_inputs";

fn state(value: &str) -> Value {
    json!({"cookies": [{"name": "sid", "value": value, "domain": "a.example", "path": "/"}]})
}

fn with_all(value: &str) -> Value {
    json!({
        "proxy": {"url": "http://alice:pr0xypass@proxy.example:3128"},
        "storage_state": state(value),
    })
}

fn create(app: &TestApp, key: &str, body: &Value) -> Call {
    app.create(key).header("prefer", "respond-async").json(body)
}

/// The value of the only cookie that an assignment brings.
fn cookie_of(assign: &Assign) -> Value {
    let state: Value = serde_json::from_slice(&assign.storage_state).unwrap();
    assert_eq!(state["cookies"].as_array().unwrap().len(), 1, "{state}");
    state["cookies"][0]["value"].clone()
}

fn is_whole(assign: &Assign, id: SessionId) {
    assert_eq!(assign.session_id, id.to_string());
    let proxy = Proxy {
        url: "http://proxy.example:3128".to_owned(),
        username: "alice".to_owned(),
        password: "pr0xypass".to_owned(),
    };
    assert_eq!(assign.proxy, Some(proxy));
    assert_eq!(cookie_of(assign), "c00kie");
}

async fn profile(app: &TestApp, value: &str) -> String {
    let body = json!({"name": "p", "storage_state": state(value)});
    let made = app.call(http::Method::POST, "/v1/profiles").json(&body).send().await.expect(201);
    made["id"].as_str().unwrap().to_owned()
}

on_both_databases! {
    async fn a_launch_gets_all_that_it_needs_and_the_store_keeps_nothing_of_it(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let creating = tokio::spawn(app.create("one").json(&with_all("c00kie")).send());
        let assign = agent.hear_whole_assign().await;
        let id = assign.session_id.parse().unwrap();
        is_whole(&assign, id);
        assert_eq!(app.count(INPUTS).await, 1);
        agent.running(id);
        let created = creating.await.unwrap();
        assert!(!created.text.contains("pr0xypass") && !created.text.contains("c00kie"));
        let created = created.expect(201);
        assert_eq!(created["proxy"], json!({"url": "http://proxy.example:3128"}));
        assert_eq!(created["profile_id"], json!(null));
        assert_eq!(app.count(INPUTS).await, 0);
    }

    async fn a_launch_without_inputs_has_none(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        provision(&app, "one").await;
        let assign = agent.hear_whole_assign().await;
        assert_eq!((assign.proxy, assign.storage_state.len(), assign.keepalives), (None, 0, 0));
        assert_eq!(app.count(INPUTS).await, 0);
    }

    async fn an_agent_that_comes_back_before_the_browser_runs_gets_them_again(app: TestApp) {
        let hub = listen(&app).await;
        let hello = hello(AgentId::generate());
        let mut agent = Agent::attach(&hub, &hello).await.unwrap();
        let id = id_of(&create(&app, "one", &with_all("c00kie")).send().await.expect(201));
        is_whole(&agent.hear_whole_assign().await, id);
        drop(agent);
        until(|| async { app.count("SELECT connected_us FROM agents").await == 0 }).await;
        let mut agent = Agent::attach(&hub, &hello).await.unwrap();
        is_whole(&agent.hear_whole_assign().await, id);
        agent.running(id);
        becomes(&app, id, SessionStatus::Running).await;
        assert_eq!(app.count(INPUTS).await, 0);
    }

    async fn what_another_replica_took_in_reaches_the_agent(app: TestApp) {
        let hub = listen(&app).await;
        let other = app.another().await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = id_of(&create(&other, "one", &with_all("c00kie")).send().await.expect(201));
        is_whole(&agent.hear_whole_assign().await, id);
        other.app.db.close().await;
    }

    async fn a_launch_that_moves_takes_them_along_and_one_that_fails_leaves_none(app: TestApp) {
        let hub = listen(&app).await;
        let one = Hello { capacity: 1, ..hello(AgentId::generate()) };
        let mut first = Agent::attach(&hub, &one).await.unwrap();
        let id = id_of(&create(&app, "one", &with_all("c00kie")).send().await.expect(201));
        is_whole(&first.hear_whole_assign().await, id);
        let two = Hello { capacity: 1, ..hello(AgentId::generate()) };
        let mut second = Agent::attach(&hub, &two).await.unwrap();
        first.ended(id, EndReason::LaunchFailed);
        assert_eq!(first.hear_acknowledge().await, id);
        is_whole(&second.hear_whole_assign().await, id);
        assert_eq!(app.count(INPUTS).await, 1);
        second.ended(id, EndReason::LaunchFailed);
        assert_eq!(second.hear_acknowledge().await, id);
        assert_eq!(app.session(id).await.status, SessionStatus::Errored);
        assert_eq!(app.count(INPUTS).await, 0);
    }

    async fn a_release_before_the_browser_runs_leaves_none(app: TestApp) {
        app.agent("local", 1).await;
        let id = id_of(&create(&app, "one", &with_all("c00kie")).send().await.expect(201));
        app.call(http::Method::DELETE, &format!("/v1/sessions/{id}")).send().await.expect(204);
        assert_eq!(app.count(INPUTS).await, 0);
    }

    async fn a_session_is_never_launched_without_them(app: TestApp) {
        let id = app.agent("local", 1).await;
        let session = id_of(&create(&app, "one", &with_all("c00kie")).send().await.expect(201));
        app.sql("UPDATE session_inputs SET wrapped_key = content", &[]).await;
        // Another run of the agent may attach.
        app.sql("UPDATE agents SET connected_us = 0", &[]).await;
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(id)).await.unwrap();
        becomes(&app, session, SessionStatus::Errored).await;
        let reason = app.session(session).await.reason.unwrap();
        assert_eq!(reason.code, EndReason::LaunchFailed);
        assert!(reason.message.contains("cannot be decrypted"), "{}", reason.message);
        agent.say(Said::Heartbeat(Heartbeat { sequence: 1, warm: 0 }));
        assert!(matches!(agent.hear().await.unwrap(), Message::Lease(_)), "nothing else was said");
    }

    async fn a_state_is_laid_over_the_profile(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let profile = profile(&app, "profile's").await;
        let body = json!({"profile_id": profile});
        let created = create(&app, "one", &body).send().await.expect(201);
        assert_eq!(created["profile_id"], profile.as_str());
        let first = agent.hear_whole_assign().await;
        assert_eq!(cookie_of(&first), "profile's");
        let body = json!({"profile_id": profile, "storage_state": state("given")});
        create(&app, "two", &body).send().await.expect(201);
        assert_eq!(cookie_of(&agent.hear_whole_assign().await), "given");
    }

    async fn only_profiles_of_the_workspace_are_known(app: TestApp) {
        app.agent("local", 9).await;
        let known = profile(&app, "x").await;
        let mut tx = app.tx().await;
        let other = crate::workspaces::insert(&mut tx, "other", "Other").await.unwrap();
        tx.commit().await.unwrap();
        let key = app.key_for(other, &["sessions:write"]).await;
        let unknown = proto::id::ProfileId::generate().to_string();
        for call in [
            create(&app, "k", &json!({"profile_id": unknown})),
            create(&app, "k", &json!({"profile_id": known.to_lowercase()})),
            create(&app, "k", &json!({"profile_id": known})).key(&key),
        ] {
            let problem = call.send().await.problem(422, "unknown-profile");
            assert_eq!(problem["errors"][0]["pointer"], "/profile_id");
        }
        assert_eq!(app.count("SELECT COUNT(*) FROM sessions").await, 0);
    }

    async fn a_key_stands_for_its_session_whatever_becomes_of_the_profile(app: TestApp) {
        app.agent("local", 1).await;
        let profile = profile(&app, "x").await;
        let body = json!({"profile_id": profile});
        let first = create(&app, "k", &body).send().await.expect(201);
        let path = format!("/v1/profiles/{profile}");
        app.call(http::Method::DELETE, &path).send().await.expect(204);
        crate::sessions::started(&app.app, app.session(id_of(&first)).await.agent_id.unwrap(), id_of(&first)).await.unwrap();
        assert_eq!(id_of(&create(&app, "k", &body).send().await.expect(200)), id_of(&first));
        create(&app, "new", &body).send().await.problem(422, "unknown-profile");
    }

    async fn nothing_secret_is_in_the_store_in_clear(app: TestApp) {
        app.agent("local", 1).await;
        create(&app, "k", &with_all("c00kie")).send().await.expect(201);
        profile(&app, "c00kie").await;
        let mut tx = app.app.db.read().await.unwrap();
        for text in [
            "SELECT content FROM session_inputs",
            "SELECT wrapped_key FROM session_inputs",
            "SELECT content FROM profiles",
        ] {
            let bytes: Vec<u8> = crate::db::on!(tx, |db| {
                sqlx::query_scalar(text).fetch_one(db).await
            }).unwrap();
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            assert!(!shown.contains("c00kie") && !shown.contains("pr0xypass"), "{text}");
        }
    }
}
