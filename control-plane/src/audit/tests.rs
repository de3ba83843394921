use std::net::SocketAddr;

use http::Method;
use serde_json::{Value, json};

use crate::{
    people::Role,
    testing::{TestApp, TestPerson, on_both_databases},
};

async fn list(who: &TestPerson, query: &str) -> Value {
    who.ws(Method::GET, &format!("/audit{query}")).send().await.expect(200)
}

fn actions(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["action"].as_str().unwrap()).collect()
}

on_both_databases! {
    async fn an_entry_says_who_did_what_to_what_from_where(app: TestApp) {
        let owner = app.owner().await;
        let peer: SocketAddr = "[::ffff:192.0.2.7]:4711".parse().unwrap();
        let create = owner.ws(Method::POST, "/api-keys").json(&json!({"label": "ci"}));
        let agent = "x".repeat(600);
        let made = create.header("user-agent", &agent).peer(peer).send().await.expect(201);
        let page = list(&owner, "?action=api_key.create").await;
        let mut entry = page["items"][0].clone();
        for varying in ["id", "at"] {
            assert!(entry[varying].is_string(), "{entry}");
            entry[varying] = json!(null);
        }
        assert_eq!(entry, json!({
            "id": null, "at": null, "actor_kind": "user", "actor_id": owner.id.to_string(),
            "actor_email": "owner@ventus.test", "action": "api_key.create",
            "target_kind": "api_key", "target_id": made["id"],
            "detail": {"label": "ci", "scopes": ["sessions:read", "sessions:write"]},
            "ip": "192.0.2.7", "user_agent": "x".repeat(512),
        }));
        assert!(!page.to_string().contains(made["secret"].as_str().unwrap()));
    }

    async fn every_change_leaves_an_entry(app: TestApp) {
        let owner = app.owner().await;
        let ada = app.person("ada", Role::Viewer).await;
        let start = list(&owner, "").await["items"].as_array().unwrap().len();
        owner.ws(Method::PATCH, "").json(&json!({"name": "N"})).send().await.expect(200);
        let (key, _) = owner.key(&json!({"label": "k"})).await;
        owner.ws(Method::DELETE, &format!("/api-keys/{key}")).send().await.expect(204);
        let member = format!("/members/{}", ada.id);
        owner.ws(Method::PATCH, &member).json(&json!({"role": "member"})).send().await.expect(200);
        ada.ws(Method::DELETE, &member).send().await.expect(204);
        let invite = |email: &str| {
            let body = json!({"email": email, "role": "viewer"});
            owner.ws(Method::POST, "/invitations").json(&body)
        };
        let made = invite("a@b.test").send().await.expect(201);
        let one = format!("/invitations/{}", made["id"].as_str().unwrap());
        owner.ws(Method::DELETE, &one).send().await.expect(204);
        let token = app.mailed("c@d.test", invite("c@d.test"), 201).await;
        app.exchange(&token).await.expect(200);
        owner.ws(Method::DELETE, "").send().await.expect(204);
        owner.ws(Method::POST, "/restore").send().await.expect(200);
        let page = list(&owner, "?limit=100").await;
        let mut found = actions(&page);
        found.truncate(found.len() - start);
        found.sort_unstable();
        assert_eq!(found, [
            "api_key.create", "api_key.revoke", "invitation.create", "invitation.create",
            "invitation.withdraw", "member.join", "member.leave", "member.role", "user.sign_in",
            "workspace.delete", "workspace.rename", "workspace.restore",
        ]);
        // What was refused leaves none.
        invite("owner@ventus.test").send().await.problem(409, "conflict");
        assert_eq!(list(&owner, "?limit=100").await, page);
    }

    async fn pages_show_everything_once_and_cursors_belong_to_their_list(app: TestApp) {
        let owner = app.owner().await;
        for n in 0..5 {
            owner.key(&json!({"label": n.to_string()})).await;
        }
        let all = list(&owner, "").await;
        let (mut seen, mut query) = (Vec::new(), "?limit=2".to_owned());
        loop {
            let page = list(&owner, &query).await;
            seen.extend(page["items"].as_array().unwrap().clone());
            // What is done meanwhile moves nothing.
            owner.ws(Method::PATCH, "").json(&json!({"name": "N"})).send().await.expect(200);
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            query = format!("?limit=2&cursor={cursor}");
        }
        assert_eq!(json!(seen), all["items"]);
        let page = list(&owner, "?limit=1").await;
        let cursor = page["next_cursor"].as_str().unwrap();
        let other = json!({"slug": "other", "name": "Other"});
        owner.call(Method::POST, "/workspaces").json(&other).send().await.expect(201);
        for call in [
            owner.ws(Method::GET, &format!("/audit?action=api_key.create&cursor={cursor}")),
            owner.ws(Method::GET, &format!("/audit?cursor={}x", &cursor[1..])),
            owner.call(Method::GET, &format!("/ws/other/audit?cursor={cursor}")),
            app.get(&format!("/v1/sessions?cursor={cursor}")),
        ] {
            let problem = call.send().await.problem(400, "validation-error");
            assert_eq!(problem["errors"][0]["pointer"], "?cursor");
        }
    }

    async fn filters_choose(app: TestApp) {
        let owner = app.owner().await;
        let ada = app.person("ada", Role::Member).await;
        ada.key(&json!({"label": "1"})).await;
        owner.key(&json!({"label": "2"})).await;
        let count = async |query: &str| list(&owner, query).await["items"].as_array().unwrap().len();
        assert_eq!(count("?action=api_key.create").await, 2);
        assert_eq!(count("?action=api_key.create&actor=ADA@ventus.test").await, 1);
        assert_eq!(count(&format!("?action=api_key.create&actor={}", owner.id)).await, 1);
        assert_eq!(count("?action=api_key").await, 0);
        let newest = list(&owner, "?limit=1").await["items"][0]["at"].as_str().unwrap().to_owned();
        let everything = count("").await;
        // A time that was shown is not included.
        assert_eq!(count(&format!("?after={newest}")).await, 0);
        assert!(count(&format!("?before={newest}")).await < everything);
        assert_eq!(count("?after=2020-01-01T00:00:00Z").await, everything);
        assert_eq!(count("?before=2020-01-01T00:00:00Z").await, 0);
        let wrong = owner.ws(Method::GET, "/audit?after=now&nope=1").send().await;
        let problem = wrong.problem(400, "validation-error");
        assert_eq!(problem["errors"].as_array().unwrap().len(), 2);
    }
}
