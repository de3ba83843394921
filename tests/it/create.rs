//! Creating sessions over HTTP: exactly one for a key, never more than fit, first come first
//! served.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use harness::{Api, Server, cdp::Cdp};
use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn one_key_makes_one_session() {
    let server = Server::up().capacity(2, 1).start().await;
    let api = &server.api;
    let body = json!({ "labels": { "story": "one key" }, "timeout_seconds": 600 });

    let begun = Instant::now();
    let answers = join_all((0..100).map(|_| api.create_with("same-key", "wait=30", &body))).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 99, "{statuses:?}");
    let ids: HashSet<_> = answers.iter().map(|a| a.body["id"].to_string()).collect();
    assert_eq!(ids.len(), 1);
    assert!(answers.iter().all(|answer| answer.body["status"] == "RUNNING"));
    assert_eq!(api.all().await.len(), 1);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());

    // each answer's own connect URL works
    for answer in answers.iter().take(3) {
        let url = answer.body["connect_url"].as_str().unwrap();
        let mut cdp = Cdp::connect(url).await;
        let version = cdp.call(None, "Browser.getVersion", json!({})).await;
        assert!(version["product"].as_str().unwrap().contains("Chrome"), "{version}");
        cdp.close().await;
    }

    // the same members in another order are the same request; another value is another one
    let reordered = json!({ "timeout_seconds": 600, "labels": { "story": "one key" } });
    assert_eq!(api.create_with("same-key", "wait=5", &reordered).await.status, 200);
    let other = json!({ "labels": { "story": "another" }, "timeout_seconds": 600 });
    let reused = api.create_with("same-key", "wait=5", &other).await;
    assert_eq!((reused.status, reused.problem()), (422, "idempotency-key-reused"));

    // also once it is over
    let id = answers[0].body["id"].as_str().unwrap();
    api.release(id).await;
    let replay = api.create_with("same-key", "wait=5", &body).await.session(200);
    assert_eq!((replay.id(), replay.status(), replay.reason()), (id, "COMPLETED", "released"));
    assert!(replay.0["connect_url"].is_null());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_makes_waiters_wait_in_turn() {
    let server = Server::up().capacity(2, 0).start().await;
    let api = &server.api;
    let [first, second] = [api.create(json!({})).await, api.create(json!({})).await];

    // no wait, no slot
    let refused = api.create_with("refused", "wait=0", &json!({})).await;
    assert_eq!((refused.status, refused.problem()), (503, "insufficient-capacity"));
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=120).contains(&after), "{after}");
    assert!(refused.body["detail"].as_str().unwrap().contains("local"), "{}", refused.body);

    // a wait that runs out
    let begun = Instant::now();
    let late = api.create_with("late", "wait=1", &json!({})).await;
    assert_eq!((late.status, late.problem()), (503, "insufficient-capacity"));
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(1) && waited < Duration::from_secs(5), "{waited:?}");

    // three wait, two slots come: the first two get them, in the order in which they came
    let (none, labelled) = (json!({}), |n: u32| json!({ "labels": { "turn": n.to_string() } }));
    let waiting = [labelled(1), labelled(2), labelled(3)];
    let ask = |n: usize, wait: &'static str| {
        let (api, body) = (api.clone(), waiting[n].clone());
        tokio::spawn(async move { api.create_with(&format!("turn-{n}"), wait, &body).await })
    };
    let one = ask(0, "wait=60");
    queued(api).await;
    let two = ask(1, "wait=60");
    queued(api).await;
    let three = ask(2, "wait=60");
    queued(api).await;
    assert!(!one.is_finished() && !two.is_finished() && !three.is_finished());
    api.release(first.id()).await;
    let one = one.await.unwrap().session(201);
    assert_eq!(one.0["labels"]["turn"], "1");
    assert!(!two.is_finished() && !three.is_finished());

    // a waiter that goes away leaves the queue
    two.abort();
    api.release(second.id()).await;
    let three = three.await.unwrap().session(201);
    assert_eq!(three.0["labels"]["turn"], "3");
    let events = api.events(three.id()).await;
    let statuses: Vec<_> = events.iter().map(|(status, _)| status.as_str()).collect();
    assert_eq!(statuses, ["QUEUED", "PROVISIONING", "RUNNING"]);

    // a refused key is not used up
    api.release(one.id()).await;
    assert_eq!(api.create_with("refused", "wait=30", &none).await.status, 201);
    for session in api.all().await {
        api.release(session.id()).await;
    }
    server.at_rest(0).await;
    server.stop().await;
}

/// Waits until the server must have read what was sent before: others behind it are answered.
async fn queued(api: &Api) {
    for _ in 0..3 {
        let answer = api.create_with("behind", "wait=0", &json!({})).await;
        assert_eq!(answer.status, 503);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_checked_whole() {
    let server = Server::up().capacity(1, 0).start().await;
    let api = &server.api;
    let ask = |body: Value| async move { api.create_with("checked", "wait=0", &body).await };

    let all = ask(json!({
        "timeout_seconds": 4, "keep_alive_seconds": 3601, "viewport": { "width": 99, "height": 7681 },
        "user_agent": "é", "labels": { "-": "x", "ok": "y" },
    }))
    .await;
    assert_eq!((all.status, all.problem()), (422, "validation-error"));
    let pointers: HashSet<_> = all.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["pointer"].as_str().unwrap())
        .collect();
    let wanted = [
        "/timeout_seconds",
        "/keep_alive_seconds",
        "/viewport/width",
        "/viewport/height",
        "/user_agent",
        "/labels/-",
    ];
    assert_eq!(pointers, wanted.into_iter().collect());

    for (body, status, slug) in [
        (json!({ "nonsense": 1 }), 400, "validation-error"),
        (json!({ "timeout_seconds": "ten" }), 422, "validation-error"),
        (json!([]), 422, "validation-error"),
        (json!({ "region": "atlantis" }), 422, "unknown-region"),
        (json!({ "runtime_kind": "rda" }), 422, "unsupported-runtime"),
        (json!({ "profile_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV" }), 422, "unknown-profile"),
        (json!({ "proxy": { "url": "ftp://127.0.0.1:1" } }), 422, "validation-error"),
        (json!({ "recording": { "enabled": true } }), 422, "validation-error"),
    ] {
        let answer = ask(body.clone()).await;
        assert_eq!((answer.status, answer.problem()), (status, slug), "{body}: {}", answer.body);
    }
    let send = |method, path: &'static str, headers: &'static [(&str, &str)]| async move {
        api.send(method, path, headers, Some(&json!({}))).await
    };
    let without_key = send(Method::POST, "/v1/sessions", &[]).await;
    assert_eq!((without_key.status, without_key.problem()), (400, "idempotency-key-required"));
    let wrong_type = send(
        Method::POST,
        "/v1/sessions",
        &[("content-type", "text/plain"), ("idempotency-key", "x")],
    )
    .await;
    assert_eq!((wrong_type.status, wrong_type.problem()), (415, "unsupported-media-type"));
    let wrong_method = send(Method::PUT, "/v1/sessions", &[]).await;
    assert_eq!((wrong_method.status, wrong_method.problem()), (405, "method-not-allowed"));
    assert!(wrong_method.header("allow").unwrap().contains("POST"));
    let unknown = api.get("/v1/nothing").await;
    assert_eq!((unknown.status, unknown.problem()), (404, "not-found"));
    let stranger = Api::new(&api.base_url, None);
    let anonymous = stranger.get("/v1/sessions").await;
    assert_eq!((anonymous.status, anonymous.problem()), (401, "unauthorized"));
    assert_eq!(anonymous.header("www-authenticate"), Some("Bearer"));
    assert!(api.all().await.is_empty(), "nothing of that made a session");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_can_be_had_before_its_browser() {
    let server = Server::up().capacity(3, 0).start().await;
    let api = &server.api;
    let soon = api.create_with("soon", "respond-async", &json!({})).await.session(201);
    assert!(["PROVISIONING", "RUNNING"].contains(&soon.status()), "{}", soon.0);
    // its connect URL works at once: it waits for the browser
    let mut cdp = Cdp::connect(soon.connect_url()).await;
    cdp.call(None, "Browser.getVersion", json!({})).await;
    cdp.close().await;
    api.wait_for(soon.id(), "RUNNING", harness::PATIENCE).await;

    // released before it runs
    let gone = api.create_with("gone", "respond-async", &json!({})).await.session(201);
    api.release(gone.id()).await;
    let gone = api.session(gone.id()).await;
    assert_eq!((gone.status(), gone.reason()), ("COMPLETED", "released"));

    // what was asked for is what the browser is
    let body = json!({ "viewport": { "width": 800, "height": 444 }, "user_agent": "Ventus/Test", "keep_alive_seconds": 60 });
    let made = api.create(body).await;
    let mut cdp = Cdp::connect(made.connect_url()).await;
    let (_, page) = cdp.page("about:blank").await;
    let seen = cdp.evaluate(Some(&page), "[innerWidth, innerHeight, navigator.userAgent]").await;
    assert_eq!(seen, json!([800, 444, "Ventus/Test"]));
    cdp.close().await;

    for session in api.all().await {
        api.release(session.id()).await;
    }
    server.at_rest(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_list_hold_every_session_once() {
    let server = Server::up().capacity(1, 0).start().await;
    let api = &server.api;
    let mut made = Vec::new();
    for n in 0..7 {
        let body = json!({ "labels": { "half": if n % 2 == 0 { "even" } else { "odd" } } });
        let session = api
            .create_with(&format!("list-{n}"), "respond-async, wait=30", &body)
            .await
            .session(201);
        api.release(session.id()).await;
        made.insert(0, session.id().to_owned());
    }
    let pages = |query: &'static str, during: bool| async move {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        for round in 0.. {
            let answer = api.get(&format!("/v1/sessions?limit=2{query}{cursor}")).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            found.extend(
                answer.body["items"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|s| s["id"].as_str().unwrap().to_owned()),
            );
            let Some(next) = answer.body["next_cursor"].as_str() else {
                assert_eq!(answer.body["has_more"], false);
                break;
            };
            assert_eq!(answer.body["has_more"], true);
            cursor = format!("&cursor={next}");
            if during && round == 0 {
                let key = "list-meanwhile";
                let new =
                    api.create_with(key, "respond-async, wait=30", &json!({})).await.session(201);
                api.release(new.id()).await;
            }
        }
        found
    };
    assert_eq!(pages("", true).await, made, "what came meanwhile changes nothing");
    assert_eq!(pages("&label.half=odd&status=COMPLETED", false).await.len(), 3);
    assert_eq!(pages("&status=RUNNING", false).await.len(), 0);

    let first = api.get("/v1/sessions?limit=2").await;
    let cursor = first.body["next_cursor"].as_str().unwrap();
    let last = if cursor.ends_with('A') { 'B' } else { 'A' };
    let changed = format!("{}{last}", &cursor[..cursor.len() - 1]);
    for query in [
        format!("cursor={changed}"),
        format!("cursor={cursor}&status=RUNNING"),
        "cursor=x".into(),
        "limit=0".into(),
        "limit=101".into(),
        "nonsense=1".into(),
    ] {
        let answer = api.get(&format!("/v1/sessions?{query}")).await;
        assert_eq!(
            (answer.status, answer.problem()),
            (400, "validation-error"),
            "{query}: {}",
            answer.body
        );
    }
    server.at_rest(0).await;
    server.stop().await;
}
