use http::Method;
use proto::session::EndReason;
use serde_json::json;

use super::{Plan, bootstrap, operator, upkeep};
use crate::{
    people::Role,
    sessions,
    testing::{OWNER, TestApp, id_of, on_both_databases},
};

on_both_databases! {
    async fn whoever_makes_a_workspace_owns_it(app: TestApp) {
        let viewer = app.person("ada", Role::Viewer).await;
        let create = |slug: &str| {
            let body = json!({"slug": slug, "name": "Search team"});
            viewer.call(Method::POST, "/workspaces").json(&body)
        };
        let answer = create("search-team").send().await;
        assert_eq!(answer.headers["location"], "/v1/dashboard/ws/search-team");
        let made = answer.expect(201);
        assert_eq!(made["role"], "owner");
        assert_eq!(made["plan"], "enterprise");
        assert_eq!(made["status"], "ACTIVE");
        assert_eq!(made["deleted_at"], json!(null));
        create("search-team").send().await.problem(409, "conflict");
        let got = viewer.call(Method::GET, "/ws/search-team").send().await.expect(200);
        assert_eq!(got, made);
        let rename = viewer.call(Method::PATCH, "/ws/search-team").json(&json!({"name": "Found"}));
        let renamed = rename.send().await.expect(200);
        assert_eq!((&renamed["name"], &renamed["slug"]), (&json!("Found"), &json!("search-team")));
        let slug = viewer.call(Method::PATCH, "/ws/search-team").json(&json!({"slug": "x"}));
        slug.send().await.problem(400, "validation-error");
        let me = viewer.call(Method::GET, "/me").send().await.expect(200);
        let slugs: Vec<_> =
            me["workspaces"].as_array().unwrap().iter().map(|ws| ws["slug"].clone()).collect();
        assert_eq!(slugs, ["default", "search-team"]);
    }

    async fn a_workspace_tells_how_many_sessions_it_may_have_at_once(app: TestApp) {
        let viewer = app.person("ada", Role::Viewer).await;
        let shown = async || {
            let shown = viewer.call(Method::GET, "/ws/default").send().await.expect(200);
            shown["max_concurrent_sessions"].clone()
        };
        let db = &app.app.db;
        assert_eq!(shown().await, json!(null), "any number");
        operator::set_plan(db, "default", Plan::Starter).await.unwrap();
        assert_eq!(shown().await, json!(10));
        operator::set_session_limit(db, "default", Some(7)).await.unwrap();
        assert_eq!(shown().await, json!(7));
        operator::set_session_limit(db, "default", Some(0)).await.unwrap();
        assert_eq!(shown().await, json!(0));
    }

    async fn of_many_who_want_a_slug_one_gets_it(app: TestApp) {
        let owner = app.owner().await;
        let tries: Vec<_> = (0..8).map(|n| {
            let body = json!({"slug": "wanted", "name": format!("N{n}")});
            tokio::spawn(owner.call(Method::POST, "/workspaces").json(&body).send())
        }).collect();
        let mut made = 0;
        for answer in tries {
            let answer = answer.await.unwrap();
            match answer.status {
                201 => made += 1,
                _ => drop(answer.problem(409, "conflict")),
            }
        }
        assert_eq!(made, 1);
    }

    async fn a_suspended_workspace_can_only_be_looked_at(app: TestApp) {
        app.quick_agent("local", 10).await;
        let owner = app.owner().await;
        let session = id_of(&app.create("k").send().await.expect(201));
        let db = &app.app.db;
        operator::suspend(db, "default").await.unwrap();
        app.get("/v1/sessions").send().await.problem(401, "unauthorized");
        upkeep::end_sessions(&app.app).await.unwrap();
        let row = app.session(session).await;
        assert_eq!(row.status.as_str(), "COMPLETED");
        let reason = row.reason.unwrap();
        assert_eq!(reason.code.as_str(), "released");
        assert!(reason.message.contains("the workspace was suspended"), "{}", reason.message);
        for path in ["", "/members", "/api-keys", "/invitations", "/audit"] {
            owner.ws(Method::GET, path).send().await.expect(200);
        }
        assert_eq!(owner.ws(Method::GET, "").send().await.json()["status"], "SUSPENDED");
        let member = format!("/members/{}", owner.id);
        for call in [
            owner.ws(Method::PATCH, "").json(&json!({"name": "N"})),
            owner.ws(Method::DELETE, ""),
            owner.ws(Method::POST, "/api-keys").json(&json!({"label": "k"})),
            owner.ws(Method::POST, "/invitations").json(&json!({"email": "a@b.test", "role": "viewer"})),
            owner.ws(Method::PATCH, &member).json(&json!({"role": "viewer"})),
            owner.ws(Method::DELETE, &member),
        ] {
            let problem = call.send().await.problem(403, "forbidden");
            assert!(problem["detail"].as_str().unwrap().contains("suspended"), "{problem}");
        }
        operator::resume(db, "default").await.unwrap();
        app.get("/v1/sessions").send().await.expect(200);
        owner.ws(Method::PATCH, "").json(&json!({"name": "N"})).send().await.expect(200);
    }

    async fn a_deleted_workspace_can_be_restored_by_its_owners(app: TestApp) {
        app.quick_agent("local", 10).await;
        let (owner, admin) = (app.owner().await, app.person("ada", Role::Admin).await);
        let session = id_of(&app.create("k").send().await.expect(201));
        owner.ws(Method::DELETE, "").send().await.expect(204);
        owner.ws(Method::DELETE, "").send().await.expect(204);
        app.get("/v1/sessions").send().await.problem(401, "unauthorized");
        let reason = app.session(session).await.reason.unwrap();
        assert!(reason.message.contains("the workspace was deleted"), "{}", reason.message);
        for path in ["", "/members", "/audit"] {
            admin.ws(Method::GET, path).send().await.problem(404, "not-found");
        }
        admin.ws(Method::POST, "/restore").send().await.problem(404, "not-found");
        let me = admin.call(Method::GET, "/me").send().await.expect(200);
        assert_eq!(me["workspaces"], json!([]));
        let deleted = owner.ws(Method::GET, "").send().await.expect(200);
        assert_eq!(deleted["status"], "DELETED");
        assert!(deleted["deleted_at"].is_string());
        let rename = owner.ws(Method::PATCH, "").json(&json!({"name": "N"})).send().await;
        assert!(rename.problem(403, "forbidden")["detail"].as_str().unwrap().contains("restore"));
        let taken = owner.call(Method::POST, "/workspaces").json(&json!({"slug": "default", "name": "N"}));
        taken.send().await.problem(409, "conflict");
        let restored = owner.ws(Method::POST, "/restore").send().await.expect(200);
        assert_eq!((&restored["status"], &restored["deleted_at"]), (&json!("ACTIVE"), &json!(null)));
        owner.ws(Method::POST, "/restore").send().await.problem(409, "conflict");
        app.get("/v1/sessions").send().await.expect(200);
        admin.ws(Method::GET, "").send().await.expect(200);
    }

    async fn a_session_that_came_too_late_ends_all_the_same(app: TestApp) {
        app.quick_agent("local", 10).await;
        let mut sessions = Vec::new();
        for n in 0..3 {
            sessions.push(id_of(&app.create(&n.to_string()).send().await.expect(201)));
        }
        // As if it had been made while the workspace was being closed.
        app.sql("UPDATE workspaces SET deleted_us = 1", &[]).await;
        upkeep::end_sessions(&app.app).await.unwrap();
        for session in sessions {
            assert_eq!(app.session(session).await.status.as_str(), "COMPLETED");
        }
    }

    async fn after_its_grace_a_workspace_is_gone_for_good(app: TestApp) {
        let agent = app.agent("local", 10).await;
        let owner = app.owner().await;
        let create = app.create("k").header("prefer", "respond-async");
        let session = id_of(&create.send().await.expect(201));
        owner.key(&json!({"label": "k"})).await;
        let invite = json!({"email": "a@b.test", "role": "viewer"});
        owner.ws(Method::POST, "/invitations").json(&invite).send().await.expect(201);
        let other = json!({"slug": "other", "name": "Other"});
        owner.call(Method::POST, "/workspaces").json(&other).send().await.expect(201);
        owner.ws(Method::DELETE, "").send().await.expect(204);
        upkeep::sweep(&app.app).await.unwrap();
        assert_eq!(app.count("SELECT COUNT(*) FROM workspaces").await, 2);
        // One minute more than the grace ago.
        app.sql(
            "UPDATE workspaces SET deleted_us = deleted_us - 2592060000000 WHERE slug = 'default'",
            &[],
        ).await;
        owner.ws(Method::POST, "/restore").send().await.problem(409, "conflict");
        // The browser of its session is not yet gone.
        upkeep::sweep(&app.app).await.unwrap();
        assert_eq!(app.count("SELECT COUNT(*) FROM workspaces").await, 2);
        let released = EndReason::Released;
        sessions::ended(&app.app, agent, session, released, "").await.unwrap();
        upkeep::sweep(&app.app).await.unwrap();
        for sql in [
            "SELECT COUNT(*) FROM sessions",
            "SELECT COUNT(*) FROM session_events",
            "SELECT COUNT(*) FROM idempotency",
            "SELECT COUNT(*) FROM api_keys",
            "SELECT COUNT(*) FROM invitations",
            "SELECT COUNT(*) FROM outbox",
        ] {
            assert_eq!(app.count(sql).await, 0, "{sql}");
        }
        assert_eq!(app.count("SELECT COUNT(*) FROM workspaces").await, 1);
        let again = json!({"slug": "default", "name": "Again"});
        owner.call(Method::POST, "/workspaces").json(&again).send().await.expect(201);
    }

    async fn an_operator_sees_and_changes_every_workspace(app: TestApp) {
        let db = &app.app.db;
        let all = operator::list(db).await.unwrap();
        assert_eq!(all.iter().map(|ws| ws.slug.as_str()).collect::<Vec<_>>(), ["default"]);
        assert_eq!(operator::set_plan(db, "default", Plan::Pro).await.unwrap().plan, Plan::Pro);
        operator::add_owner(db, "default", &"Ada@x.test".parse().unwrap()).await.unwrap();
        operator::add_owner(db, "default", &"ada@X.test".parse().unwrap()).await.unwrap();
        let (token, _) = app.sign_in("Ada@x.test").await;
        let got = app.get("/v1/dashboard/ws/default").key(&token).send().await.expect(200);
        assert_eq!((&got["role"], &got["plan"]), (&json!("owner"), &json!("pro")));
        let unknown = operator::suspend(db, "nope").await.unwrap_err();
        assert!(unknown.to_string().contains("nope"));
        let audit = app.get("/v1/dashboard/ws/default/audit?actor=ventus").key(&token);
        let audit = audit.send().await.expect(200);
        let actions: Vec<_> =
            audit["items"].as_array().unwrap().iter().map(|item| item["action"].clone()).collect();
        assert_eq!(actions, ["member.add", "member.add", "workspace.plan", "member.add"]);
    }

    async fn a_database_without_owners_gets_one_at_the_next_start(app: TestApp) {
        app.sql("DELETE FROM memberships", &[]).await;
        let owner = "new@ventus.test".parse().unwrap();
        assert!(bootstrap(&app.app.db, &owner, None).await.unwrap().is_none());
        app.sign_in("new@ventus.test").await;
        // Those who have one keep theirs.
        bootstrap(&app.app.db, &"late@ventus.test".parse().unwrap(), None).await.unwrap();
        assert_eq!(app.count("SELECT COUNT(*) FROM memberships").await, 1);
        assert_ne!(OWNER, "new@ventus.test");
    }
}
