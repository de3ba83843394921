use proto::{id::AgentId, session::EndReason};
use serde_json::{Value, json};

use super::create::until_held;
use crate::{
    files::{self, Source},
    sessions::{ended, lost, started},
    testing::{TestApp, id_of, on_both_databases, until},
};

/// Creates a session and answers when it has a slot.
async fn provision(app: &TestApp) -> proto::id::SessionId {
    let created = app.create("k").header("prefer", "respond-async").send().await;
    id_of(&created.expect(201))
}

/// The statuses of a session's events, and their reasons' messages.
async fn events(app: &TestApp, id: proto::id::SessionId) -> Vec<(String, Value)> {
    let events = app.get(&format!("/v1/sessions/{id}/events")).send().await.expect(200);
    let event = |event: &Value| {
        (event["status"].as_str().unwrap().to_owned(), event["reason"]["message"].clone())
    };
    events["items"].as_array().unwrap().iter().map(event).collect()
}

on_both_databases! {
    async fn a_launch_is_tried_on_three_agents_and_its_events_say_so(app: TestApp) {
        let agents = [app.agent("local", 1).await, app.agent("local", 1).await,
            app.agent("local", 1).await, app.agent("local", 1).await];
        let create = tokio::spawn(app.create("k").send());
        until(async || app.count("SELECT COUNT(*) FROM sessions").await == 1).await;
        let mut tried: Vec<AgentId> = Vec::new();
        let id = loop {
            let mut tx = app.app.db.read().await.unwrap();
            let mut held = None;
            for agent in agents {
                let sessions = crate::sessions::store::held_by(&mut tx, agent).await.unwrap();
                held = held.or(sessions.first().map(|session| (agent, session.id)));
            }
            drop(tx);
            let (agent, id) = held.unwrap();
            assert!(!tried.contains(&agent), "never the same twice");
            tried.push(agent);
            ended(&app.app, agent, id, EndReason::LaunchFailed, "no X").await.unwrap();
            if app.session(id).await.status.is_final() {
                break id;
            }
        };
        assert_eq!(tried.len(), 3);
        create.await.unwrap().problem(503, "insufficient-capacity");
        let moved = json!("the browser could not be started: no X; it goes to another agent");
        let over = json!("the browser could not be started: no X (the last of 3 agents that tried)");
        let expected = [
            ("QUEUED", Value::Null),
            ("PROVISIONING", Value::Null),
            ("PROVISIONING", moved.clone()),
            ("PROVISIONING", moved),
            ("ERRORED", over),
        ].map(|(status, message)| (status.to_owned(), message));
        assert_eq!(events(&app, id).await, expected);
        assert_eq!(app.count("SELECT COUNT(*) FROM sessions WHERE slot_held = 1").await, 0);
        assert_eq!(app.count("SELECT COUNT(*) FROM idempotency").await, 0);
    }

    async fn a_launch_whose_agent_is_lost_goes_to_another_one(app: TestApp) {
        let bad = app.agent("local", 1).await;
        let create = tokio::spawn(app.create("k").send());
        let id = until_held(&app, bad).await;
        let good = app.agent("local", 1).await;
        app.lapse(bad).await;
        lost(&app.app, bad).await.unwrap();
        let row = app.session(id).await;
        assert_eq!((row.agent_id, row.tried), (Some(good), vec![bad]));
        // What the former agent says late changes nothing.
        started(&app.app, bad, id).await.unwrap();
        ended(&app.app, bad, id, EndReason::BrowserCrashed, "").await.unwrap();
        lost(&app.app, bad).await.unwrap();
        let row = app.session(id).await;
        assert_eq!((row.status.as_str(), row.slot_held), ("PROVISIONING", true));
        started(&app.app, good, id).await.unwrap();
        let session = create.await.unwrap().expect(201);
        assert_eq!((id_of(&session), &session["status"]), (id, &json!("RUNNING")));
    }

    async fn what_ran_is_not_started_again(app: TestApp) {
        let agent = app.agent("local", 1).await;
        let id = provision(&app).await;
        started(&app.app, agent, id).await.unwrap();
        app.agent("local", 1).await;
        app.lapse(agent).await;
        lost(&app.app, agent).await.unwrap();
        assert_eq!(app.session(id).await.reason.unwrap().code, EndReason::AgentLost);
    }

    async fn a_launch_stays_where_it_failed_when_its_time_is_over(app: TestApp) {
        for (n, late) in [
            "UPDATE sessions SET expires_us = created_us - 1",
            "UPDATE sessions SET created_us = created_us - 121000000",
        ].into_iter().enumerate() {
            let bad = app.agent("local", 1).await;
            let created = app.create(&n.to_string()).header("prefer", "respond-async").send().await;
            let id = id_of(&created.expect(201));
            let good = app.agent("local", 1).await;
            app.sql(late, &[]).await;
            ended(&app.app, bad, id, EndReason::LaunchFailed, "").await.unwrap();
            assert_eq!(app.session(id).await.status.as_str(), "ERRORED");
            app.sql("UPDATE agents SET lease_expires_us = 0", &[]).await;
            assert_ne!(bad, good);
        }
    }

    async fn the_next_agent_gets_the_uploads_too(app: TestApp) {
        let bad = app.agent("local", 1).await;
        let id = provision(&app).await;
        let source = Source::Caller(app.workspace);
        files::tests::store(&app, id, source, "a.txt", b"content").await.unwrap();
        app.sql("DELETE FROM file_orders", &[]).await; // as when the first agent had it
        let good = app.agent("local", 1).await;
        ended(&app.app, bad, id, EndReason::LaunchFailed, "").await.unwrap();
        let mut tx = app.app.db.read().await.unwrap();
        let orders = files::orders::asked_of(&mut tx, good).await.unwrap();
        assert_eq!(orders.len(), 1);
        assert_eq!((orders[0].name.as_str(), orders[0].size_bytes, orders[0].remove), ("a.txt", 7, false));
    }
}
