use http::Method;
use proto::id::UserId;
use serde_json::{Value, json};

use super::store;
use crate::{
    keys,
    people::{Email, Role, store::ensure},
    testing::{TestApp, TestPerson, id_of, on_both_databases},
};

/// What each role may do. Of each line: what is done, and the status that viewer, member,
/// admin and owner are answered with.
const MATRIX: &[(&str, [u16; 4])] = &[
    ("get the workspace", [200, 200, 200, 200]),
    ("rename the workspace", [403, 403, 403, 200]),
    ("delete the workspace", [403, 403, 403, 204]),
    ("restore the workspace", [403, 403, 403, 409]),
    ("read the audit", [200, 200, 200, 200]),
    ("list keys", [200, 200, 200, 200]),
    ("create a key", [403, 201, 201, 201]),
    ("create a key that may stop sessions", [403, 403, 201, 201]),
    ("revoke an own key", [403, 204, 204, 204]),
    ("revoke another's key", [403, 404, 204, 204]),
    ("list members", [200, 200, 200, 200]),
    ("viewer to member", [403, 403, 200, 200]),
    ("member to viewer", [403, 403, 200, 200]),
    ("member to admin", [403, 403, 403, 200]),
    ("member to owner", [403, 403, 403, 200]),
    ("admin to member", [403, 403, 403, 200]),
    ("owner to member", [403, 403, 403, 200]),
    ("remove viewer", [403, 403, 204, 204]),
    ("remove member", [403, 403, 204, 204]),
    ("remove admin", [403, 403, 403, 204]),
    ("remove owner", [403, 403, 403, 204]),
    ("leave", [204, 204, 204, 204]),
    ("list invitations", [403, 403, 200, 200]),
    ("invite viewer", [403, 403, 201, 201]),
    ("invite member", [403, 403, 201, 201]),
    ("invite admin", [403, 403, 403, 201]),
    ("invite owner", [403, 403, 403, 201]),
    ("withdraw viewer", [403, 403, 204, 204]),
    ("withdraw member", [403, 403, 204, 204]),
    ("withdraw admin", [403, 403, 403, 204]),
    ("withdraw owner", [403, 403, 403, 204]),
    ("list sessions", [200, 200, 200, 200]),
    ("get a session", [200, 200, 200, 200]),
    ("create a session", [403, 201, 201, 201]),
    ("label a session", [403, 200, 200, 200]),
    ("release a session", [403, 204, 204, 204]),
];

/// Somebody new with a role, who never signs in.
async fn somebody(app: &TestApp, role: Role) -> UserId {
    let mut tx = app.tx().await;
    let email: Email = format!("{}@ventus.test", UserId::generate()).parse().unwrap();
    let user = ensure(&mut tx, &email).await.unwrap();
    store::set(&mut tx, app.workspace, user.id, role).await.unwrap();
    tx.commit().await.unwrap();
    user.id
}

/// A key that a person made, whatever they may make now.
async fn key_of(app: &TestApp, maker: UserId) -> (String, String) {
    let mut tx = app.tx().await;
    let all = [keys::READ, keys::WRITE, keys::ADMIN];
    let made = keys::make(&mut tx, app.workspace, Some(maker), "made", &all).await.unwrap();
    tx.commit().await.unwrap();
    (made.0.to_string(), made.1)
}

/// Does what a line of the matrix says, and tells the status.
async fn attempt(app: &TestApp, what: &str, who: &TestPerson, owner: &TestPerson) -> u16 {
    let role = |text: &str| text.parse::<Role>().unwrap();
    let words: Vec<_> = what.split(' ').collect();
    let call = match words.as_slice() {
        ["get", "the", "workspace"] => who.ws(Method::GET, ""),
        ["rename", ..] => who.ws(Method::PATCH, "").json(&json!({"name": "New"})),
        ["delete", ..] => who.ws(Method::DELETE, ""),
        ["restore", ..] => who.ws(Method::POST, "/restore"),
        ["read", ..] => who.ws(Method::GET, "/audit"),
        ["list", "keys"] => who.ws(Method::GET, "/api-keys"),
        ["create", "a", "key"] => who.ws(Method::POST, "/api-keys").json(&json!({"label": "k"})),
        ["create", "a", "key", ..] => {
            who.ws(Method::POST, "/api-keys").json(&json!({"label": "k", "scopes": ["admin"]}))
        }
        ["revoke", "another's", "key"] => {
            let (id, _) = key_of(app, somebody(app, Role::Viewer).await).await;
            who.ws(Method::DELETE, &format!("/api-keys/{id}"))
        }
        ["revoke", "an", "own", "key"] => {
            let (id, _) = key_of(app, who.id).await;
            who.ws(Method::DELETE, &format!("/api-keys/{id}"))
        }
        ["list", "members"] => who.ws(Method::GET, "/members"),
        [from, "to", to] => {
            let target = somebody(app, role(from)).await;
            who.ws(Method::PATCH, &format!("/members/{target}")).json(&json!({"role": to}))
        }
        ["remove", target] => {
            let target = somebody(app, role(target)).await;
            who.ws(Method::DELETE, &format!("/members/{target}"))
        }
        ["leave"] => who.ws(Method::DELETE, &format!("/members/{}", who.id)),
        ["list", "invitations"] => who.ws(Method::GET, "/invitations"),
        ["invite", role] => {
            who.ws(Method::POST, "/invitations").json(&json!({"email": "new@x.test", "role": role}))
        }
        ["withdraw", role] => {
            let body = json!({"email": "new@x.test", "role": role});
            let made = owner.ws(Method::POST, "/invitations").json(&body).send().await.expect(201);
            let id = made["id"].as_str().unwrap().to_owned();
            who.ws(Method::DELETE, &format!("/invitations/{id}"))
        }
        _ => return with_key(app, what, who).await,
    };
    let answer = call.send().await;
    let status = answer.status;
    match status {
        403 => drop(answer.problem(403, "forbidden")),
        404 => drop(answer.problem(404, "not-found")),
        _ => (),
    }
    status
}

/// The same for what is done with a key: it goes as far as its maker.
async fn with_key(app: &TestApp, what: &str, who: &TestPerson) -> u16 {
    let (_, key) = key_of(app, who.id).await;
    let fresh = app.create(&UserId::generate().to_string());
    if what == "create a session" {
        return fresh.key(&key).send().await.status;
    }
    let session = format!("/v1/sessions/{}", id_of(&fresh.send().await.expect(201)));
    let call = match what {
        "list sessions" => app.get("/v1/sessions"),
        "get a session" => app.get(&session),
        "label a session" => app.call(Method::PATCH, &session).json(&json!({"labels": {}})),
        "release a session" => app.call(Method::DELETE, &session),
        _ => panic!("nobody knows how to {what}"),
    };
    call.key(&key).send().await.status
}

on_both_databases! {
    async fn every_role_may_do_what_the_matrix_says_and_nothing_else(app: TestApp) {
        app.quick_agent("local", 1000).await;
        let owner = app.owner().await;
        let mut people = Vec::new();
        for role in Role::ALL {
            people.push((role, app.person(role.as_str(), role).await));
        }
        for (what, expected) in MATRIX {
            for ((role, person), expected) in people.iter().zip(expected) {
                let found = attempt(&app, what, person, &owner).await;
                assert_eq!(found, *expected, "{role}: {what}");
                // As it was, for the next one.
                app.sql("UPDATE workspaces SET deleted_us = NULL", &[]).await;
                app.sql("DELETE FROM invitations", &[]).await;
                let mut tx = app.tx().await;
                store::set(&mut tx, app.workspace, person.id, *role).await.unwrap();
                tx.commit().await.unwrap();
            }
        }
    }

    async fn viewers_see_themselves_and_members_their_own_keys(app: TestApp) {
        let owner = app.owner().await;
        let viewer = app.person("viewer", Role::Viewer).await;
        let member = app.person("member", Role::Member).await;
        let emails = async |who: &TestPerson| {
            let page = who.ws(Method::GET, "/members").send().await.expect(200);
            let items = page["items"].as_array().unwrap().clone();
            items.iter().map(|item| item["email"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let all = ["member@ventus.test", "owner@ventus.test", "viewer@ventus.test"];
        assert_eq!(emails(&viewer).await, ["viewer@ventus.test"]);
        assert_eq!(emails(&member).await, all);
        assert_eq!(emails(&owner).await, all);
        let (of_viewer, _) = key_of(&app, viewer.id).await;
        let (of_member, _) = key_of(&app, member.id).await;
        let keys = async |who: &TestPerson| {
            let page = who.ws(Method::GET, "/api-keys").send().await.expect(200);
            let items = page["items"].as_array().unwrap().clone();
            items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(keys(&viewer).await, [of_viewer]);
        assert_eq!(keys(&member).await, [of_member]);
        assert_eq!(keys(&owner).await.len(), 3);
    }

    async fn members_are_told_things_in_the_right_order(app: TestApp) {
        let owner = app.owner().await;
        let viewer = app.person("viewer", Role::Viewer).await;
        let outsider = app.person("outsider", Role::Viewer).await;
        app.sql("DELETE FROM memberships WHERE user_id = $1", &[&outsider.id.to_string()]).await;
        let unknown = UserId::generate();
        // A foreign workspace looks like one that is not there.
        let mut foreign = outsider.ws(Method::GET, "").send().await.problem(404, "not-found");
        let none = outsider.call(Method::GET, "/ws/nope").send().await;
        let mut none = none.problem(404, "not-found");
        for problem in [&mut foreign, &mut none] {
            problem["instance"] = Value::Null;
            problem["request_id"] = Value::Null;
        }
        assert_eq!(foreign, none);
        // The role comes before the id and before the body.
        let member = |who: &TestPerson, id: &str| who.ws(Method::PATCH, &format!("/members/{id}"));
        member(&viewer, &unknown.to_string()).body("{").send().await.problem(403, "forbidden");
        let remove = viewer.ws(Method::DELETE, &format!("/members/{unknown}"));
        remove.send().await.problem(403, "forbidden");
        for id in [unknown.to_string(), "nonsense".to_owned(), outsider.id.to_string()] {
            let body = json!({"role": "member"});
            member(&owner, &id).json(&body).send().await.problem(404, "not-found");
            let remove = owner.ws(Method::DELETE, &format!("/members/{id}"));
            remove.send().await.problem(404, "not-found");
        }
        for (body, status) in [
            (json!({}), 422),
            (json!({"role": "king"}), 422),
            (json!({"role": 7}), 422),
            (json!({"role": "member", "x": 1}), 400),
        ] {
            let answer = member(&owner, &viewer.id.to_string()).json(&body).send().await;
            answer.problem(status, "validation-error");
        }
    }

    async fn the_last_owner_stays(app: TestApp) {
        let owner = app.owner().await;
        let own = format!("/members/{}", owner.id);
        let demote = || owner.ws(Method::PATCH, &own).json(&json!({"role": "admin"}));
        demote().send().await.problem(409, "last-owner");
        owner.ws(Method::DELETE, &own).send().await.problem(409, "last-owner");
        // An owner may be given the role that they have.
        let same = owner.ws(Method::PATCH, &own).json(&json!({"role": "owner"}));
        assert_eq!(same.send().await.expect(200)["role"], "owner");
        app.person("second", Role::Owner).await;
        assert_eq!(demote().send().await.expect(200)["role"], "admin");
    }

    async fn two_owners_who_act_on_each_other_at_once_leave_one(app: TestApp) {
        let pair = [app.owner().await, app.person("second", Role::Owner).await];
        let path = |n: usize| format!("/members/{}", pair[n].id);
        let demote = |by: usize, whom: usize| {
            pair[by].ws(Method::PATCH, &path(whom)).json(&json!({"role": "viewer"}))
        };
        let remove = |by: usize, whom: usize| pair[by].ws(Method::DELETE, &path(whom));
        for round in 0..40 {
            let calls = match round % 4 {
                0 => [demote(0, 1), demote(1, 0)],
                1 => [remove(0, 1), remove(1, 0)],
                // Both leave, or one leaves while the other steps down.
                2 => [remove(0, 0), remove(1, 1)],
                _ => [remove(0, 0), demote(1, 1)],
            };
            let [first, second] = calls.map(|call| tokio::spawn(call.send()));
            let statuses = [first.await.unwrap().status, second.await.unwrap().status];
            let won = statuses.iter().filter(|status| **status < 300).count();
            assert_eq!(won, 1, "round {round}: {statuses:?}");
            let mut tx = app.tx().await;
            assert_eq!(store::owners(&mut tx, app.workspace).await.unwrap(), 1, "round {round}");
            for person in &pair {
                store::set(&mut tx, app.workspace, person.id, Role::Owner).await.unwrap();
            }
            tx.commit().await.unwrap();
        }
    }

    async fn replicas_keep_one_owner_between_them(app: TestApp) {
        // Two processes on one SQLite file are not what it is for.
        if app.app.config.database_url.starts_with("sqlite") {
            return;
        }
        let pair = [app.owner().await, app.person("second", Role::Owner).await];
        let other = app.another().await;
        for round in 0..20 {
            let path = |n: usize| format!("/v1/dashboard/ws/default/members/{}", pair[n].id);
            let body = json!({"role": "member"});
            let here = app.call(Method::PATCH, &path(1)).key(&pair[0].token).json(&body);
            let there = other.call(Method::PATCH, &path(0)).key(&pair[1].token).json(&body);
            let (here, there) = (tokio::spawn(here.send()), tokio::spawn(there.send()));
            let statuses = [here.await.unwrap().status, there.await.unwrap().status];
            assert!(statuses.contains(&200) && statuses.contains(&403), "{round}: {statuses:?}");
            let mut tx = app.tx().await;
            assert_eq!(store::owners(&mut tx, app.workspace).await.unwrap(), 1);
            for person in &pair {
                store::set(&mut tx, app.workspace, person.id, Role::Owner).await.unwrap();
            }
            tx.commit().await.unwrap();
        }
        other.app.db.close().await;
    }

    async fn an_invitation_makes_a_member_once(app: TestApp) {
        let owner = app.owner().await;
        let invite = |role: &str| {
            let body = json!({"email": "Grace@Example.org", "role": role});
            owner.ws(Method::POST, "/invitations").json(&body)
        };
        let first = app.mailed("Grace@Example.org", invite("viewer"), 201).await;
        // A second one takes the place of the first.
        let second = app.mailed("Grace@Example.org", invite("member"), 201).await;
        app.exchange(&first).await.problem(401, "unauthorized");
        let open = owner.ws(Method::GET, "/invitations").send().await.expect(200);
        assert_eq!(open["items"].as_array().unwrap().len(), 1);
        assert_eq!(open["items"][0]["email"], "Grace@Example.org");
        assert_eq!(open["items"][0]["role"], "member");
        // Of many who try at once one gets in.
        let tries: Vec<_> = (0..8).map(|_| {
            let (app, second) = (app.clone(), second.clone());
            tokio::spawn(async move { app.exchange(&second).await })
        }).collect();
        let mut joined = Vec::new();
        for answer in tries {
            let answer = answer.await.unwrap();
            match answer.status {
                200 => joined.push(answer.json()),
                _ => drop(answer.problem(401, "unauthorized")),
            }
        }
        let [joined] = joined.as_slice() else { panic!("{joined:?}") };
        assert_eq!(joined["workspace"], json!({"slug": "default", "name": "Default"}));
        let token = joined["access_token"].as_str().unwrap();
        let me = app.get("/v1/dashboard/me").key(token).send().await.expect(200);
        assert_eq!(me["email"], "Grace@Example.org");
        assert_eq!(me["workspaces"][0]["role"], "member");
        assert_eq!(owner.ws(Method::GET, "/invitations").send().await.json()["items"], json!([]));
        // Who is there already, in whatever spelling, is not invited.
        let body = json!({"email": "grace@example.ORG", "role": "member"});
        let again = owner.ws(Method::POST, "/invitations").json(&body);
        again.send().await.problem(409, "conflict");
    }

    async fn an_invitation_can_be_withdrawn_and_expires(app: TestApp) {
        let owner = app.owner().await;
        let invite = || {
            let body = json!({"email": "grace@x.test", "role": "member"});
            owner.ws(Method::POST, "/invitations").json(&body)
        };
        let token = app.mailed("grace@x.test", invite(), 201).await;
        let open = owner.ws(Method::GET, "/invitations").send().await.expect(200);
        let id = open["items"][0]["id"].as_str().unwrap();
        let withdraw = || owner.ws(Method::DELETE, &format!("/invitations/{id}"));
        withdraw().send().await.expect(204);
        withdraw().send().await.problem(404, "not-found");
        app.exchange(&token).await.problem(401, "unauthorized");
        let token = app.mailed("grace@x.test", invite(), 201).await;
        app.sql("UPDATE invitations SET expires_us = created_us", &[]).await;
        app.exchange(&token).await.problem(401, "unauthorized");
        let open = owner.ws(Method::GET, "/invitations").send().await.expect(200);
        assert_eq!(open["items"], json!([]));
        crate::retention::sweep(&app.app).await.unwrap();
        assert_eq!(app.count("SELECT COUNT(*) FROM invitations").await, 0);
        for body in [
            json!({"email": "nobody", "role": "member"}),
            json!({"email": "a@b.test\r\nBcc: c@d.test", "role": "member"}),
            json!({"email": "a@b.test", "role": "king"}),
            json!({}),
        ] {
            let answer = owner.ws(Method::POST, "/invitations").json(&body).send().await;
            answer.problem(422, "validation-error");
        }
    }
}
