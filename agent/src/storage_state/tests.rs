//! On real browsers, with clients that look closely.

use std::{
    collections::HashSet,
    net::TcpListener,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, future::join_all};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, handshake::derive_accept_key},
};

use super::*;
use crate::{
    browser::{
        Browser, LaunchOptions,
        testing::{CHROMIUM, HEADLESS_SHELL, Place},
    },
    cdp::Endpoint,
    sessions::testing::soon,
};

async fn launch(place: &Place, binary: &str) -> Browser {
    place.launcher(binary).await.launch(&LaunchOptions::default()).await.unwrap()
}

/// All that the shape can hold.
fn full() -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let tomorrow = now.as_secs() + 86_400; // Chrome cuts off what is beyond 400 days
    let code = |value: Value| json!({ "valueEncoded": value });
    json!({
        "cookies": [
            { "name": "plain", "value": "a b", "domain": "a.example", "path": "/", "expires": -1, "httpOnly": false, "secure": false, "sameSite": "Lax" },
            { "name": "sid", "value": "1", "domain": ".a.example", "path": "/in", "expires": tomorrow, "httpOnly": true, "secure": true, "sameSite": "Strict" },
            { "name": "part", "value": "2", "domain": "b.example", "path": "/", "expires": -1, "httpOnly": false, "secure": true, "sameSite": "None", "partitionKey": "https://a.example", "_crHasCrossSiteAncestor": true },
        ],
        "origins": [
            {
                "origin": "http://localhost:4711",
                "localStorage": [{ "name": "__proto__", "value": "p" }, { "name": "getItem", "value": "g" }],
            },
            {
                "origin": "https://a.example",
                "localStorage": [{ "name": "odd", "value": "\0 '\"\\ \u{2028} 😀" }],
                "indexedDB": [
                    { "name": "empty", "version": 3, "stores": [] },
                    { "name": "things", "version": 7, "stores": [
                        {
                            "name": "in-line", "autoIncrement": true, "keyPath": "id",
                            "records": [
                                { "value": { "id": 1, "tags": ["x", "y"], "nested": { "deep": [null, true, 1.5] } } },
                                code(json!({ "o": [{ "k": "id", "v": 2 }, { "k": "at", "v": { "d": "2026-11-22T10:00:00.000Z" } }], "id": 1 })),
                            ],
                            "indexes": [
                                { "name": "by tag", "keyPath": "tags", "multiEntry": true, "unique": false },
                                { "name": "by two", "keyPathArray": ["id", "tags"], "multiEntry": false, "unique": true },
                            ],
                        },
                        {
                            "name": "many", "autoIncrement": false, "keyPathArray": ["a", "b.c"],
                            "records": [{ "value": { "a": 1, "b": { "c": "x" } } }], "indexes": [],
                        },
                        {
                            "name": "out-of-line", "autoIncrement": false, "indexes": [],
                            "records": [
                                { "keyEncoded": { "v": "-Infinity" }, "value": "first" },
                                { "key": 1, "valueEncoded": { "ta": { "b": "AQID", "k": "ui8" } } },
                                { "key": 2, "valueEncoded": { "ta": { "b": "AAAAAAAA8D8=", "k": "f64" } } },
                                { "key": 3, "valueEncoded": { "bi": "-12345678901234567890" } },
                                { "key": 4, "valueEncoded": { "r": { "p": "a+\\/", "f": "gi" } } },
                                { "key": 5, "valueEncoded": { "m": [{ "k": { "v": "NaN" }, "v": { "s": [1, { "v": "undefined" }], "id": 2 } }], "id": 1 } },
                                { "key": 6, "valueEncoded": { "o": [{ "k": "me", "v": { "ref": 1 } }], "id": 1 } },
                                { "key": 7, "valueEncoded": { "a": [{ "v": "-0" }, { "v": "null" }, { "ab": { "b": "/w==" } }], "id": 1 } },
                                { "keyEncoded": { "d": "2026-11-22T10:00:00.000Z" }, "value": false },
                                { "key": "text", "value": [] },
                                { "keyEncoded": { "ab": { "b": "AAE=" } }, "value": null },
                                { "key": ["list", 1], "value": {} },
                            ],
                        },
                    ] },
                ],
            },
        ],
    })
}

/// In an order of its own, to be compared.
fn sorted(state: &[u8]) -> Value {
    let mut state: Value = serde_json::from_slice(state).unwrap();
    let by = |list: &mut Value, key: &str| {
        let list = list.as_array_mut().unwrap();
        list.sort_by_key(|item| item[key].to_string());
    };
    by(&mut state["cookies"], "name");
    by(&mut state["origins"], "origin");
    for origin in state["origins"].as_array_mut().unwrap() {
        by(&mut origin["localStorage"], "name");
    }
    for cookie in state["cookies"].as_array_mut().unwrap() {
        cookie["expires"] = cookie["expires"].as_f64().unwrap().into();
    }
    state
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
    apply(&browser.mux, json!({ "origins": origins }).to_string().as_bytes()).await.unwrap();
    let state = capture(&browser.mux, &[]).await.unwrap();
    assert_eq!(sorted(&state)["origins"].as_array().unwrap().len(), 3);
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

/// A client with a socket of its own.
struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_id: u64,
    heard: Vec<Value>,
}

impl Client {
    async fn connect(mux: &Arc<Mux>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let mux = mux.clone();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let key = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("sec-websocket-key").then_some(value)
            });
            let accept = derive_accept_key(key.unwrap().as_bytes());
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            let seat = mux.join(&Endpoint::Browser).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            seat.serve(stream, Bytes::new()).await;
        });
        let (socket, _) = connect_async(url).await.unwrap();
        Self { socket, next_id: 1, heard: Vec::new() }
    }

    async fn send(&mut self, method: &str, params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let command = json!({ "id": id, "method": method, "params": params });
        self.socket.send(Message::text(command.to_string())).await.unwrap();
        id
    }

    async fn next(&mut self) -> Value {
        loop {
            if let Message::Text(text) = soon(self.socket.next()).await.unwrap().unwrap() {
                let message: Value = serde_json::from_str(&text).unwrap();
                self.heard.push(message.clone());
                return message;
            }
        }
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params).await;
        loop {
            let message = self.next().await;
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    /// Every target that it was told of.
    fn targets(&self) -> HashSet<String> {
        let mut ids = HashSet::new();
        self.heard.iter().for_each(|message| targets_in(message, &mut ids));
        ids
    }
}

fn targets_in(value: &Value, ids: &mut HashSet<String>) {
    if let Some(id) = value["targetId"].as_str() {
        ids.insert(id.to_owned());
    }
    match value {
        Value::Array(list) => list.iter().for_each(|value| targets_in(value, ids)),
        Value::Object(map) => map.values().for_each(|value| targets_in(value, ids)),
        _ => {}
    }
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
            assert!(!detached && message["error"].is_null(), "{message}");
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
    let origins: Vec<_> = (0..200).map(|n| format!("https://{n}.example")).collect();
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
