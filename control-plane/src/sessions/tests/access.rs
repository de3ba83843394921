//! What needs no key, and how answers look that are about none. Who may call the other routes
//! is told by `contract/walk.rs`.

use http::Method;

use crate::testing::{TestApp, on_both_databases};

on_both_databases! {
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
