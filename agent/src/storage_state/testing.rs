//! States and clients, for tests on real browsers.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, handshake::derive_accept_key},
};

use crate::{
    cdp::{Endpoint, Mux},
    sessions::testing::soon,
};

/// All that the shape can hold.
pub fn full() -> Value {
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
pub fn sorted(state: &[u8]) -> Value {
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

/// A client with a socket of its own.
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub next_id: u64,
    pub heard: Vec<Value>,
}

impl Client {
    pub async fn connect(mux: &Arc<Mux>) -> Self {
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

    pub async fn next(&mut self) -> Value {
        loop {
            if let Message::Text(text) = soon(self.socket.next()).await.unwrap().unwrap() {
                let message: Value = serde_json::from_str(&text).unwrap();
                self.heard.push(message.clone());
                return message;
            }
        }
    }

    pub async fn call(&mut self, method: &str, params: Value) -> Value {
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
    pub fn targets(&self) -> HashSet<String> {
        let mut ids = HashSet::new();
        self.heard.iter().for_each(|message| targets_in(message, &mut ids));
        ids
    }
}

/// The ids of the targets that a message names.
pub fn targets_in(value: &Value, ids: &mut HashSet<String>) {
    if let Some(id) = value["targetId"].as_str() {
        ids.insert(id.to_owned());
    }
    match value {
        Value::Array(list) => list.iter().for_each(|value| targets_in(value, ids)),
        Value::Object(map) => map.values().for_each(|value| targets_in(value, ids)),
        _ => {}
    }
}
