use std::time::Duration;

use http::Method;
use object_store::memory::InMemory;
use proto::id::ProfileId;
use serde_json::{Value, json};

use super::{content, objects::Objects, store, sweep};
use crate::{
    audit::Actor,
    db::on,
    testing::{Call, TestApp, on_both_databases},
};

mod s3;

fn state(value: &str) -> Value {
    json!({"cookies": [], "origins": [
        {"origin": "https://a.example", "localStorage": [{"name": "token", "value": value}]},
    ]})
}

fn create(app: &TestApp, name: &str, state: &Value) -> Call {
    let body = json!({"name": name, "storage_state": state});
    app.call(Method::POST, "/v1/profiles").json(&body)
}

async fn made(app: &TestApp, name: &str, state: &Value) -> Value {
    create(app, name, state).send().await.expect(201)
}

fn path_of(profile: &Value) -> String {
    format!("/v1/profiles/{}", profile["id"].as_str().unwrap())
}

fn held(app: &TestApp, profile: &Value) -> Call {
    app.get(&format!("{}/storage-state", path_of(profile)))
}

async fn actions(app: &TestApp) -> Vec<String> {
    let mut tx = app.app.db.read().await.unwrap();
    let text = "SELECT action FROM audit WHERE action LIKE 'profile.%' ORDER BY id";
    on!(tx, |db| sqlx::query_scalar(text).fetch_all(db).await).unwrap()
}

/// A replica that keeps large contents in a directory of the test's.
async fn with_directory(app: &TestApp) -> TestApp {
    let url = format!("file://{}/objects", app.data.path().display());
    app.with_objects(Objects::open(&url, std::iter::empty()).unwrap()).await
}

/// More than is kept in the store.
fn large() -> Value {
    state(&"x".repeat(300 << 10))
}

async fn objects(app: &TestApp) -> usize {
    app.app.objects.older_than(Duration::ZERO).await.unwrap().len()
}

/// Replaces what a profile holds, as a session's browser would.
async fn replace(app: &TestApp, profile: &Value, state: &Value) -> bool {
    let writer = super::Writer { actor: &Actor::system(), session: None };
    let id = profile["id"].as_str().unwrap().parse().unwrap();
    let state = state.to_string();
    let replaced = super::replace(&app.app, app.workspace, &writer, id, state.as_bytes()).await;
    replaced.unwrap().is_some()
}

on_both_databases! {
    async fn a_profile_is_made_read_renamed_and_deleted(app: TestApp) {
        let answer = create(&app, "login", &state("t")).send().await;
        let location = answer.headers["location"].clone();
        let profile = answer.expect(201);
        assert_eq!(location, path_of(&profile));
        assert_eq!(profile["size_bytes"], state("t").to_string().len());
        assert_eq!(profile["created_at"], profile["updated_at"]);
        assert_eq!(app.get(&path_of(&profile)).send().await.expect(200), profile);
        let answer = held(&app, &profile).send().await;
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.expect(200), state("t"));

        let rename = app.call(Method::PATCH, &path_of(&profile)).json(&json!({"name": "ü".repeat(128)}));
        let renamed = rename.send().await.expect(200);
        assert_eq!(renamed["name"], "ü".repeat(128));
        assert_eq!(renamed["created_at"], profile["created_at"]);
        assert_eq!(held(&app, &profile).send().await.expect(200), state("t"));

        app.call(Method::DELETE, &path_of(&profile)).send().await.expect(204);
        for call in [
            app.get(&path_of(&profile)),
            held(&app, &profile),
            app.call(Method::PATCH, &path_of(&profile)).json(&json!({"name": "n"})),
            app.call(Method::DELETE, &path_of(&profile)),
        ] {
            call.send().await.problem(404, "not-found");
        }
        assert_eq!(actions(&app).await, ["profile.create", "profile.update", "profile.delete"]);
    }

    async fn what_makes_no_profile_is_refused_with_its_place(app: TestApp) {
        let good = state("t");
        for (body, status, pointers) in [
            (json!({}), 422, vec!["/name", "/storage_state"]),
            (json!({"name": "n"}), 422, vec!["/storage_state"]),
            (json!({"name": "", "storage_state": good}), 422, vec!["/name"]),
            (json!({"name": "x".repeat(129), "storage_state": good}), 422, vec!["/name"]),
            (json!({"name": "a\u{0}", "storage_state": good}), 422, vec!["/name"]),
            (json!({"name": 7, "storage_state": {"cookies": 7}}), 422, vec!["/name", "/storage_state/cookies"]),
            (json!({"name": "n", "storage_state": good, "nope": 1}), 400, vec!["/nope"]),
        ] {
            let refused = app.call(Method::POST, "/v1/profiles").json(&body).send().await;
            let problem = refused.problem(status, "validation-error");
            let found: Vec<_> =
                problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].clone()).collect();
            assert_eq!(found, pointers, "{body}");
        }
        let profile = made(&app, "n", &good).await;
        for (body, status) in [(json!({}), 422), (json!({"name": " "}), 422), (json!({"size": 1}), 400)] {
            let refused = app.call(Method::PATCH, &path_of(&profile)).json(&body).send().await;
            refused.problem(status, "validation-error");
        }
    }

    async fn a_state_of_up_to_5_mib_is_taken(app: TestApp) {
        let frame = state("").to_string().len();
        let fits = state(&"x".repeat((5 << 20) - frame));
        let profile = made(&app, "n", &fits).await;
        assert_eq!(profile["size_bytes"], 5 << 20);
        assert_eq!(held(&app, &profile).send().await.expect(200), fits);
        let more = state(&"x".repeat((5 << 20) - frame + 1));
        let problem = create(&app, "n", &more).send().await.problem(422, "validation-error");
        assert_eq!(problem["errors"][0]["pointer"], "/storage_state");
        let far_more = state(&"x".repeat(6 << 20));
        create(&app, "n", &far_more).send().await.problem(413, "payload-too-large");
    }

    async fn a_profile_belongs_to_its_workspace(app: TestApp) {
        let profile = made(&app, "n", &state("t")).await;
        let mut tx = app.tx().await;
        let other = crate::workspaces::insert(&mut tx, "other", "Other").await.unwrap();
        tx.commit().await.unwrap();
        let key = app.key_for(other, &["sessions:read", "sessions:write"]).await;
        for call in [
            app.get(&path_of(&profile)),
            held(&app, &profile),
            app.call(Method::PATCH, &path_of(&profile)).json(&json!({"name": "n"})),
            app.call(Method::DELETE, &path_of(&profile)),
        ] {
            call.key(&key).send().await.problem(404, "not-found");
        }
        let page = app.get("/v1/profiles").key(&key).send().await.expect(200);
        assert_eq!(page["items"], json!([]));
        assert_eq!(held(&app, &profile).send().await.expect(200), state("t"));
    }

    async fn the_list_is_paged_newest_first(app: TestApp) {
        let mut expected = Vec::new();
        for n in 0..5 {
            expected.insert(0, made(&app, &n.to_string(), &state("t")).await);
        }
        let mut seen = Vec::new();
        let mut query = "limit=2".to_owned();
        loop {
            let page = app.get(&format!("/v1/profiles?{query}")).send().await.expect(200);
            seen.extend(page["items"].as_array().unwrap().clone());
            assert_eq!(page["has_more"], page["next_cursor"].is_string());
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            query = format!("limit=2&cursor={cursor}");
            // What comes meanwhile is before the first page.
            made(&app, "late", &state("t")).await;
        }
        assert_eq!(seen, expected);
        app.quick_agent("local", 9).await;
        for key in ["a", "b"] {
            app.create(key).send().await.expect(201);
        }
        let foreign = app.get("/v1/sessions?limit=1").send().await.expect(200);
        let foreign = foreign["next_cursor"].as_str().unwrap().to_owned();
        for bad in ["limit=0", "limit=101", "limit=x", "nope=1", "cursor=x", "limit=1&limit=1", &format!("cursor={foreign}")] {
            let refused = app.get(&format!("/v1/profiles?{bad}")).send().await;
            refused.problem(400, "validation-error");
        }
    }

    async fn a_deleted_profile_leaves_nothing(app: TestApp) {
        let profile = made(&app, "n", &state("t")).await;
        let id: ProfileId = profile["id"].as_str().unwrap().parse().unwrap();
        // What is overwritten before it is deleted, seen in between.
        let mut tx = app.tx().await;
        let row = store::lock(&mut tx, app.workspace, id).await.unwrap().unwrap();
        assert!(row.wrapped_key.iter().any(|byte| *byte != 0));
        store::scrub(&mut tx, id, &row).await.unwrap();
        let scrubbed = store::lock(&mut tx, app.workspace, id).await.unwrap().unwrap();
        assert_eq!(scrubbed.wrapped_key, vec![0; row.wrapped_key.len()]);
        assert_eq!(scrubbed.content, Some(vec![0; row.content.unwrap().len()]));
        drop(tx);
        app.call(Method::DELETE, &path_of(&profile)).send().await.expect(204);
        assert_eq!(app.count("SELECT COUNT(*) FROM profiles").await, 0);
    }

    async fn renames_and_deletions_that_race_leave_one_truth(app: TestApp) {
        let other = app.another().await;
        for _ in 0..5 {
            let profile = made(&app, "n", &state("t")).await;
            let calls: Vec<_> = (0..6).map(|n| {
                let app = if n % 2 == 0 { app.clone() } else { other.clone() };
                let profile = profile.clone();
                tokio::spawn(async move {
                    match n {
                        0 | 1 => app.call(Method::DELETE, &path_of(&profile)).send().await.status,
                        2 | 3 => {
                            let rename = app.call(Method::PATCH, &path_of(&profile));
                            rename.json(&json!({"name": "m"})).send().await.status
                        }
                        _ => if replace(&app, &profile, &state("u")).await { 200 } else { 404 },
                    }
                })
            }).collect();
            let mut deleted = 0;
            for (n, call) in calls.into_iter().enumerate() {
                let status = call.await.unwrap();
                deleted += i32::from(n < 2 && status == 204);
                assert!(matches!(status, 200 | 204 | 404), "{status}");
            }
            assert_eq!(deleted, 1);
            app.get(&path_of(&profile)).send().await.problem(404, "not-found");
        }
        assert_eq!(app.count("SELECT COUNT(*) FROM profiles").await, 0);
        other.app.db.close().await;
    }

    async fn large_contents_go_to_the_directory_and_leave_it(app: TestApp) {
        let app = with_directory(&app).await;
        let small = made(&app, "small", &state("t")).await;
        assert_eq!(objects(&app).await, 0);
        let profile = made(&app, "large", &large()).await;
        assert_eq!(objects(&app).await, 1);
        assert_eq!(app.count("SELECT COUNT(*) FROM profiles WHERE content IS NULL").await, 1);
        assert_eq!(held(&app, &profile).send().await.expect(200), large());
        assert_eq!(held(&app, &small).send().await.expect(200), state("t"));
        // Another content is another object; a small one is none.
        assert!(replace(&app, &profile, &large()).await);
        assert_eq!(objects(&app).await, 1);
        assert!(replace(&app, &profile, &state("u")).await);
        assert_eq!(objects(&app).await, 0);
        assert_eq!(held(&app, &profile).send().await.expect(200), state("u"));
        assert!(replace(&app, &profile, &large()).await);
        app.call(Method::DELETE, &path_of(&profile)).send().await.expect(204);
        assert_eq!(objects(&app).await, 0);
        assert!(!replace(&app, &profile, &large()).await);
        assert_eq!(objects(&app).await, 0, "nobody names it");
        app.app.db.close().await;
    }

    async fn objects_are_private_and_encrypted(app: TestApp) {
        use std::os::unix::fs::PermissionsExt;
        let app = with_directory(&app).await;
        made(&app, "large", &large()).await;
        let directory = app.data.path().join("objects");
        let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let (id, version) = app.app.objects.older_than(Duration::ZERO).await.unwrap().remove(0);
        let object = std::fs::read(directory.join(format!("profiles/{id}/{version}"))).unwrap();
        assert!(!String::from_utf8_lossy(&object).contains("xxxxxxxx"));
        app.app.db.close().await;
    }

    async fn what_a_killed_process_left_is_swept(app: TestApp) {
        let app = with_directory(&app).await;
        let kept = made(&app, "large", &large()).await;
        // Killed between the object and its row.
        let id = ProfileId::generate();
        let state = large().to_string();
        content::prepare(&app.app, app.workspace, id, state.as_bytes()).await.unwrap();
        // Killed between another row and the old object's end.
        let known = kept["id"].as_str().unwrap().parse().unwrap();
        content::prepare(&app.app, app.workspace, known, state.as_bytes()).await.unwrap();
        assert_eq!(objects(&app).await, 3);
        sweep::orphans(&app.app, Duration::from_secs(3_600)).await.unwrap();
        assert_eq!(objects(&app).await, 3, "they may belong to rows that are just being written");
        sweep::orphans(&app.app, Duration::ZERO).await.unwrap();
        assert_eq!(objects(&app).await, 1);
        assert_eq!(held(&app, &kept).send().await.expect(200), large());
        app.app.db.close().await;
    }

    async fn a_lost_object_is_an_error_and_no_panic(app: TestApp) {
        let app = with_directory(&app).await;
        let profile = made(&app, "large", &large()).await;
        let id = profile["id"].as_str().unwrap().parse().unwrap();
        let (_, version) = app.app.objects.older_than(Duration::ZERO).await.unwrap().remove(0);
        let create = || app.create("k").json(&json!({"profile_id": profile["id"]}));
        app.app.objects.put(id, &version, b"damaged".to_vec()).await.unwrap();
        held(&app, &profile).send().await.problem(500, "internal");
        create().send().await.problem(500, "internal");
        app.app.objects.delete(id, &version).await.unwrap();
        held(&app, &profile).send().await.problem(500, "internal");
        create().send().await.problem(500, "internal");
        // A replica without the object store can do nothing about it.
        let without = app.with_objects(Objects::default()).await;
        let answer = held(&without, &profile).send().await;
        assert!(answer.headers.contains_key("retry-after"));
        answer.problem(503, "insufficient-capacity");
        // The profile can still be given another content, or deleted.
        assert!(replace(&app, &profile, &state("u")).await);
        app.call(Method::DELETE, &path_of(&profile)).send().await.expect(204);
        for replica in [app, without] {
            replica.app.db.close().await;
        }
    }

    async fn a_reader_follows_a_content_that_is_replaced_under_it(app: TestApp) {
        let app = app.with_objects(Objects::of(InMemory::new())).await;
        let profile = made(&app, "large", &large()).await;
        let writer = tokio::spawn({
            let (app, profile) = (app.clone(), profile.clone());
            async move {
                for _ in 0..10 {
                    assert!(replace(&app, &profile, &large()).await);
                }
            }
        });
        while !writer.is_finished() {
            assert_eq!(held(&app, &profile).send().await.expect(200), large());
        }
        writer.await.unwrap();
        assert_eq!(objects(&app).await, 1);
        app.app.db.close().await;
    }
}
