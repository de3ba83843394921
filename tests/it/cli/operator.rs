//! What the operator of a server does from the command line, while it runs.

use std::time::Duration;

use harness::{Api, PATIENCE, Server, User, cdp::Cdp, command::Done, eventually};
use serde_json::json;

use super::{columns, told};

/// Runs a command until it ends with this exit code: a running server takes a moment to notice
/// what an operator did.
async fn until(user: &User, code: i32, arguments: &[&str]) -> Done {
    let what = format!("exit code {code} of {arguments:?}");
    let ends = || async { Some(user.run(arguments).await).filter(|done| done.code == code) };
    eventually(&what, PATIENCE, ends).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_closes_and_opens_a_workspace() {
    let server = Server::up().capacity(1, 0).start().await;
    let user = User::beside(&server);
    user.says(&["login"]).await;
    let id = user.json(&["session", "create"]).await["id"].as_str().unwrap().to_owned();
    let listed = user.says(&["operator", "workspace", "list"]).await;
    let lines: Vec<_> = listed.lines().map(columns).collect();
    assert_eq!(lines[0], ["SLUG", "NAME", "STATUS", "PLAN", "OPERATOR", "CREATED"]);
    assert_eq!(lines[1][..5], ["default", "Default", "ACTIVE", "enterprise", "yes"], "{listed}");
    assert_eq!(lines.len(), 2, "{listed}");

    let said = user.says(&["operator", "workspace", "suspend", "default"]).await;
    assert_eq!(said, "default is SUSPENDED, with the plan enterprise");
    let refused = until(&user, 3, &["session", "list"]).await.err;
    assert!(refused.starts_with("error: Not authenticated (401)"), "{refused}");
    server.at_rest(0).await;
    let card = user.says(&["workspace", "get"]).await;
    assert_eq!(told(&card, "Status"), "SUSPENDED");
    user.fails(3, &["workspace", "rename", "Other"]).await;

    let said = user.says(&["operator", "workspace", "resume", "default"]).await;
    assert_eq!(said, "default is ACTIVE, with the plan enterprise");
    until(&user, 0, &["session", "list"]).await;
    let ended = user.json(&["session", "get", &id]).await;
    assert!(ended["ended_at"].is_string(), "{ended}");

    user.says(&["operator", "workspace", "plan", "default", "pro"]).await;
    assert_eq!(told(&user.says(&["workspace", "get"]).await, "Plan"), "pro");
    user.says(&["operator", "workspace", "add-owner", "default", "ada@example.org"]).await;
    let members = user.json(&["workspace", "members"]).await;
    let owners = members["items"].as_array().unwrap().iter().filter(|one| one["role"] == "owner");
    assert_eq!(owners.count(), 2, "{members}");
    user.fails(2, &["operator", "workspace", "plan", "default", "gold"]).await;
    let unknown = user.fails(1, &["operator", "workspace", "suspend", "nope"]).await;
    assert_eq!(unknown, "error: no workspace has the slug \"nope\"\n");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_takes_a_new_signing_key_over() {
    let server = Server::up().capacity(1, 0).start().await;
    let user = User::beside(&server);
    let id = user.json(&["session", "create"]).await["id"].as_str().unwrap().to_owned();
    let before = user.says(&["session", "connect-url", &id]).await;
    let public = Api::new(&server.api.base_url, None);
    let living = async || {
        let keys = public.get("/.well-known/jwks.json").await.body;
        keys["keys"].as_array().unwrap().len()
    };
    assert_eq!(living().await, 1);
    user.says(&["keys", "rotate"]).await;
    let two = || async { (living().await == 2).then_some(()) };
    eventually("two living keys", Duration::from_secs(15), two).await;
    Cdp::connect(&before).await.close().await;
    user.says(&["session", "release", &id]).await;
    server.at_rest(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_takes_a_new_master_key_over() {
    let server = Server::up().capacity(1, 0).start().await;
    let user = User::beside(&server);
    user.says(&["login"]).await;
    let state = json!({"cookies": [], "origins": [
        {"origin": "http://localhost:9", "localStorage": [{"name": "a", "value": "b"}]}]});
    let state = state.to_string();
    let create = ["profile", "create", "--name", "shop", "--storage-state", "-", "--json"];
    let made = user.type_to(&create, &state).await;
    let made: serde_json::Value = serde_json::from_str(&made.out).unwrap();
    let profile = made["id"].as_str().unwrap();
    let before = user.says(&["profile", "export", profile]).await;
    let old = std::fs::read(server.data().join("master.key")).unwrap();

    for _ in 0..2 {
        let said = user.says(&["keys", "rotate-master"]).await;
        assert!(said.starts_with("a new master key is in use; encrypted anew: 1 signing keys, "));
        assert!(said.contains("1 profiles"), "{said}");
        let id = user.json(&["session", "create", "--profile", profile]).await;
        let id = id["id"].as_str().unwrap();
        Cdp::connect(&user.says(&["session", "connect-url", id]).await).await.close().await;
        user.says(&["session", "save-profile", id, "--profile", profile]).await;
        assert_eq!(user.says(&["profile", "export", profile]).await, before);
        user.says(&["session", "release", id]).await;
        // Tokens of people do not hang on it.
        user.says(&["workspace", "list"]).await;
    }
    let new = std::fs::read(server.data().join("master.key")).unwrap();
    assert!(new != old && new.len() == old.len());
    server.at_rest(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_refuses_what_it_could_not_work_with() {
    let user = User::nowhere();
    for flags in [
        &["--owner-email", "nobody"][..],
        &["--smtp-url", "u:hunter2@h", "--mail-from", "v@example.org"],
        &["--smtp-url", "smtp://u:hunter2@h", "--mail-from", "nobody"],
        &["--smtp-url", "smtp://u:hunter2@h"],
        &["--mail-from", "v@example.org"],
        &["--object-store", "https://k:hunter2@bucket"],
        &["--object-store", "s3://k:hunter2@bucket"],
        &["--database-url", "mysql://u:hunter2@h/d"],
        &["--rate-limit-per-minute", "0"],
    ] {
        let ports = ["control-plane", "--listen", "127.0.0.1:0", "--hub-listen", "127.0.0.1:0"];
        let told = user.fails(2, &[&ports[..], flags].concat()).await;
        assert!(!told.contains("hunter2"), "{told}");
    }
}
