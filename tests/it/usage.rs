//! What a session has used: to the byte what its clients saw go over the wire.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use harness::{PATIENCE, Server, Session, eventually};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

/// A client that counts: messages and bytes of payload, sent and received.
struct Counting {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    sent: (u64, u64),
    received: (u64, u64),
    last_sent: OffsetDateTime,
}

impl Counting {
    async fn connect(url: &str) -> Self {
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let (socket, _) = connect_async_with_config(url, Some(config), true).await.unwrap();
        Self { socket, sent: (0, 0), received: (0, 0), last_sent: OffsetDateTime::now_utc() }
    }

    async fn send(&mut self, text: String) {
        self.sent = (self.sent.0 + 1, self.sent.1 + text.len() as u64);
        self.last_sent = OffsetDateTime::now_utc();
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next message; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("a message in time") {
                Some(Ok(Message::Text(text))) => {
                    self.received = (self.received.0 + 1, self.received.1 + text.len() as u64);
                    return Some(serde_json::from_str(&text).unwrap());
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    async fn call(&mut self, id: u64, text: String) {
        self.send(text).await;
        while self.next().await.expect("an answer")["id"] != id {}
    }

    /// Does what clients do, and some of what they should not.
    async fn work(&mut self) {
        let command = |id: u64, method: &str, params: Value| {
            json!({ "id": id, "method": method, "params": params }).to_string()
        };
        self.call(1, command(1, "Target.setDiscoverTargets", json!({ "discover": true }))).await;
        self.call(2, command(2, "Target.createTarget", json!({ "url": "about:blank" }))).await;
        // answered by the server itself
        self.send("no JSON".to_owned()).await;
        while self.next().await.expect("a refusal")["error"].is_null() {}
        let nowhere = json!({ "id": 3, "method": "Page.enable", "sessionId": "0".repeat(32) });
        self.call(3, nowhere.to_string()).await;
        // large, with a character that goes to the browser in another form, and many at once
        let large = format!("ü\0{}", "x".repeat(3 << 20));
        let raw = command(4, "Browser.getVersion", json!({ "x": large })).replace("\\u0000", "\0");
        self.call(4, raw).await;
        for id in 5..505 {
            self.send(command(id, "Browser.getVersion", json!({}))).await;
        }
        while self.next().await.expect("an answer")["id"] != 504 {}
    }

    /// Takes what still comes.
    async fn drain(&mut self) {
        while self.next().await.is_some() {}
    }
}

/// Messages, bytes in and bytes out.
fn used(session: &Session) -> [u64; 3] {
    ["cdp_messages", "bytes_in", "bytes_out"]
        .map(|figure| session.0["usage"][figure].as_u64().expect("a figure"))
}

fn counted(clients: &[Counting]) -> [u64; 3] {
    let sum = |of: fn(&Counting) -> u64| clients.iter().map(of).sum();
    [sum(|c| c.sent.0 + c.received.0), sum(|c| c.sent.1), sum(|c| c.received.1)]
}

fn assert_last_seen(session: &Session, clients: &[Counting]) {
    let seen = session.0["last_seen_at"].as_str().expect("a time");
    let seen = OffsetDateTime::parse(seen, &Rfc3339).unwrap();
    let last = clients.iter().map(|client| client.last_sent).max().unwrap();
    let apart = (seen - last).abs();
    assert!(apart < Duration::from_secs(1), "{apart} apart");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_are_those_of_the_clients() {
    let server = Server::up().capacity(2, 0).start().await;
    let session = server.api.create(json!({})).await;
    let url = session.connect_url();
    let mut clients = [Counting::connect(url).await, Counting::connect(url).await];
    let [one, two] = &mut clients;
    tokio::join!(one.work(), two.work());
    eventually("clients are seen while they are there", PATIENCE, || async {
        (used(&server.api.session(session.id()).await)[0] >= 1_000).then_some(())
    })
    .await;
    server.api.release(session.id()).await;
    let [one, two] = &mut clients;
    tokio::join!(one.drain(), two.drain());
    // What is told after the end still counts.
    let over = eventually("the totals are there", PATIENCE, || async {
        let session = server.api.session(session.id()).await;
        (used(&session) == counted(&clients)).then_some(session)
    })
    .await;
    assert_last_seen(&over, &clients);
    // A session that nobody used has used nothing.
    let idle = server.api.create(json!({})).await;
    server.api.release(idle.id()).await;
    let idle = server.api.session(idle.id()).await;
    assert_eq!(used(&idle), [0; 3]);
    assert!(idle.0["last_seen_at"].is_null());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_totals_are_there_when_an_agent_tells_of_the_end() {
    let server = Server::up().capacity(1, 0).start().await;
    let session = server.api.create(json!({})).await;
    let mut client = Counting::connect(session.connect_url()).await;
    client.work().await;
    client.send(json!({ "id": 999, "method": "Browser.close" }).to_string()).await;
    client.drain().await;
    let over = server.api.wait_for(session.id(), "COMPLETED", PATIENCE).await;
    assert_eq!(over.reason(), "closed_by_client");
    let clients = [client];
    assert_eq!(used(&over), counted(&clients));
    assert_last_seen(&over, &clients);
    server.stop().await;
}
