use http::Method;
use proto::{agent::SessionUsage, session::EndReason};
use serde_json::json;

use crate::{
    sessions::{Reporter, ended, expire, lost, started, usage},
    testing::{TestApp, id_of, on_both_databases},
};

on_both_databases! {
    async fn a_release_ends_a_session_once(app: TestApp) {
        app.quick_agent("local", 2).await;
        let one = app.create("one").send().await.expect(201);
        let path = format!("/v1/sessions/{}", id_of(&one));
        app.call(Method::DELETE, &path).send().await.expect(204);
        let over = app.get(&path).send().await.expect(200);
        assert_eq!(over["status"], "COMPLETED");
        assert_eq!(over["status_reason"], json!({"code": "released", "message": "released by request"}));
        assert_eq!(over["connect_url"], json!(null));
        assert!(over["ended_at"].is_string());
        app.call(Method::DELETE, &path).send().await.expect(204);
        let release = json!({"status": "REQUEST_RELEASE"});
        app.call(Method::PATCH, &path).json(&release).send().await.expect(204);
        assert_eq!(app.get(&path).send().await.expect(200)["ended_at"], over["ended_at"]);
        let events = app.get(&format!("{path}/events")).send().await.expect(200);
        assert_eq!(events["items"].as_array().unwrap().len(), 4);
        assert_eq!(events["items"][3]["reason"]["code"], "released");
        let two = app.create("two").send().await.expect(201);
        let path = format!("/v1/sessions/{}", id_of(&two));
        app.call(Method::PATCH, &path).json(&release).send().await.expect(204);
        assert_eq!(app.get(&path).send().await.expect(200)["status"], "COMPLETED");
    }

    async fn labels_can_be_replaced(app: TestApp) {
        app.quick_agent("local", 1).await;
        let session = app.create("k").json(&json!({"labels": {"a": "1"}})).send().await.expect(201);
        let path = format!("/v1/sessions/{}", id_of(&session));
        let patch = |body| app.call(Method::PATCH, &path).json(&body);
        let changed = patch(json!({"labels": {"b": "2"}})).send().await.expect(200);
        assert_eq!(changed["labels"], json!({"b": "2"}));
        assert_eq!(app.get(&path).send().await.expect(200)["labels"], json!({"b": "2"}));
        patch(json!({"labels": {"b": 2}})).send().await.problem(422, "validation-error");
        patch(json!({"region": "eu"})).send().await.problem(400, "validation-error");
        patch(json!({})).send().await.problem(422, "validation-error");
        let large = json!({"labels": {"a": "x".repeat(64 << 10)}});
        patch(large).send().await.problem(413, "payload-too-large");
    }

    async fn a_session_ends_at_its_deadline(app: TestApp) {
        let agent = app.quick_agent("local", 2).await;
        let one = id_of(&app.create("one").send().await.expect(201));
        let two = id_of(&app.create("two").send().await.expect(201));
        app.sql("UPDATE sessions SET expires_us = created_us WHERE id = $1", &[&one.to_string()]).await;
        expire::overdue(&app.app).await.unwrap();
        let row = app.session(one).await;
        assert_eq!(row.reason.unwrap().code, EndReason::Deadline);
        assert_eq!(row.status.as_str(), "EXPIRED");
        assert_eq!(app.session(two).await.status.as_str(), "RUNNING");
        // The agent's own word on it changes nothing but the slot.
        ended(&app.app, agent, one, EndReason::Idle, "").await.unwrap();
        let row = app.session(one).await;
        assert_eq!((row.status.as_str(), row.slot_held), ("EXPIRED", false));
    }

    async fn what_an_agent_said_on_an_older_stream_no_longer_counts(app: TestApp) {
        let agent = app.agent("local", 1).await;
        let id = id_of(&app.create("k").header("prefer", "respond-async").send().await.expect(201));
        app.sql("UPDATE agents SET epoch = 8", &[]).await;
        let [older, newest] = [7, 8].map(|epoch| Reporter { agent, epoch: Some(epoch) });
        assert!(!started(&app.app, older, id).await.unwrap());
        assert!(started(&app.app, newest, id).await.unwrap());
        for (by, status) in [(older, "RUNNING"), (newest, "ERRORED")] {
            ended(&app.app, by, id, EndReason::BrowserCrashed, "").await.unwrap();
            let row = app.session(id).await;
            assert_eq!((row.status.as_str(), row.slot_held), (status, status == "RUNNING"));
        }
    }

    async fn the_sessions_of_a_lost_agent_end(app: TestApp) {
        let agent = app.agent("local", 3).await;
        let spared = app.quick_agent("eu", 1).await;
        let elsewhere = app.create("e").json(&json!({"region": "eu"})).send().await.expect(201);
        let mut ids = Vec::new();
        for key in ["a", "b", "c"] {
            let create = app.create(key).header("prefer", "respond-async");
            ids.push(id_of(&create.send().await.expect(201)));
        }
        started(&app.app, agent, ids[0]).await.unwrap();
        started(&app.app, agent, ids[1]).await.unwrap();
        let path = format!("/v1/sessions/{}", ids[1]);
        app.call(Method::DELETE, &path).send().await.expect(204);
        app.lapse(agent).await;
        lost(&app.app, agent).await.unwrap();
        lost(&app.app, agent).await.unwrap();
        for (id, status) in ids.iter().zip(["ERRORED", "COMPLETED", "ERRORED"]) {
            let row = app.session(*id).await;
            assert_eq!((row.status.as_str(), row.slot_held), (status, false));
        }
        let row = app.session(id_of(&elsewhere)).await;
        assert_eq!((row.status.as_str(), row.agent_id), ("RUNNING", Some(spared)));
        // One that ran tells of it as one that was ended by itself.
        let shown = app.get(&format!("/v1/sessions/{}", ids[0])).send().await.expect(200);
        assert_eq!(shown["status_reason"]["code"], "agent_lost");
        let events = app.get(&format!("/v1/sessions/{}/events", ids[0])).send().await.expect(200);
        let last = events["items"].as_array().unwrap().last().unwrap();
        assert_eq!((&last["status"], &last["reason"]), (&shown["status"], &shown["status_reason"]));
        assert_eq!(last["at"], shown["ended_at"]);
        let lost = "SELECT COUNT(*) FROM outbox WHERE CAST(payload AS TEXT) LIKE '%agent_lost%'";
        assert_eq!(app.count(lost).await, 2);
        let events = app.count("SELECT COUNT(*) FROM session_events").await;
        assert_eq!(app.count("SELECT COUNT(*) FROM outbox").await, events, "each is told once");
    }

    async fn agents_speak_only_for_their_own_sessions(app: TestApp) {
        let other = app.agent("eu", 1).await;
        let agent = app.agent("local", 1).await;
        let create = app.create("k").header("prefer", "respond-async");
        let id = id_of(&create.send().await.expect(201));
        started(&app.app, other, id).await.unwrap();
        ended(&app.app, other, id, EndReason::BrowserCrashed, "").await.unwrap();
        let used = SessionUsage { session_id: id.to_string(), cdp_messages: 9, ..Default::default() };
        usage(&app.app, other, &[used]).await.unwrap();
        let row = app.session(id).await;
        assert_eq!((row.status.as_str(), row.slot_held, row.cdp_messages), ("PROVISIONING", true, 0));
        started(&app.app, agent, id).await.unwrap();
        started(&app.app, agent, id).await.unwrap();
        assert_eq!(app.count("SELECT COUNT(*) FROM session_events").await, 3);
        ended(&app.app, agent, id, EndReason::BrowserCrashed, "signal 9").await.unwrap();
        let row = app.session(id).await;
        assert_eq!(row.status.as_str(), "ERRORED");
        assert_eq!(row.reason.unwrap().message, "the browser ended unexpectedly: signal 9");
        // It had run, so its key still stands for it.
        assert_eq!(app.create("k").send().await.expect(200)["status"], "ERRORED");
    }

    async fn usage_only_grows(app: TestApp) {
        let agent = app.quick_agent("local", 1).await;
        let id = id_of(&app.create("k").send().await.expect(201));
        let report = |last_seen_ms, n| SessionUsage {
            session_id: id.to_string(), last_seen_ms, cdp_messages: n, bytes_in: 2 * n, bytes_out: 3 * n,
            egress_bytes: n,
        };
        let nonsense = SessionUsage { session_id: "x".to_owned(), ..Default::default() };
        usage(&app.app, agent, &[nonsense, report(0, 0)]).await.unwrap();
        assert_eq!(app.session(id).await.last_seen_us, None);
        usage(&app.app, agent, &[report(1_795_348_800_000, 7)]).await.unwrap();
        usage(&app.app, agent, &[report(1_795_348_799_000, 5)]).await.unwrap();
        let session = app.get(&format!("/v1/sessions/{id}")).send().await.expect(200);
        assert_eq!(session["last_seen_at"], "2026-11-22T12:00:00.000Z");
        let used = &session["usage"];
        assert_eq!((&used["cdp_messages"], &used["bytes_in"], &used["bytes_out"]), (&json!(7), &json!(14), &json!(21)));
    }

    async fn regions_say_what_room_there_is(app: TestApp) {
        let regions = async || app.get("/v1/regions").send().await.expect(200);
        let isolation = json!({"active": [], "missing": []});
        assert_eq!(regions().await, json!({"items": [
            {"region": "local", "capacity": 0, "in_use": 0, "warm": 0, "status": "offline",
             "isolation": isolation},
        ]}));
        app.get("/readyz").without("authorization").send().await.problem(503, "insufficient-capacity");
        app.quick_agent("local", 1).await;
        let gone = app.agent("eu", 5).await;
        app.agent("eu", 2).await;
        app.sql("UPDATE agents SET lease_expires_us = 0 WHERE id = $1", &[&gone.to_string()]).await;
        app.create("k").send().await.expect(201);
        assert_eq!(regions().await, json!({"items": [
            {"region": "eu", "capacity": 2, "in_use": 0, "warm": 0, "status": "available",
             "isolation": isolation},
            {"region": "local", "capacity": 1, "in_use": 1, "warm": 0, "status": "full",
             "isolation": isolation},
        ]}));
        app.get("/readyz").without("authorization").send().await.expect(200);
    }
}
