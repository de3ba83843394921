use http::Method;
use prometheus_client::{encoding::text, registry::Registry};
use proto::session::EndReason;
use serde_json::json;

use super::{Monitor, look};
use crate::{
    agents::roster,
    sessions::{ended, expire},
    testing::{TestApp, id_of, on_both_databases},
};

/// All metrics of a replica as a collector reads them.
fn page(app: &TestApp) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Monitor(app.app.clone())));
    let mut page = String::new();
    text::encode(&mut page, &registry).unwrap();
    page
}

/// The value of a series; `None` when it is not there.
fn shown(app: &TestApp, series: &str) -> Option<f64> {
    let text = page(app);
    let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(value)
}

fn ends(app: &TestApp, reason: EndReason) -> Option<f64> {
    shown(app, &format!("ventus_sessions_ended_total{{region=\"local\",reason=\"{reason}\"}}"))
}

on_both_databases! {
    async fn an_end_is_counted_once_whoever_tells_of_it(app: TestApp) {
        let agent = app.quick_agent("local", 4).await;
        let mut made = Vec::new();
        for key in ["released", "overdue", "crashed"] {
            made.push(id_of(&app.create(key).send().await.expect(201)));
        }
        let path = format!("/v1/sessions/{}", made[0]);
        for _ in 0..2 {
            app.call(Method::DELETE, &path).send().await.expect(204);
        }
        let overdue = "UPDATE sessions SET expires_us = created_us WHERE id = $1";
        app.sql(overdue, &[&made[1].to_string()]).await;
        for _ in 0..2 {
            expire::overdue(&app.app).await.unwrap();
        }
        for session in made.iter().chain(&made) {
            ended(&app.app, agent, *session, EndReason::BrowserCrashed, "").await.unwrap();
        }
        for reason in [EndReason::Released, EndReason::Deadline, EndReason::BrowserCrashed] {
            assert_eq!(ends(&app, reason), Some(1.0), "{reason}");
        }
        assert_eq!(ends(&app, EndReason::AgentLost), None);
        roster::look(&app.app).await.unwrap();
        assert_eq!(ends(&app, EndReason::AgentLost), Some(0.0), "before the first one");
    }

    async fn what_was_seen_is_what_is_there(app: TestApp) {
        let agent = app.quick_agent("local", 3).await;
        let session = id_of(&app.create("one").send().await.expect(201));
        roster::look(&app.app).await.unwrap();
        look(&app.app).await.unwrap();
        let of = |name: &str, state: &str| {
            shown(&app, &format!("{name}{{region=\"local\",state=\"{state}\"}}"))
        };
        let local = |name: &str| shown(&app, &format!("{name}{{region=\"local\"}}"));
        assert_eq!(of("ventus_sessions", "running"), Some(1.0));
        assert_eq!(of("ventus_sessions", "provisioning"), Some(0.0));
        assert_eq!((local("ventus_slots"), local("ventus_slots_used")), (Some(3.0), Some(1.0)));
        let agents = |app: &TestApp| {
            ["disconnected", "draining", "ready"].map(|state| {
                let series = format!("ventus_agents{{region=\"local\",state=\"{state}\"}}");
                shown(app, &series).unwrap()
            })
        };
        assert_eq!(agents(&app).iter().sum::<f64>(), 1.0);
        // A drained one has no room but for what it runs.
        let agent = agent.to_string();
        app.sql("UPDATE agents SET draining = 1, connected_us = 1 WHERE id = $1", &[&agent]).await;
        roster::look(&app.app).await.unwrap();
        assert_eq!(agents(&app), [0.0, 1.0, 0.0]);
        assert_eq!((local("ventus_slots"), local("ventus_slots_used")), (Some(1.0), Some(1.0)));
        // A region that is empty is told as empty, and does not vanish.
        app.call(Method::DELETE, &format!("/v1/sessions/{session}")).send().await.expect(204);
        app.sql("UPDATE agents SET lease_expires_us = 0 WHERE id = $1", &[&agent]).await;
        roster::look(&app.app).await.unwrap();
        look(&app.app).await.unwrap();
        assert_eq!(agents(&app), [0.0; 3]);
        assert_eq!(of("ventus_sessions", "running"), Some(0.0));
        assert_eq!(local("ventus_slots"), Some(0.0));
    }

    async fn requests_are_told_apart_by_route_and_never_by_path(app: TestApp) {
        app.get("/v1/sessions/anything").send().await.expect(404);
        app.get("/v1/sessions/something").send().await.expect(404);
        app.get("/api/v1/dashboard/me").send().await.expect(401);
        app.get("/some/secret").send().await;
        app.call(Method::from_bytes(b"SECRET").unwrap(), "/v1/sessions").send().await;
        let requests = |labels: &str| shown(&app, &format!("ventus_http_requests_total{{{labels}}}"));
        assert_eq!(
            requests(r#"method="GET",route="/v1/sessions/{id}",status="404""#),
            Some(2.0)
        );
        assert_eq!(requests(r#"method="GET",route="/api/v1/dashboard/me",status="401""#), Some(1.0));
        assert_eq!(requests(r#"method="other",route="/v1/sessions",status="405""#), Some(1.0));
        let took = r#"ventus_http_request_duration_seconds_count{method="GET",route="/v1/sessions/{id}"}"#;
        assert_eq!(shown(&app, took), Some(2.0));
        assert!(!page(&app).to_lowercase().contains("secret"));
    }

    async fn a_create_that_ran_is_measured_by_stage_and_one_in_vain_by_its_wait(app: TestApp) {
        app.quick_agent("local", 1).await;
        app.create("one").send().await.expect(201);
        let again = app.create("one").send().await;
        again.expect(200);
        let body = json!({});
        app.create("two").json(&body).header("prefer", "wait=0").send().await.expect(503);
        let stage = |name: &str| {
            shown(&app, &format!("ventus_session_create_duration_seconds_count{{stage=\"{name}\"}}"))
        };
        for name in ["queue", "place", "launch", "total"] {
            assert_eq!(stage(name), Some(1.0), "{name}");
        }
        assert_eq!(shown(&app, r#"ventus_queue_wait_seconds_count{region="local"}"#), Some(1.0));
        assert_eq!(shown(&app, r#"ventus_queue_length{region="local"}"#), Some(0.0));
    }

    async fn without_its_database_a_replica_is_not_ready(app: TestApp) {
        let monitor = Monitor(app.app.clone());
        assert_eq!(monitor.ready().await, Ok(()));
        let before = shown(&app, "ventus_db_statement_failures_total").unwrap();
        app.app.db.close().await;
        assert_eq!(monitor.ready().await, Err("the database does not answer"));
        assert!(shown(&app, "ventus_db_statement_failures_total").unwrap() > before);
        app.app.closing.cancel();
        assert_eq!(monitor.ready().await, Err("the control plane is stopping"));
    }
}
