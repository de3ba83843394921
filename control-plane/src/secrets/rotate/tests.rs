use http::Method;
use serde_json::json;

use super::*;
use crate::{
    cursor, files,
    secrets::Secrets,
    sessions::{captures, inputs},
    signing::{self, Signer},
    testing::{Call, TestApp, id_of, on_both_databases, until},
};

/// One thing of each kind that is wrapped.
struct Things {
    profile: String,
    session: proto::id::SessionId,
}

fn state() -> serde_json::Value {
    json!({"cookies": [], "origins": [{"origin": "http://a.example", "localStorage": []}]})
}

fn saving(app: &TestApp, id: proto::id::SessionId) -> Call {
    let path = format!("/v1/sessions/{id}/save-profile");
    app.call(Method::POST, &path).json(&json!({"name": "saved"}))
}

async fn things(app: &TestApp) -> Things {
    app.agent("local", 9).await;
    let body = json!({"name": "n", "storage_state": state()});
    let made = app.call(Method::POST, "/v1/profiles").json(&body).send().await.expect(201);
    let body = json!({"proxy": {"url": "http://u:pass@h"}, "storage_state": state()});
    let create = app.create("k").header("prefer", "respond-async").json(&body);
    let session = id_of(&create.send().await.expect(201));
    Things { profile: made["id"].as_str().unwrap().to_owned(), session }
}

/// Everything can be read by this replica.
async fn all_is_readable(app: &TestApp, things: &Things) {
    let path = format!("/v1/profiles/{}/storage-state", things.profile);
    assert_eq!(app.get(&path).send().await.expect(200), state());
    let mut tx = app.app.db.read().await.unwrap();
    let sealed = inputs::get(&mut tx, things.session).await.unwrap().unwrap();
    assert_eq!(sealed.open(&app.app.secrets).unwrap().proxy.unwrap().password, "pass");
    drop(tx);
    Signer::open(&app.app.db, &app.app.secrets).await.unwrap();
}

fn keys_of(app: &TestApp) -> Vec<[u8; 32]> {
    Source::File(file_of(app)).read().unwrap()
}

fn file_of(app: &TestApp) -> std::path::PathBuf {
    app.data.path().join("master.key")
}

async fn rotate(app: &TestApp) -> anyhow::Result<Rotated> {
    rotate_master(&app.app.db, app.data.path()).await
}

const KNOWN: &str = "SELECT COUNT(*) FROM master_keys";

on_both_databases! {
    async fn another_key_takes_the_place_of_the_old_one_while_servers_run(app: TestApp) {
        let other = app.another().await;
        let things = things(&app).await;
        let agent = app.session(things.session).await.agent_id.unwrap();
        let running = id_of(&app.create("r").header("prefer", "respond-async").send().await.expect(201));
        crate::sessions::started(&app.app, agent, running).await.unwrap();
        let cursor = cursor::encode(&app.app.secrets, app.workspace, "l", running);
        // A storage state on its way from the agent's replica to the one that asked for it.
        let asking = tokio::spawn(saving(&app, running).send());
        until(|| async { app.count("SELECT COUNT(*) FROM captures").await == 1 }).await;
        let old = keys_of(&app);
        let rotated = rotate(&app).await.unwrap();
        let expected = Rotated { signing_keys: 1, session_inputs: 1, profiles: 1, ..Rotated::default() };
        assert_eq!(rotated, expected);
        let new = keys_of(&app);
        assert_eq!(new.len(), 1);
        assert_ne!(new, old);
        assert_eq!(app.count(KNOWN).await, 1);
        all_is_readable(&app, &things).await;
        all_is_readable(&other, &things).await;
        let asked = captures::asked_of(&mut app.app.db.read().await.unwrap(), agent).await.unwrap();
        let captured = proto::agent::Captured {
            capture_id: asked[0].0.to_string(),
            session_id: running.to_string(),
            outcome: Some(proto::agent::captured::Outcome::StorageState(state().to_string().into())),
        };
        captures::captured(&other.app, agent, captured).await.unwrap();
        asking.await.unwrap().expect(201);
        signing::rotate(&other.app.db, &other.app.secrets).await.unwrap();
        // The key of this cursor is gone for good.
        assert_eq!(cursor::decode::<proto::id::SessionId>(&app.app.secrets, app.workspace, "l", &cursor), None);
        // And again, now that all servers have the new key.
        let rotated = rotate(&app).await.unwrap();
        assert_eq!((rotated.signing_keys, rotated.profiles), (2, 2));
        all_is_readable(&other, &things).await;
        other.app.db.close().await;
    }

    async fn a_captured_state_is_wrapped_anew_too(app: TestApp) {
        let things = things(&app).await;
        let agent = app.session(things.session).await.agent_id.unwrap();
        crate::sessions::started(&app.app, agent, things.session).await.unwrap();
        let sql = "INSERT INTO captures (id, session_id, agent_id, status, created_us) \
                   VALUES ($1, $2, $3, 'ASKED', 1)";
        let id = proto::id::CaptureId::generate();
        app.sql(sql, &[&id.to_string(), &things.session.to_string(), &agent.to_string()]).await;
        let captured = proto::agent::Captured {
            capture_id: id.to_string(),
            session_id: things.session.to_string(),
            outcome: Some(proto::agent::captured::Outcome::StorageState(b"state".to_vec())),
        };
        captures::captured(&app.app, agent, captured).await.unwrap();
        assert_eq!(rotate(&app).await.unwrap().captures, 1);
        assert_eq!(captures::content(&app.app, id).await.unwrap(), b"state");
    }

    async fn files_are_wrapped_anew_too(app: TestApp) {
        let things = things(&app).await;
        let source = files::Source::Caller(app.workspace);
        files::tests::store(&app, things.session, source, "f", b"content").await.unwrap();
        assert_eq!(rotate(&app).await.unwrap().files, 1);
        let path = format!("/v1/sessions/{}/uploads/f", things.session);
        assert_eq!(app.get(&path).send().await.text, "content");
    }

    async fn a_rotation_that_was_killed_is_taken_up(app: TestApp) {
        let things = things(&app).await;
        let old = keys_of(&app)[0];
        let new = [9; 32];
        // Right after the store knew of the key: a later rotation makes another, and this one
        // is forgotten.
        register(&app.app.db, &[new]).await.unwrap();
        assert_eq!(app.count(KNOWN).await, 2);
        all_is_readable(&app, &things).await;
        let rotated = rotate(&app).await.unwrap();
        assert!(!rotated.resumed);
        assert_eq!(app.count(KNOWN).await, 1);
        // Right after the file had both keys, and after some was wrapped anew.
        let first = keys_of(&app)[0];
        assert_ne!(first, old);
        register(&app.app.db, &[new]).await.unwrap();
        ring::replace(&file_of(&app), &[new, first]).unwrap();
        let both = Ring::new(&[new, first]);
        assert_eq!(rewrap(&app.app.db, &both, &KINDS[0]).await.unwrap(), 1);
        all_is_readable(&app, &things).await;
        let rotated = rotate(&app).await.unwrap();
        let expected =
            Rotated { session_inputs: 1, profiles: 1, resumed: true, ..Rotated::default() };
        assert_eq!(rotated, expected);
        assert_eq!(keys_of(&app), [new]);
        // After the store has forgotten the old key, and the file has not.
        ring::replace(&file_of(&app), &[new, first]).unwrap();
        assert_eq!(rotate(&app).await.unwrap(), Rotated { resumed: true, ..Rotated::default() });
        assert_eq!(keys_of(&app), [new]);
        all_is_readable(&app, &things).await;
    }

    async fn what_was_wrapped_before_keys_had_names_is_wrapped_anew(app: TestApp) {
        let jwks = app.app.signer.jwks();
        let cut = "UPDATE signing_keys SET wrapped_private = substr(wrapped_private, 9), key_id = NULL";
        app.sql(cut, &[]).await;
        Signer::open(&app.app.db, &app.app.secrets).await.unwrap();
        assert_eq!(rotate(&app).await.unwrap().signing_keys, 1);
        let again = Signer::open(&app.app.db, &app.app.secrets).await.unwrap();
        assert_eq!(again.jwks(), jwks);
    }

    async fn what_a_server_without_the_new_key_wraps_cannot_be_written(app: TestApp) {
        let things = things(&app).await;
        // It read the key once, as from its environment.
        let stale = Secrets::of(Source::Fixed(keys_of(&app))).unwrap();
        rotate(&app).await.unwrap();
        let late = stale.wrap("profile", b"key").unwrap();
        let mut tx = app.tx().await;
        let new = crate::profiles::store::NewContent {
            version: "v", size_bytes: 1, key: &late, content: None,
        };
        let id = things.profile.parse().unwrap();
        let refused = crate::profiles::store::replace(&mut tx, id, &new).await.unwrap_err();
        let sqlx::Error::Database(refused) = refused else { panic!("{refused:?}") };
        assert!(refused.is_foreign_key_violation());
        drop(tx);
        all_is_readable(&app, &things).await;
    }

    async fn what_no_key_can_read_keeps_every_key(app: TestApp) {
        let things = things(&app).await;
        let spoil = "UPDATE profiles SET wrapped_key = content";
        app.sql(spoil, &[]).await;
        let error = rotate(&app).await.unwrap_err();
        assert!(format!("{error:#}").contains("profiles: 1 cannot be decrypted"), "{error:#}");
        assert_eq!(keys_of(&app).len(), 2);
        let path = format!("/v1/profiles/{}", things.profile);
        app.call(Method::DELETE, &path).send().await.expect(204);
        assert!(rotate(&app).await.unwrap().resumed);
        assert_eq!(keys_of(&app).len(), 1);
    }

    async fn many_things_are_wrapped_anew_while_others_come_and_go(app: TestApp) {
        let body = json!({"name": "n", "storage_state": state()});
        let make = async |app: &TestApp| {
            let made = app.call(Method::POST, "/v1/profiles").json(&body).send().await.expect(201);
            made["id"].as_str().unwrap().to_owned()
        };
        for _ in 0..120 {
            make(&app).await;
        }
        let other = app.another().await;
        let rotating = tokio::spawn({
            let app = app.clone();
            async move { rotate(&app).await.unwrap() }
        });
        let mut late = vec![make(&other).await];
        while !rotating.is_finished() {
            late.push(make(&other).await);
            let gone = late.swap_remove(0);
            other.call(Method::DELETE, &format!("/v1/profiles/{gone}")).send().await.expect(204);
        }
        assert!(rotating.await.unwrap().profiles >= 120);
        assert_eq!(app.count("SELECT COUNT(DISTINCT key_id) FROM profiles").await, 1);
        for id in late {
            let path = format!("/v1/profiles/{id}/storage-state");
            assert_eq!(app.get(&path).send().await.expect(200), state());
        }
        other.app.db.close().await;
    }

    async fn keys_from_the_environment_are_the_operators_to_change(app: TestApp) {
        let things = things(&app).await;
        let old = keys_of(&app)[0];
        let one = Source::Fixed(vec![old]);
        assert!(rotate_keys(&app.app.db, &one).await.is_err());
        let both = Source::Fixed(vec![[9; 32], old]);
        let rotated = rotate_keys(&app.app.db, &both).await.unwrap();
        assert!(rotated.from_environment && !rotated.resumed);
        assert_eq!((rotated.signing_keys, rotated.profiles), (1, 1));
        let new = Secrets::of(Source::Fixed(vec![[9; 32]])).unwrap();
        Signer::open(&app.app.db, &new).await.unwrap();
        ring::replace(&file_of(&app), &[[9; 32]]).unwrap();
        all_is_readable(&app, &things).await;
    }

    async fn two_rotations_at_once_make_one_key(app: TestApp) {
        let path = file_of(&app);
        let lock = alone(&path).unwrap();
        let error = rotate(&app).await.unwrap_err();
        assert!(format!("{error:#}").contains("another rotation"), "{error:#}");
        drop(lock);
        rotate(&app).await.unwrap();
    }
}
