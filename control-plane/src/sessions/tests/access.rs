use http::Method;
use proto::id::SessionId;
use serde_json::{Value, json};

use crate::testing::{Call, TestApp, id_of, on_both_databases};

/// Every route that needs a key, on one session, or a profile with the same id.
fn routes(app: &TestApp, id: &str) -> Vec<(&'static str, Call)> {
    let one = format!("/v1/sessions/{id}");
    let profile = format!("/v1/profiles/{id}");
    vec![
        ("sessions:write", app.create("k").json(&json!({}))),
        ("sessions:read", app.get("/v1/sessions")),
        ("sessions:read", app.get(&one)),
        ("sessions:read", app.get(&format!("{one}/events"))),
        ("sessions:write", app.call(Method::DELETE, &one)),
        ("sessions:write", app.call(Method::PATCH, &one).json(&json!({"labels": {}}))),
        ("sessions:write", app.call(Method::POST, &format!("{one}/keepalive"))),
        (
            "sessions:write",
            app.call(Method::POST, &format!("{one}/save-profile")).json(&json!({"name": "n"})),
        ),
        ("admin", app.call(Method::POST, &format!("{one}/force-stop"))),
        ("sessions:read", app.get(&profile)),
        ("sessions:write", app.get(&format!("{profile}/storage-state"))),
        ("sessions:write", app.call(Method::PATCH, &profile).json(&json!({"name": "n"}))),
        ("sessions:write", app.call(Method::DELETE, &profile)),
        ("sessions:read", app.get("/v1/profiles")),
        (
            "sessions:write",
            app.call(Method::POST, "/v1/profiles").json(&json!({"name": "n", "storage_state": {}})),
        ),
        ("sessions:read", app.get("/v1/regions")),
    ]
}

on_both_databases! {
    async fn every_route_is_closed_without_a_good_key(app: TestApp) {
        let id = SessionId::generate().to_string();
        let revoked = app.key_for(app.workspace, &["sessions:read", "sessions:write"]).await;
        let record = revoked[3..29].to_owned();
        app.sql("UPDATE api_keys SET revoked_us = 1 WHERE id = $1", &[&record]).await;
        let (good, secret) = app.key.rsplit_once('.').unwrap();
        let wrong = format!("{good}.{}", secret.chars().rev().collect::<String>());
        let unknown = format!("vs_{id}.{secret}");
        for bad in [
            String::new(),
            "Bearer".to_owned(),
            format!("Basic {}", app.key),
            format!("Bearer {wrong}"),
            format!("Bearer {unknown}"),
            format!("Bearer {revoked}"),
            format!("Bearer {}x", app.key),
        ] {
            for (_, call) in routes(&app, &id) {
                let answer = call.header("authorization", &bad).send().await;
                assert_eq!(answer.headers["www-authenticate"], "Bearer");
                answer.problem(401, "unauthorized");
            }
        }
        for (_, call) in routes(&app, &id) {
            call.without("authorization").send().await.problem(401, "unauthorized");
        }
        // The documented routes are these and the open ones: none was forgotten here.
        let document = serde_json::to_value(crate::api::document()).unwrap();
        let closed: usize = document["paths"].as_object().unwrap().values()
            .flat_map(|path| path.as_object().unwrap().values())
            .filter(|operation| operation["security"][0].get("api_key").is_some()).count();
        assert_eq!(routes(&app, &id).len(), closed);
    }

    async fn the_scope_comes_before_everything_else(app: TestApp) {
        let id = SessionId::generate().to_string();
        let none = app.key_for(app.workspace, &[]).await;
        let read = app.key_for(app.workspace, &["sessions:read"]).await;
        let write = app.key_for(app.workspace, &["sessions:write"]).await;
        for (_, call) in routes(&app, &id) {
            call.key(&none).send().await.problem(403, "forbidden");
        }
        for (scope, call) in routes(&app, &id) {
            let lacking = if scope == "sessions:write" { &read } else { &write };
            let problem = call.key(lacking).send().await.problem(403, "forbidden");
            assert!(problem["detail"].as_str().unwrap().contains(scope));
        }
        // Also before the body is looked at.
        app.create("k").key(&read).body("{").send().await.problem(403, "forbidden");
    }

    async fn what_is_foreign_looks_like_what_is_not_there(app: TestApp) {
        app.quick_agent("local", 1).await;
        let foreign = id_of(&app.create("k").send().await.expect(201)).to_string();
        let mut tx = app.tx().await;
        let other = crate::workspaces::insert(&mut tx, "other", "Other").await.unwrap();
        tx.commit().await.unwrap();
        let key = app.key_for(other, &["sessions:read", "sessions:write", "admin"]).await;
        let unknown = SessionId::generate().to_string();
        let answers = async |id: &str| {
            let mut answers: Vec<Value> = Vec::new();
            for (_, call) in routes(&app, id).into_iter().skip(2).take(11) {
                let mut problem = call.key(&key).send().await.problem(404, "not-found");
                problem["request_id"] = json!(null);
                let instance = problem["instance"].as_str().unwrap().replace(id, "ID");
                problem["instance"] = instance.into();
                answers.push(problem);
            }
            answers
        };
        let same = answers(&unknown).await;
        assert_eq!(answers(&foreign).await, same);
        assert_eq!(answers("nonsense").await, same);
        assert_eq!(answers(&unknown.to_lowercase()).await, same);
        let page = app.get("/v1/sessions").key(&key).send().await.expect(200);
        assert_eq!(page["items"], json!([]));
        assert_eq!(app.session(foreign.parse().unwrap()).await.status.as_str(), "RUNNING");
    }

    async fn the_open_routes_are_open(app: TestApp) {
        let get = |path: &str| app.get(path).without("authorization");
        let health = get("/v1/health").send().await.expect(200);
        assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
        get("/healthz").send().await.expect(200);
        let jwks = get("/.well-known/jwks.json").send().await.expect(200);
        assert_eq!(jwks["keys"][0]["crv"], "Ed25519");
        assert!(jwks["keys"][0]["d"].is_null());
        assert!(get("/openapi.json").send().await.expect(200)["openapi"].as_str().unwrap().starts_with("3.1"));
        assert_eq!(get("/docs").send().await.status, 303);
        let docs = get("/docs/").send().await;
        assert_eq!(docs.status, 200);
        assert!(!docs.text.contains("https://"), "{}", docs.text);
        for slug in proto::problem::Slug::ALL {
            let page = get(&format!("/errors/{}", slug.as_str())).send().await;
            assert_eq!(page.status, 200);
            assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"));
        }
        get("/errors/nope").send().await.problem(404, "not-found");
    }

    async fn a_database_that_is_away_is_worth_another_try(app: TestApp) {
        app.app.db.close().await;
        for (_, call) in routes(&app, &SessionId::generate().to_string()) {
            let answer = call.send().await;
            assert!(answer.headers.contains_key("retry-after"));
            answer.problem(503, "insufficient-capacity");
        }
        app.get("/readyz").send().await.problem(503, "insufficient-capacity");
        app.get("/healthz").send().await.expect(200);
    }

    async fn answers_are_not_to_be_stored(app: TestApp) {
        assert_eq!(app.get("/v1/sessions").send().await.headers["cache-control"], "no-store");
    }

    async fn other_methods_and_paths_are_problems(app: TestApp) {
        let answer = app.call(Method::PUT, "/v1/sessions").send().await;
        let allow = answer.headers["allow"].to_str().unwrap().to_owned();
        assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
        answer.problem(405, "method-not-allowed");
        app.get("/v1/nope").send().await.problem(404, "not-found");
        app.get("/v1/regions?x=1").send().await.problem(400, "validation-error");
    }
}
