use http::Method;
use serde_json::json;

use crate::{
    people::Role,
    retention,
    testing::{TestApp, on_both_databases},
};

on_both_databases! {
    async fn a_key_works_from_the_moment_it_is_made_until_it_is_revoked(app: TestApp) {
        let member = app.person("ada", Role::Member).await;
        let made = member.ws(Method::POST, "/api-keys").json(&json!({"label": "ci"}));
        let made = made.send().await.expect(201);
        let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
        assert_eq!(made["scopes"], json!(["sessions:read", "sessions:write"]));
        assert_eq!(made["created_by"], member.id.to_string());
        app.get("/v1/sessions").key(secret).send().await.expect(200);
        let listed = member.ws(Method::GET, "/api-keys").send().await;
        assert!(!listed.text.contains(secret.rsplit_once('.').unwrap().1));
        assert_eq!(listed.json()["items"][0]["revoked_at"], json!(null));
        let revoke = || member.ws(Method::DELETE, &format!("/api-keys/{id}"));
        revoke().send().await.expect(204);
        app.get("/v1/sessions").key(secret).send().await.problem(401, "unauthorized");
        revoke().send().await.expect(204);
        let listed = member.ws(Method::GET, "/api-keys").send().await.expect(200);
        assert!(listed["items"][0]["revoked_at"].is_string());
        let audit = member.ws(Method::GET, "/audit?action=api_key.revoke").send().await.expect(200);
        assert_eq!(audit["items"].as_array().unwrap().len(), 1);
        // 90 days later it is neither listed nor there.
        let day = "UPDATE api_keys SET revoked_us = revoked_us - 7775000000000 WHERE id = $1";
        app.sql(day, &[id]).await;
        retention::sweep(&app.app).await.unwrap();
        let listed = member.ws(Method::GET, "/api-keys").send().await.expect(200);
        assert_eq!(listed["items"].as_array().unwrap().len(), 1);
        let more = "UPDATE api_keys SET revoked_us = revoked_us - 2000000000 WHERE id = $1";
        app.sql(more, &[id]).await;
        let listed = member.ws(Method::GET, "/api-keys").send().await.expect(200);
        assert_eq!(listed["items"], json!([]));
        retention::sweep(&app.app).await.unwrap();
        revoke().send().await.problem(404, "not-found");
    }

    async fn a_key_allows_what_it_was_made_for_within_its_makers_role_now(app: TestApp) {
        app.quick_agent("local", 10).await;
        let owner = app.owner().await;
        let member = app.person("ada", Role::Member).await;
        let (_, reader) = member.key(&json!({"label": "r", "scopes": ["sessions:read"]})).await;
        app.create("1").key(&reader).send().await.problem(403, "forbidden");
        let (_, writer) = member.key(&json!({"label": "w"})).await;
        app.create("2").key(&writer).send().await.expect(201);
        let set = |role: &str| {
            let path = format!("/members/{}", member.id);
            owner.ws(Method::PATCH, &path).json(&json!({"role": role}))
        };
        set("viewer").send().await.expect(200);
        app.create("3").key(&writer).send().await.problem(403, "forbidden");
        app.get("/v1/sessions").key(&writer).send().await.expect(200);
        let listed = owner.ws(Method::GET, "/api-keys").send().await.expect(200);
        assert_eq!(listed["items"][0]["scopes"], json!(["sessions:read"]));
        set("member").send().await.expect(200);
        app.create("4").key(&writer).send().await.expect(201);
        // A role that grows does not make an old key grow.
        set("admin").send().await.expect(200);
        let listed = owner.ws(Method::GET, "/api-keys").send().await.expect(200);
        assert_eq!(listed["items"][0]["scopes"], json!(["sessions:read", "sessions:write"]));
    }

    async fn whoever_is_removed_takes_their_keys_along(app: TestApp) {
        let owner = app.owner().await;
        let member = app.person("ada", Role::Member).await;
        let (_, theirs) = member.key(&json!({"label": "theirs"})).await;
        let (_, others) = owner.key(&json!({"label": "others"})).await;
        let path = format!("/members/{}", member.id);
        owner.ws(Method::DELETE, &path).send().await.expect(204);
        app.get("/v1/sessions").key(&theirs).send().await.problem(401, "unauthorized");
        app.get("/v1/sessions").key(&others).send().await.expect(200);
        app.get("/v1/sessions").send().await.expect(200);
        member.ws(Method::GET, "").send().await.problem(404, "not-found");
        assert_eq!(app.role_of(&member).await, None);
        let audit = owner.ws(Method::GET, "/audit?action=member.remove").send().await.expect(200);
        assert_eq!(audit["items"][0]["detail"]["keys_revoked"], 1);
        // Coming back does not bring them back.
        app.person("ada", Role::Owner).await;
        app.get("/v1/sessions").key(&theirs).send().await.problem(401, "unauthorized");
    }

    async fn the_key_of_the_first_start_has_no_maker(app: TestApp) {
        let owner = app.owner().await;
        let listed = owner.ws(Method::GET, "/api-keys").send().await.expect(200);
        assert_eq!(listed["items"][0]["created_by"], json!(null));
        assert_eq!(listed["items"][0]["scopes"], json!(["sessions:read", "sessions:write"]));
    }

    async fn the_key_of_another_workspace_is_not_there(app: TestApp) {
        let owner = app.owner().await;
        let other = json!({"slug": "other", "name": "Other"});
        owner.call(Method::POST, "/workspaces").json(&other).send().await.expect(201);
        let (id, key) = owner.key(&json!({"label": "k"})).await;
        for id in [&*id, "nonsense"] {
            let revoke = owner.call(Method::DELETE, &format!("/ws/other/api-keys/{id}"));
            revoke.send().await.problem(404, "not-found");
        }
        app.get("/v1/sessions").key(&key).send().await.expect(200);
    }
}
