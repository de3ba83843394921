//! A CDP connection that costs the measuring side as little as it can: over a WebSocket, or over
//! the browser's own pipe, where messages end with NUL.

use std::mem;

use futures_util::{FutureExt, SinkExt, StreamExt};
use harness::chrome::Piped;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpStream, unix::pipe},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, Utf8Bytes, protocol::WebSocketConfig},
};

/// A connection with a page to measure on.
pub struct Link {
    wire: Wire,
    next_id: u64,
    /// The browser's CDP session, where it is not the connection itself.
    browser: Option<String>,
    /// The page's.
    page: Option<String>,
}

enum Wire {
    Socket(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>),
    Pipe {
        commands: pipe::Sender,
        /// Not yet written.
        fed: Vec<u8>,
        answers: Box<BufReader<pipe::Receiver>>,
        /// Of a message whose end has not come.
        begun: Vec<u8>,
    },
}

/// A message as it came.
pub enum Got {
    Text(Utf8Bytes),
    Bytes(Vec<u8>),
}

impl Got {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    /// Only answers begin with an id.
    pub fn is_answer(&self) -> bool {
        self.bytes().starts_with(b"{\"id\":")
    }

    fn answers(&self, id: u64) -> bool {
        self.bytes().starts_with(format!("{{\"id\":{id},").as_bytes())
    }
}

/// What a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Browser,
    Page,
}

impl Link {
    /// Dials a browser.
    pub async fn dial(url: &str) -> Self {
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let dialled = connect_async_with_config(url, Some(config), true).await;
        let (socket, _) = dialled.expect("an upgrade to a WebSocket");
        Self { wire: Wire::Socket(Box::new(socket)), next_id: 1, browser: None, page: None }
    }

    /// Over a browser's pipe.
    pub fn over(piped: &mut Piped) -> Self {
        let (commands, answers) = piped.take_pipe();
        let answers = Box::new(BufReader::with_capacity(128 << 10, answers));
        let wire = Wire::Pipe { commands, fed: Vec::new(), answers, begun: Vec::new() };
        Self { wire, next_id: 1, browser: None, page: None }
    }

    /// Opens a page, which it is then about.
    pub async fn open_page(&mut self) {
        let made =
            self.call(Level::Browser, "Target.createTarget", json!({ "url": "about:blank" }));
        let target = made.await["targetId"].clone();
        let attach = json!({ "targetId": target, "flatten": true });
        let attached = self.call(Level::Browser, "Target.attachToTarget", attach).await;
        self.page = attached["sessionId"].as_str().map(str::to_owned);
    }

    /// Takes a CDP session of its own at the browser, as each client must have where several share it.
    pub async fn keep_apart(&mut self) {
        let attached = self.call(Level::Browser, "Target.attachToBrowserTarget", json!({})).await;
        self.browser = attached["sessionId"].as_str().map(str::to_owned);
    }

    /// A command as it goes over the wire, and its id.
    pub fn command(&mut self, level: Level, method: &str, params: &Value) -> (u64, String) {
        let id = self.next_id;
        self.next_id += 1;
        let mut message = json!({ "id": id, "method": method, "params": params });
        let session = match level {
            Level::Browser => &self.browser,
            Level::Page => &self.page,
        };
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        (id, message.to_string())
    }

    /// Puts a command with those that the next [`flush`](Self::flush) sends.
    pub async fn feed(&mut self, text: String) {
        match &mut self.wire {
            Wire::Socket(socket) => socket.feed(Message::text(text)).await.expect("it is open"),
            Wire::Pipe { fed, .. } => {
                fed.extend_from_slice(text.as_bytes());
                fed.push(0);
            }
        }
    }

    pub async fn flush(&mut self) {
        match &mut self.wire {
            Wire::Socket(socket) => socket.flush().await.expect("it is open"),
            Wire::Pipe { commands, fed, .. } => {
                commands.write_all(fed).await.expect("the browser reads");
                fed.clear();
            }
        }
    }

    /// The next message.
    pub async fn next(&mut self) -> Got {
        match &mut self.wire {
            Wire::Socket(socket) => loop {
                match socket.next().await {
                    Some(Ok(Message::Text(text))) => return Got::Text(text),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => panic!("the connection ended: {other:?}"),
                }
            },
            Wire::Pipe { answers, begun, .. } => {
                answers.read_until(0, begun).await.expect("the browser writes");
                assert_eq!(begun.pop(), Some(0), "the browser closed its pipe");
                Got::Bytes(mem::take(begun))
            }
        }
    }

    /// The next message if it is there already.
    pub fn ready(&mut self) -> Option<Got> {
        // Whichever wire: what was read of a message before it is whole stays where it is.
        self.next().now_or_never()
    }

    /// The answer to a command. Events that come meanwhile are dropped.
    pub async fn answer(&mut self, id: u64) -> Got {
        loop {
            let got = self.next().await;
            if got.answers(id) {
                return got;
            }
        }
    }

    /// Sends a prepared command and waits for its answer.
    pub async fn exchange(&mut self, (id, text): (u64, String)) -> Got {
        self.feed(text).await;
        self.flush().await;
        self.answer(id).await
    }

    /// Sends a command and answers its result.
    pub async fn call(&mut self, level: Level, method: &str, params: Value) -> Value {
        let command = self.command(level, method, &params);
        let got = self.exchange(command).await;
        let mut answer: Value = serde_json::from_slice(got.bytes()).expect("JSON");
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].take()
    }

    /// Opens a page and waits until it has loaded.
    pub async fn navigate(&mut self, url: &str) {
        self.call(Level::Page, "Page.enable", json!({})).await;
        let (id, text) = self.command(Level::Page, "Page.navigate", &json!({ "url": url }));
        self.feed(text).await;
        self.flush().await;
        let (mut answered, mut loaded) = (false, false);
        while !(answered && loaded) {
            let got = self.next().await;
            if got.answers(id) {
                assert!(!contains(got.bytes(), b"errorText"), "{url} was not opened");
                answered = true;
            }
            loaded |= got.bytes().starts_with(b"{\"method\":\"Page.loadEventFired\"");
        }
    }

    /// Ends it.
    pub async fn close(self) {
        if let Wire::Socket(mut socket) = self.wire {
            let _ = socket.close().await;
            while let Some(Ok(_)) = socket.next().await {}
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
