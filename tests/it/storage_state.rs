//! A login that moves: from Playwright into a session, from a session into a profile, and from
//! there into Playwright and into the next session.

use harness::{Chrome, PATIENCE, Server, Site, api::Answer, cdp::Cdp, clients, eventually};
use http::Method;
use serde_json::{Value, json};

const SCRIPT: &str = "storage-state.mjs";

async fn save_profile(server: &Server, session: &str, body: Value) -> Answer {
    let path = format!("/v1/sessions/{session}/save-profile");
    server.api.send(Method::POST, &path, &[], Some(&body)).await
}

async fn state_of(server: &Server, profile: &str) -> Value {
    let answer = server.api.get(&format!("/v1/profiles/{profile}/storage-state")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

/// In an order of its own, to be compared.
fn sorted(mut state: Value) -> Value {
    let by = |list: &mut Value, key: &str| {
        if let Some(list) = list.as_array_mut() {
            list.sort_by_key(|item| item[key].to_string());
        }
    };
    by(&mut state["cookies"], "name");
    by(&mut state["origins"], "origin");
    for origin in state["origins"].as_array_mut().expect("origins") {
        by(&mut origin["localStorage"], "name");
        by(&mut origin["indexedDB"], "name");
    }
    state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_moves_between_playwright_and_sessions() {
    let site = Site::start().await;
    let server = Server::up().capacity(2, 0).start().await;
    let title = json!({ "title": "signed in as Zoë" });

    // Playwright signs in on Chrome itself; a session starts with what it saved
    let first = server.api.create(json!({})).await;
    let chrome = Chrome::like(server.data()).await;
    server.api.release(first.id()).await;
    clients::run(SCRIPT, &chrome.url, &site.url, &["save"]).await;
    let theirs = site.look("state").expect("a state");
    let session = server.api.create(json!({ "storage_state": theirs })).await;
    let seen = clients::run(SCRIPT, session.connect_url(), &site.url, &["visit"]).await;
    assert_eq!(seen["visit"], title);

    // what we save of it Playwright loads
    let saved = save_profile(&server, session.id(), json!({ "name": "Zoë" })).await;
    assert_eq!(saved.status, 201, "{}", saved.body);
    let profile = saved.body["id"].as_str().expect("an id").to_owned();
    let ours = state_of(&server, &profile).await;
    assert_eq!(sorted(ours.clone())["origins"], sorted(theirs)["origins"]);
    site.put("state", ours.clone());
    let seen = clients::run(SCRIPT, &chrome.url, &site.url, &["load"]).await;
    assert_eq!(seen["load"], title);
    server.api.release(session.id()).await;

    // and so does the next session, whose state is the same again
    let session = server.api.create(json!({ "profile_id": profile })).await;
    let again = save_profile(&server, session.id(), json!({ "profile_id": profile })).await;
    assert_eq!(again.status, 200, "{}", again.body);
    assert_eq!(sorted(state_of(&server, &profile).await), sorted(ours));
    let seen = clients::run(SCRIPT, session.connect_url(), &site.url, &["visit"]).await;
    assert_eq!(seen["visit"], title);
    server.api.release(session.id()).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_do_not_notice_that_their_session_is_saved() {
    let site = Site::start().await;
    let server = Server::up().capacity(1, 0).start().await;
    let session = server.api.create(json!({})).await;
    clients::run(SCRIPT, session.connect_url(), &site.url, &["sign in"]).await;
    let saving = async {
        eventually("the clients look", PATIENCE, || async { site.look("looking") }).await;
        let (one, two) = tokio::join!(
            save_profile(&server, session.id(), json!({ "name": "one" })),
            save_profile(&server, session.id(), json!({ "name": "two" })),
        );
        site.put("done", json!(true));
        [one, two]
    };
    let looking = clients::run(SCRIPT, session.connect_url(), &site.url, &["look"]);
    let (saved, _) = tokio::join!(saving, looking);
    let mut states = Vec::new();
    for saved in saved {
        assert_eq!(saved.status, 201, "{}", saved.body);
        let state = state_of(&server, saved.body["id"].as_str().expect("an id")).await;
        assert_eq!(state["origins"][0]["origin"], json!(site.url));
        states.push(sorted(state));
    }
    assert_eq!(states[0], states[1]);
    server.api.release(session.id()).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_frame_of_the_same_site_stores_is_saved_too() {
    // One host, so one site, with two origins.
    let (site, framed) = (Site::start().await, Site::start().await);
    let server = Server::up().capacity(1, 0).start().await;
    let session = server.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let (_, page) = cdp.page(&site.url).await;
    cdp.call(Some(&page), "Page.enable", json!({})).await;
    let script = "if (window !== top) localStorage.setItem('frame', 'was here')";
    cdp.call(Some(&page), "Page.addScriptToEvaluateOnNewDocument", json!({ "source": script }))
        .await;
    let show = format!(
        "new Promise(loaded => {{
            const frame = document.createElement('iframe');
            frame.onload = () => loaded(true);
            frame.src = '{}';
            document.body.append(frame);
        }})",
        framed.url
    );
    assert_eq!(cdp.evaluate(Some(&page), &show).await, true);
    let saved = save_profile(&server, session.id(), json!({ "name": "framed" })).await;
    assert_eq!(saved.status, 201, "{}", saved.body);
    let state = state_of(&server, saved.body["id"].as_str().expect("an id")).await;
    let stored = json!([{ "name": "frame", "value": "was here" }]);
    let expected = json!([{ "origin": framed.url, "localStorage": stored }]);
    assert_eq!(state["origins"], expected);
    cdp.close().await;
    server.api.release(session.id()).await;
    server.stop().await;
}
