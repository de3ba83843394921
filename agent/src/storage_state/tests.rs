//! On real browsers, with clients that look closely.

use std::{collections::HashSet, net::TcpListener, time::Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    testing::{Client, full, sorted, targets_in},
    *,
};
use crate::{
    browser::{
        Browser, LaunchOptions,
        testing::{CHROMIUM, HEADLESS_SHELL, Place},
    },
    gateway::Way,
    sessions::testing::soon,
};

async fn launch(place: &Place, binary: &str) -> Browser {
    place.launcher(binary).await.launch(&LaunchOptions::default()).await.unwrap()
}

async fn restores_and_reads(binary: &str) {
    let place = Place::new();
    let state = full().to_string().into_bytes();
    let browser = launch(&place, binary).await;
    apply(&browser.mux, &state).await.unwrap();
    let ours = capture(&browser.mux, &[]).await.unwrap();
    browser.close().await;
    assert_eq!(sorted(&ours), sorted(&state));
    // And what we read we can restore.
    let again = launch(&place, binary).await;
    apply(&again.mux, &ours).await.unwrap();
    assert_eq!(sorted(&capture(&again.mux, &[]).await.unwrap()), sorted(&ours));
    again.close().await;
    place.assert_clear();
}

#[tokio::test]
async fn what_was_restored_is_read_again() {
    restores_and_reads(CHROMIUM).await;
}

#[tokio::test]
async fn what_was_restored_is_read_again_by_the_headless_shell() {
    restores_and_reads(HEADLESS_SHELL).await;
}

#[tokio::test]
async fn text_that_is_no_unicode_survives() {
    let place = Place::new();
    let browser = launch(&place, HEADLESS_SHELL).await;
    let state = br#"{"cookies":[],"origins":[{"origin":"https://a.example","localStorage":[{"name":"\udc00","value":"\ud800x"}]}]}"#;
    apply(&browser.mux, state).await.unwrap();
    let ours = capture(&browser.mux, &[]).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(state));
    browser.close().await;
}

#[tokio::test]
async fn a_large_state_goes_whole_and_one_that_is_too_large_does_not() {
    let place = Place::new();
    let browser = launch(&place, HEADLESS_SHELL).await;
    let large = |origin: &str, bytes: usize| {
        let records = json!([{ "key": 1, "value": "x".repeat(bytes) }]);
        let store =
            json!({ "name": "s", "autoIncrement": false, "records": records, "indexes": [] });
        let database = json!({ "name": "d", "version": 1, "stores": [store] });
        json!({ "cookies": [], "origins": [{ "origin": origin, "localStorage": [], "indexedDB": [database] }] })
    };
    let state = large("https://a.example", STORAGE_STATE_MAX - 4_096);
    apply(&browser.mux, state.to_string().as_bytes()).await.unwrap();
    assert!(sorted(&capture(&browser.mux, &[]).await.unwrap()) == state);
    let more = large("https://b.a.example", 8_192).to_string();
    apply(&browser.mux, more.as_bytes()).await.unwrap();
    let both = ["a.example:443".to_owned()]; // of one site
    assert!(matches!(capture(&browser.mux, &both).await, Err(StateError::TooLarge)));
    let over = large("https://a.example", STORAGE_STATE_MAX).to_string();
    assert!(matches!(apply(&browser.mux, over.as_bytes()).await, Err(StateError::TooLarge)));
    browser.close().await;
}

#[tokio::test]
async fn nothing_reaches_the_network() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let entry = |scheme: &str, host: &str| {
        let origin = format!("{scheme}://{host}:{port}");
        json!({ "origin": origin, "localStorage": [{ "name": "a", "value": "b" }] })
    };
    let origins =
        [entry("http", "localhost"), entry("http", "127.0.0.1"), entry("https", "localhost")];
    let browser = launch(&place, CHROMIUM).await;
    let account = browser.lend(Way::default());
    apply(&browser.mux, json!({ "origins": origins }).to_string().as_bytes()).await.unwrap();
    let state = capture(&browser.mux, &[]).await.unwrap();
    assert_eq!(sorted(&state)["origins"].as_array().unwrap().len(), 3);
    assert_eq!(account.meter.bytes(), 0, "not even the gateway is asked for anything");
    browser.close().await;
    let came = listener.accept().map(|(_, from)| from);
    assert!(came.is_err(), "a connection from {came:?}");
}

#[tokio::test]
async fn what_the_browser_refuses_is_named() {
    let place = Place::new();
    let browser = launch(&place, HEADLESS_SHELL).await;
    let good = json!({ "name": "a", "value": "hush", "domain": "a.example", "path": "/" });
    let bad = json!({ "name": "__Host-b", "value": "hush", "domain": "a.example", "path": "/b" });
    let store = |records: Value| {
        json!({ "origins": [{ "origin": "https://a.example", "indexedDB": [{ "name": "db", "version": 1, "stores": [
            { "name": "s", "autoIncrement": false, "records": records, "indexes": [] },
        ] }] }] })
    };
    for (state, fault) in [
        (json!({ "cookies": [good, bad] }), "cookies[1] (__Host-b on a.example) is refused"),
        (
            store(json!([{ "key": 1, "value": "hush" }, { "key": 1, "value": "hush" }])),
            "https://a.example fails: IndexedDB db: ",
        ),
        (store(json!([{ "value": "hush" }])), "https://a.example fails: IndexedDB db: "),
        (store(json!([{ "key": 1, "valueEncoded": { "hush": 1 } }])), "in an unknown way"),
    ] {
        let error =
            apply(&browser.mux, state.to_string().as_bytes()).await.unwrap_err().to_string();
        assert!(error.contains(fault), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }
    let expired = json!({ "cookies": [{ "name": "a", "value": "b", "domain": "a.example", "path": "/", "expires": 1 }] });
    apply(&browser.mux, expired.to_string().as_bytes()).await.unwrap();
    browser.close().await;
}

async fn goes_unnoticed(binary: &str) {
    let place = Place::new();
    let browser = launch(&place, binary).await;
    let state = full().to_string().into_bytes();
    apply(&browser.mux, &state).await.unwrap();
    let (mut discovers, mut attaches, mut asks) = (
        Client::connect(&browser.mux).await,
        Client::connect(&browser.mux).await,
        Client::connect(&browser.mux).await,
    );
    discovers.call("Target.setDiscoverTargets", json!({ "discover": true, "filter": [{}] })).await;
    // As Puppeteer does it, and as Playwright: both hold every new page at its start.
    let held = json!({ "autoAttach": true, "waitForDebuggerOnStart": true, "flatten": true });
    let mut tabs = held.clone();
    tabs["filter"] = json!([{ "type": "page", "exclude": true }, {}]);
    attaches.call("Target.setAutoAttach", tabs).await;
    discovers.call("Target.setAutoAttach", held).await;
    for client in [&mut discovers, &mut attaches] {
        // Until here it is told of what is there.
        client.call("Browser.getVersion", json!({})).await;
    }
    asks.call("Fetch.enable", json!({ "patterns": [{ "urlPattern": "*" }] })).await;
    let listed = asks.call("Target.getTargets", json!({ "filter": [{}] })).await;
    let there = listed["targetInfos"].as_array().unwrap().len();
    let mut before = HashSet::new();
    targets_in(&listed, &mut before);
    targets_in(&json!(discovers.heard), &mut before);
    targets_in(&json!(attaches.heard), &mut before);

    let mux = browser.mux.clone();
    let captures = async {
        let twice = join_all([capture(&mux, &[]), capture(&mux, &[])]).await;
        twice.into_iter().map(|state| sorted(&state.unwrap())).collect::<Vec<_>>()
    };
    tokio::pin!(captures);
    let mut lists = 0;
    let states = loop {
        tokio::select! {
            states = &mut captures => break states,
            listed = asks.call("Target.getTargets", json!({ "filter": [{}] })) => {
                assert_eq!(listed["targetInfos"].as_array().unwrap().len(), there);
                // What `json/list` asks.
                mux.command("Target.getTargets", json!({ "filter": [{}] })).await.map(|listed| {
                    assert_eq!(listed["targetInfos"].as_array().unwrap().len(), there);
                }).unwrap();
                lists += 1;
            }
        }
    };
    assert!(lists > 10, "only {lists} lists during both captures");
    assert_eq!(states[0], states[1]);
    assert_eq!(states[0], sorted(&state));

    // A page of a client's own is noticed as ever: one hears of it, the other of its tab.
    asks.call("Target.createTarget", json!({ "url": "about:blank" })).await;
    for client in [&mut discovers, &mut attaches] {
        while client.targets().is_subset(&before) {
            client.next().await;
        }
        client.call("Browser.getVersion", json!({})).await;
    }
    for client in [&discovers, &attaches, &asks] {
        for message in &client.heard {
            let detached = message["method"] == "Target.detachedFromTarget";
            let paused = message["method"] == "Fetch.requestPaused";
            assert!(!detached && !paused && message["error"].is_null(), "{message}");
            // Answers are to what was asked.
            assert!(message["id"].as_u64().is_none_or(|id| id < client.next_id), "{message}");
        }
    }
    let new = |client: &Client| client.targets().difference(&before).count();
    assert_eq!(new(&asks), 1);
    assert!(new(&discovers) <= 2 && new(&attaches) <= 2, "the page, and its tab");
    browser.close().await;
    place.assert_clear();
}

#[tokio::test]
async fn clients_do_not_notice_that_a_state_is_read() {
    goes_unnoticed(CHROMIUM).await;
}

#[tokio::test]
async fn clients_do_not_notice_that_a_state_is_read_by_the_headless_shell() {
    goes_unnoticed(HEADLESS_SHELL).await;
}

#[tokio::test]
async fn pages_that_clients_open_meanwhile_are_theirs() {
    let place = Place::new();
    let browser = launch(&place, HEADLESS_SHELL).await;
    apply(&browser.mux, full().to_string().as_bytes()).await.unwrap();
    let mut client = Client::connect(&browser.mux).await;
    client.call("Target.setDiscoverTargets", json!({ "discover": true })).await;
    let mux = browser.mux.clone();
    let capturing = capture(&mux, &[]);
    tokio::pin!(capturing);
    loop {
        let blank = json!({ "url": "about:blank" });
        tokio::select! {
            state = &mut capturing => {
                state.unwrap();
                break;
            }
            _ = client.call("Target.createTarget", blank) => {}
        }
    }
    client.call("Browser.getVersion", json!({})).await;
    let mut made: Vec<_> =
        client.heard.iter().filter_map(|answer| answer["result"]["targetId"].as_str()).collect();
    let told = client.heard.iter().filter(|message| message["method"] == "Target.targetCreated");
    let told = told.map(|message| message["params"]["targetInfo"]["targetId"].as_str().unwrap());
    let mut told: Vec<_> = told.skip(1).collect(); // the first page
    made.sort_unstable();
    told.sort_unstable();
    assert!(!made.is_empty());
    assert_eq!(told, made);
    browser.close().await;
}

#[tokio::test]
async fn a_browser_that_dies_ends_the_reading() {
    let place = Place::new();
    let browser = launch(&place, HEADLESS_SHELL).await;
    // Far more than it reads in the meantime.
    let origins: Vec<_> = (0..20_000).map(|n| format!("https://{n}.example")).collect();
    let mux = browser.mux.clone();
    let reading = tokio::spawn(async move { capture(&mux, &origins).await });
    let begun = Instant::now();
    // It is under way when a second one has to wait for the page.
    let mut client = Client::connect(&browser.mux).await;
    client.call("Browser.getVersion", json!({})).await;
    browser.close().await;
    let error = soon(reading).await.unwrap().unwrap_err();
    assert!(matches!(error, StateError::Browser(CommandError::Closed)), "{error}");
    assert!(begun.elapsed() < LIMIT / 2);
}
