//! What sessions begin with, what is done to them while they run, and what is kept of them.

use std::{fs, os::unix::fs::PermissionsExt};

use harness::{Proxy, Server, Site, User, cdp::Cdp, tls::Certificate};
use serde_json::{Value, json};

use super::{columns, told};

/// A login at a site.
fn login(site: &Site, token: &str) -> Value {
    let cookie = json!({"name": "sid", "value": token, "domain": "localhost", "path": "/",
        "expires": -1, "httpOnly": false, "secure": false, "sameSite": "Lax"});
    let stored = json!({"name": "token", "value": token});
    json!({"cookies": [cookie], "origins": [{"origin": site.url, "localStorage": [stored]}]})
}

/// What a page of the site has of a login, in a session of the command line.
async fn seen(user: &User, id: &str, site: &Site) -> Value {
    let url = user.says(&["session", "connect-url", id]).await;
    let mut cdp = Cdp::connect(&url).await;
    let (_, page) = cdp.page(&format!("{}/index.html", site.url)).await;
    cdp.until_titled(&page, "Ventus test site").await;
    let seen = cdp.evaluate(Some(&page), "[document.cookie, localStorage.token]").await;
    cdp.close().await;
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_goes_into_sessions_and_profiles_and_comes_out() {
    let site = Site::start().await;
    let server = Server::up().capacity(1, 0).start().await;
    let user = User::beside(&server);
    assert_eq!(user.run(&["profile", "list"]).await.err, "no profiles\n");
    let file = user.home().join("state.json");
    fs::write(&file, login(&site, "one").to_string()).unwrap();
    let file = file.to_str().unwrap();

    // from a file into a session, and from there into a profile
    let create = ["session", "create", "--keep-alive", "60", "--storage-state", file];
    let made = user.json(&create).await;
    let id = made["id"].as_str().unwrap();
    assert_eq!(seen(&user, id, &site).await, json!(["sid=one", "one"]));
    let card = user.says(&["session", "save-profile", id, "--name", "shop"]).await;
    let profile = told(&card, "Profile").to_owned();
    let more = user.json(&["session", "keepalive", id, "--extend", "60"]).await;
    assert_eq!(more["timeout_seconds"], made["timeout_seconds"].as_u64().unwrap() + 60);
    assert_eq!(told(&user.says(&["session", "keepalive", id]).await, "Status"), "RUNNING");
    user.says(&["session", "release", id]).await;
    user.fails(5, &["session", "keepalive", id]).await;
    user.fails(5, &["session", "save-profile", id, "--name", "late"]).await;

    // from the profile into the next session, and into a file
    let card = user.says(&["session", "create", "--profile", &profile]).await;
    let id = told(&card, "Session");
    assert_eq!(told(&card, "Profile"), profile);
    assert_eq!(seen(&user, id, &site).await, json!(["sid=one", "one"]));
    user.says(&["session", "save-profile", id, "--profile", &profile]).await;
    user.says(&["session", "release", id]).await;
    user.says(&["profile", "export", &profile, "--output", "out.json"]).await;
    let out = user.home().join("out.json");
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let kept: Value = serde_json::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!(kept["cookies"][0]["value"], "one", "{kept}");
    assert_eq!(kept["origins"][0]["localStorage"][0]["value"], "one", "{kept}");

    profiles_are_looked_after(&user, &profile, &kept.to_string()).await;
    server.at_rest(0).await;
    server.stop().await;
}

/// Lists, names, makes and removes profiles.
async fn profiles_are_looked_after(user: &User, profile: &str, state: &str) {
    let create = ["profile", "create", "--name", "copy", "--storage-state", "-"];
    let made = user.type_to(&create, state).await;
    let copy = told(&made.out, "Profile").to_owned();
    let card = user.says(&["profile", "rename", &copy, "other"]).await;
    assert_eq!(told(&card, "Name"), "other");
    let table = user.says(&["profile", "list"]).await;
    let rows: Vec<_> = table.lines().map(columns).collect();
    assert_eq!(rows[0], ["ID", "NAME", "SIZE", "UPDATED"]);
    assert_eq!(
        (rows[1][..2].to_vec(), rows[2][..2].to_vec()),
        (vec![&*copy, "other"], vec![profile, "shop"])
    );
    assert_eq!(user.json(&["profile", "get", &copy]).await["name"], "other");
    let faulty = user.type_to(&create, r#"{"cookies": 7, "origins": []}"#).await;
    assert_eq!(faulty.code, 2, "{faulty:?}");
    assert!(faulty.err.contains("/storage_state/cookies"), "{}", faulty.err);
    assert_eq!(user.says(&["profile", "delete", &copy, profile]).await.lines().count(), 2);
    user.fails(4, &["profile", "get", &copy]).await;
    let gone = user.fails(4, &["profile", "export", profile]).await;
    assert!(gone.contains("(404)"), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxys_credentials_come_from_the_environment_or_from_standard_input() {
    let site = Site::start().await;
    let host = site.url.trim_start_matches("http://");
    let certificate = Certificate::new().await;
    let server = Server::up().capacity(1, 0).start().await;
    let user = User::beside(&server);
    for from_stdin in [false, true] {
        let proxy = Proxy::start("http", &certificate).await;
        let (name, password) = (Proxy::USERNAME, Proxy::PASSWORD);
        let made = if from_stdin {
            let url = proxy.url.replace("://", &format!("://{name}:{password}@"));
            user.type_to(&["session", "create", "--proxy", "-"], &url).await
        } else {
            let user = User::beside(&server).env("VENTUS_PROXY_USERNAME", name);
            let user = user.env("VENTUS_PROXY_PASSWORD", password);
            user.run(&["session", "create", "--proxy", &proxy.url]).await
        };
        assert_eq!(made.code, 0, "{made:?}");
        assert_eq!(told(&made.out, "Proxy").trim_end_matches('/'), proxy.url);
        assert!(!made.out.contains(password) && !made.err.contains(password));
        let id = told(&made.out, "Session");
        assert_eq!(seen(&user, id, &site).await[0], json!(""));
        assert!(proxy.went_to(host));
        user.says(&["session", "release", id]).await;
        server.at_rest(0).await;
    }
    server.stop().await;
}
