//! Drains and peers: what an operator asks for, and what reaches the agents.

use http::Method;
use proto::{
    agent::{Drain, Draining, Peers},
    id::WorkspaceId,
};

use super::*;
use crate::{
    agents::roster,
    keys::{ADMIN, READ, WRITE},
    testing::Call,
    workspaces,
};

/// A key of the operator.
async fn operator(app: &TestApp) -> String {
    app.key_for(app.workspace, &[READ, WRITE, ADMIN]).await
}

fn drain(app: &TestApp, key: &str, id: AgentId, body: &Value) -> Call {
    app.call(Method::POST, &format!("/v1/agents/{id}/drain")).key(key).json(body)
}

fn undo(app: &TestApp, key: &str, id: AgentId) -> Call {
    app.call(Method::DELETE, &format!("/v1/agents/{id}/drain")).key(key)
}

async fn shown(app: &TestApp, key: &str, id: AgentId) -> Value {
    app.get(&format!("/v1/agents/{id}")).key(key).send().await.expect(200)
}

/// The ids that a list answers.
async fn listed(app: &TestApp, key: &str, query: &str) -> Vec<String> {
    let page = app.get(&format!("/v1/agents{query}")).key(key).send().await.expect(200);
    let items = page["items"].as_array().unwrap().iter();
    items.map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

impl Agent {
    async fn hear_drain(&mut self) -> Drain {
        match self.hear().await.unwrap() {
            Message::Drain(drain) => drain,
            other => panic!("no drain but {other:?}"),
        }
    }

    async fn hear_peers(&mut self) -> Vec<(String, String)> {
        match self.hear().await.unwrap() {
            Message::Peers(Peers { peers }) => {
                peers.into_iter().map(|peer| (peer.agent_id, peer.data_plane_url)).collect()
            }
            other => panic!("no peers but {other:?}"),
        }
    }
}

/// Tells the streams of this replica what is new.
async fn look(app: &TestApp) {
    roster::look(&app.app).await.unwrap();
}

on_both_databases! {
    async fn a_drained_agent_gets_no_session_until_that_is_undone(app: TestApp) {
        let key = operator(&app).await;
        let (one, two) = (app.quick_agent("local", 2).await, app.quick_agent("local", 2).await);
        drain(&app, &key, one, &json!({})).send().await.expect(200);
        for n in 0..2 {
            let made = app.create(&format!("k{n}")).send().await.expect(201);
            assert_eq!(app.session(id_of(&made)).await.agent_id, Some(two));
        }
        let full = app.create("k2").header("prefer", "wait=0").send().await;
        full.problem(503, "insufficient-capacity");
        let region = regions(&app).await;
        let room = (&region["capacity"], &region["in_use"], &region["status"]);
        assert_eq!(room, (&json!(2), &json!(2), &json!("full")), "a drained one has no room");
        // Who waits is placed as soon as it is undone.
        let waiting = tokio::spawn(app.create("k3").header("prefer", "wait=20").send());
        undo(&app, &key, one).send().await.expect(200);
        let made = waiting.await.unwrap().expect(201);
        assert_eq!(app.session(id_of(&made)).await.agent_id, Some(one));
    }

    async fn a_drain_is_told_once_and_its_deadline_counts_from_its_beginning(app: TestApp) {
        let key = operator(&app).await;
        let hub = listen(&app).await;
        let hello = hello(AgentId::generate());
        let mut agent = Agent::attach(&hub, &hello).await.unwrap();
        let id = agent.id;
        let drained = drain(&app, &key, id, &json!({"deadline_seconds": 60})).send().await;
        let drained = drained.expect(200);
        assert_eq!(drained["status"], "draining");
        assert_eq!(agent.hear_drain().await, Drain { deadline_seconds: 60, over: false });
        // Asked for again it is the same, and nobody is told.
        let again = drain(&app, &key, id, &json!({"deadline_seconds": 60})).send().await;
        let again = again.expect(200);
        for same in ["draining_since", "drain_deadline_at"] {
            assert!(again[same].is_string() && again[same] == drained[same], "{again}");
        }
        look(&app).await;
        while agent.hear_peers().await.is_empty() {}
        let other = app.another().await;
        let sooner = drain(&other, &key, id, &json!({"deadline_seconds": 0})).send().await;
        assert_eq!(sooner.expect(200)["draining_since"], drained["draining_since"]);
        look(&app).await;
        assert_eq!(agent.hear_drain().await, Drain { deadline_seconds: 0, over: false });
        // Another stream knows nothing of it.
        let mut agent = Agent::attach(&hub, &hello).await.unwrap();
        agent.hear_peers().await;
        look(&app).await;
        assert!(!agent.hear_drain().await.over);
        let undone = undo(&app, &key, id).send().await.expect(200);
        assert_eq!((&undone["status"], &undone["draining_since"]), (&json!("ready"), &Value::Null));
        assert!(agent.hear_drain().await.over);
        undo(&app, &key, id).send().await.expect(200);
        let deeds = "SELECT COUNT(*) FROM audit WHERE action IN ('agent.drain', 'agent.undrain')";
        assert_eq!(app.count(deeds).await, 3, "what changes nothing is no deed");
        other.app.db.close().await;
    }

    async fn what_a_process_said_of_its_end_ends_with_it_and_a_drain_does_not(app: TestApp) {
        let key = operator(&app).await;
        let hub = listen(&app).await;
        let first = hello(AgentId::generate());
        let agent = Agent::attach(&hub, &first).await.unwrap();
        let id = agent.id;
        agent.say(Said::Draining(Draining { deadline_seconds: 30 }));
        until(|| async { shown(&app, &key, id).await["status"] == "draining" }).await;
        assert!(shown(&app, &key, id).await["draining_since"].is_string());
        // Only its stream was broken.
        let _again = Agent::attach(&hub, &first).await.unwrap();
        assert_eq!(shown(&app, &key, id).await["status"], "draining");
        let next = || Hello { instance: InstanceId::generate().to_string(), ..first.clone() };
        app.sql("UPDATE agents SET lease_expires_us = 1", &[]).await;
        assert_eq!(shown(&app, &key, id).await["status"], "lost");
        let _next = Agent::attach(&hub, &next()).await.unwrap();
        assert_eq!(shown(&app, &key, id).await["status"], "ready");
        drain(&app, &key, id, &json!({})).send().await.expect(200);
        app.sql("UPDATE agents SET lease_expires_us = 1", &[]).await;
        let _next = Agent::attach(&hub, &next()).await.unwrap();
        assert_eq!(shown(&app, &key, id).await["status"], "draining");
    }

    async fn agents_learn_who_else_is_in_their_region(app: TestApp) {
        let hub = listen(&app).await;
        let url = |name: &str| format!("ws://{name}.test");
        let mut one = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let behind = Hello { peer_url: url("inside"), ..hello(AgentId::generate()) };
        let mut two = Agent::attach(&hub, &behind).await.unwrap();
        let far = Hello { region: "far".to_owned(), ..hello(AgentId::generate()) };
        let mut far = Agent::attach(&hub, &far).await.unwrap();
        look(&app).await;
        let mut both = vec![(one.id.to_string(), url("agent")), (two.id.to_string(), url("inside"))];
        both.sort();
        assert_eq!(one.hear_peers().await, both);
        assert_eq!(two.hear_peers().await, both);
        assert_eq!(far.hear_peers().await, [(far.id.to_string(), url("agent"))]);
        look(&app).await; // with nothing new
        // A new one hears at once what is known; the others when it is seen.
        let mut three = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        assert_eq!(three.hear_peers().await, both);
        look(&app).await;
        for agent in [&mut one, &mut two, &mut three] {
            assert_eq!(agent.hear_peers().await.len(), 3);
        }
        let wrong = Hello { forwarding_key: vec![1; 31], ..hello(AgentId::generate()) };
        assert_eq!(refused(&hub, wrong).await, Some(Code::FailedPrecondition));
        let wrong = Hello { peer_url: "http://x".to_owned(), ..hello(AgentId::generate()) };
        assert_eq!(refused(&hub, wrong).await, Some(Code::FailedPrecondition));
    }

    async fn agents_are_listed_by_region_and_status(app: TestApp) {
        let key = operator(&app).await;
        let near = app.agent("local", 3).await;
        let far = app.agent("far", 1).await;
        let lost = app.agent("far", 1).await;
        app.sql("UPDATE agents SET lease_expires_us = 1 WHERE id = $1", &[&lost.to_string()]).await;
        let cut = app.agent("far", 1).await;
        app.sql("UPDATE agents SET connected_us = 0 WHERE id = $1", &[&cut.to_string()]).await;
        drain(&app, &key, far, &json!({})).send().await.expect(200);
        let ids = |agents: &[AgentId]| {
            let mut ids: Vec<_> = agents.iter().map(ToString::to_string).collect();
            ids.sort_by(|a, b| b.cmp(a));
            ids
        };
        for (query, agents) in [
            ("", &[near, far, lost, cut][..]),
            ("?region=far", &[far, lost, cut]),
            ("?status=ready", &[near]),
            ("?status=draining", &[far]),
            ("?status=disconnected&status=lost", &[lost, cut]),
            ("?status=ready&region=far", &[]),
        ] {
            assert_eq!(listed(&app, &key, query).await, ids(agents), "{query}");
        }
        let page = app.get("/v1/agents?limit=3").key(&key).send().await.expect(200);
        let cursor = page["next_cursor"].as_str().unwrap();
        let rest = listed(&app, &key, &format!("?limit=3&cursor={cursor}")).await;
        assert_eq!(rest, ids(&[near, far, lost, cut])[3..]);
        let one = shown(&app, &key, near).await;
        assert_eq!((&one["capacity"], &one["in_use"]), (&json!(3), &json!(0)));
        let unknown = format!("/v1/agents/{}", AgentId::generate());
        app.get(&unknown).key(&key).send().await.problem(404, "not-found");
    }

    async fn only_the_operators_workspace_sees_agents(app: TestApp) {
        let agent = app.agent("local", 1).await;
        let mut tx = app.tx().await;
        let other: WorkspaceId = workspaces::insert(&mut tx, "other", "Other").await.unwrap();
        tx.commit().await.unwrap();
        let stranger = app.key_for(other, &[ADMIN]).await;
        let operator = operator(&app).await;
        for (now, then) in [(&operator, &stranger), (&stranger, &operator)] {
            assert_eq!(listed(&app, now, "").await, [agent.to_string()]);
            let refused = app.get("/v1/agents").key(then).send().await.problem(403, "forbidden");
            assert!(refused["detail"].as_str().unwrap().contains("operator"), "{refused}");
            drain(&app, then, agent, &json!({})).send().await.problem(403, "forbidden");
            workspaces::operator::set_operator(&app.app.db, "other").await.unwrap();
        }
        assert!(workspaces::operator::set_operator(&app.app.db, "nope").await.is_err());
    }

    async fn a_drains_body_is_read_strictly(app: TestApp) {
        let (key, id) = (operator(&app).await, app.agent("local", 1).await);
        for bad in [json!({"deadline_seconds": 86_401}), json!({"deadline_seconds": -1})] {
            drain(&app, &key, id, &bad).send().await.problem(422, "validation-error");
        }
        drain(&app, &key, id, &json!({"deadline": 1})).send().await.problem(400, "validation-error");
        assert_eq!(shown(&app, &key, id).await["status"], "ready");
        for (good, seconds) in [(json!({"deadline_seconds": 86_400}), 86_400), (json!({}), 1_800)] {
            drain(&app, &key, id, &good).send().await.expect(200);
            let span = "SELECT (drain_deadline_us - draining_us) / 1000000 FROM agents";
            assert_eq!(app.count(span).await, seconds);
        }
    }
}
