//! What browsers were refused, from the agent to whoever asks.

use proto::agent::{Denial, Denials};

use super::*;

fn denial(host: &str, count: u64, last_ms: i64) -> Denial {
    Denial {
        host: host.to_owned(),
        port: 80,
        rule: "private".to_owned(),
        count,
        first_ms: 1_000,
        last_ms,
    }
}

fn say(agent: &Agent, id: SessionId, count: u64, denials: Vec<Denial>) {
    agent.say(Said::Denials(Denials { session_id: id.to_string(), count, denials }));
}

/// What is shown once so many are counted.
async fn shown(app: &TestApp, id: SessionId, count: u64) -> Value {
    let path = format!("/v1/sessions/{id}/egress");
    until(|| async { app.get(&path).send().await.expect(200)["denied_count"] == count }).await;
    app.get(&path).send().await.expect(200)
}

on_both_databases! {
    async fn what_a_browser_was_refused_is_listed_the_latest_first_and_stays(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        assert_eq!(shown(&app, id, 0).await, json!({"denied_count": 0, "denials": []}));
        say(&agent, id, 2, vec![denial("10.0.0.1", 1, 2_000), denial("a.test", 1, 3_000)]);
        let first = shown(&app, id, 2).await;
        assert_eq!(first["denials"][0], json!({
            "host": "a.test", "port": 80, "rule": "private", "count": 1,
            "first_at": "1970-01-01T00:00:01.000Z", "last_at": "1970-01-01T00:00:03.000Z",
        }));
        say(&agent, id, 9, vec![denial("10.0.0.1", 8, 4_000)]);
        let second = shown(&app, id, 9).await;
        let hosts = |all: &Value| [0, 1].map(|n| all["denials"][n]["host"].clone());
        assert_eq!(hosts(&second), ["10.0.0.1", "a.test"]);
        assert_eq!(second["denials"][0]["count"], 8);
        assert_eq!(second["denials"][0]["first_at"], "1970-01-01T00:00:01.000Z");
        // What comes late changes nothing.
        say(&agent, id, 2, vec![denial("10.0.0.1", 1, 2_000)]);
        agent.ended(id, EndReason::Released);
        until(|| async { app.session(id).await.status.is_final() }).await;
        assert_eq!(shown(&app, id, 9).await, second);
        // Nor does another agent.
        let other = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        say(&other, id, 50, vec![denial("b.test", 50, 9_000)]);
        other.leave().await;
        assert_eq!(shown(&app, id, 9).await, second);
    }

    async fn an_agent_cannot_fill_the_store(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        let hosts = |from: u64, to: u64| {
            (from..to).map(|n| denial(&format!("h{n}.test"), 1, 2_000)).collect()
        };
        say(&agent, id, 60, hosts(0, 60));
        say(&agent, id, 200, hosts(60, 200));
        let list = shown(&app, id, 200).await;
        assert_eq!(list["denials"].as_array().unwrap().len(), 100);
        // What is known still counts on.
        say(&agent, id, 201, vec![denial("h0.test", 2, 3_000), denial("new.test", 1, 3_000)]);
        assert_eq!(shown(&app, id, 201).await["denials"][0]["host"], "h0.test");
        let unsound = [
            denial("", 1, 4_000),
            denial(&"x".repeat(256), 1, 4_000),
            denial("nul\0", 1, 4_000),
            Denial { port: 0, ..denial("p.test", 1, 4_000) },
            Denial { port: 65_536, ..denial("p.test", 1, 4_000) },
            Denial { rule: "r".repeat(65), ..denial("p.test", 1, 4_000) },
        ];
        app.sql("DELETE FROM egress_denials", &[]).await;
        say(&agent, id, 202, unsound.into());
        assert_eq!(shown(&app, id, 202).await["denials"], json!([]));
    }

    async fn an_agent_is_told_what_the_session_narrows(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let egress = json!({"allow": ["*.example.com:443"], "deny": ["10.0.0.0/8", "a.test"]});
        let create = app.create("k").json(&json!({ "egress": egress }));
        let session = create.header("prefer", "respond-async").send().await.expect(201);
        assert_eq!(session["egress"], egress);
        let told = agent.hear_whole_assign().await.egress.unwrap();
        assert_eq!(told.allow, ["*.example.com:443"]);
        assert_eq!(told.deny, ["10.0.0.0/8", "a.test"]);
        let other = json!({"egress": {"allow": ["*.example.com:444"]}});
        app.create("k").json(&other).send().await.problem(422, "idempotency-key-reused");
    }
}
