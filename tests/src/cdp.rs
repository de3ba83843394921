//! A small CDP client over a WebSocket, for what a test does itself.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Error, Message, protocol::WebSocketConfig},
};

use crate::PATIENCE;

/// A connection.
pub struct Cdp {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_id: u64,
}

/// How a connection ended: close code (1006 when there was no close frame) and reason.
pub type Closed = (u16, String);

impl Cdp {
    /// Connects to a browser or a page.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub async fn connect(url: &str) -> Self {
        let connected = timeout(PATIENCE, Self::dial(url)).await.expect("an answer to the upgrade");
        connected.expect("an upgrade to a WebSocket")
    }

    /// Connects if it can: else the status of the refusal, or 0 when there was no answer.
    ///
    /// # Errors
    ///
    /// When it cannot.
    pub async fn try_connect(url: &str) -> Result<Self, u16> {
        match timeout(PATIENCE, Self::dial(url)).await {
            Ok(Ok(connected)) => Ok(connected),
            Ok(Err(Error::Http(refused))) => Err(refused.status().as_u16()),
            Ok(Err(_)) | Err(_) => Err(0),
        }
    }

    async fn dial(url: &str) -> Result<Self, Error> {
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let (socket, _) = connect_async_with_config(url, Some(config), true).await?;
        Ok(Self { socket, next_id: 1 })
    }

    /// Sends a text as it is.
    ///
    /// # Panics
    ///
    /// When the connection has ended.
    pub async fn send(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.expect("an open connection");
    }

    /// Sends a text that may end the connection, and answers how it ended.
    pub async fn send_and_end(&mut self, text: String) -> Closed {
        let _ = self.socket.send(Message::text(text)).await;
        self.closed(PATIENCE).await
    }

    /// The next text. `Err` with how the connection ended.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub async fn next(&mut self) -> Result<String, Closed> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Err((frame.code.into(), frame.reason.as_str().to_owned()));
                }
                Some(Ok(Message::Close(None))) => return Err((1005, String::new())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err((1006, String::new())),
            }
        }
    }

    /// A command as it goes over the wire, and its id.
    pub fn command(&mut self, session: Option<&str>, method: &str, params: Value) -> (u64, String) {
        let id = self.next_id;
        self.next_id += 1;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        (id, message.to_string())
    }

    /// The answer to a command as it came. Other messages that come meanwhile are dropped.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub async fn answer(&mut self, id: u64) -> String {
        // Only answers begin with an id: the events of a busy page need no parsing.
        let begin = format!("{{\"id\":{id},");
        let answer = async {
            loop {
                let text = self.next().await.unwrap_or_else(|end| panic!("command {id}: {end:?}"));
                if text.starts_with(&begin) {
                    return text;
                }
            }
        };
        let answer = timeout(Duration::from_secs(60), answer).await;
        answer.unwrap_or_else(|_| panic!("no answer to command {id}"))
    }

    /// Sends a command and answers its result.
    ///
    /// # Panics
    ///
    /// When it fails, or nothing comes.
    pub async fn call(&mut self, session: Option<&str>, method: &str, params: Value) -> Value {
        let (id, text) = self.command(session, method, params);
        self.send(text).await;
        let answer = self.answer(id).await;
        let mut answer: Value = serde_json::from_str(&answer).expect("JSON from the browser");
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].take()
    }

    /// The same for a command that the end of the connection may overtake.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    ///
    /// # Panics
    ///
    /// When it has not, and nothing comes.
    pub async fn try_call(&mut self, method: &str, params: Value) -> Result<(), Closed> {
        let (id, text) = self.command(None, method, params);
        // If it cannot be sent, how the connection ended is still to be read.
        let _ = self.socket.send(Message::text(text)).await;
        let begin = format!("{{\"id\":{id},");
        let answer = async {
            while !self.next().await?.starts_with(&begin) {}
            Ok(())
        };
        let answer = timeout(Duration::from_secs(60), answer).await;
        answer.unwrap_or_else(|_| panic!("no answer to {method}"))
    }

    /// Opens a page and attaches to it; answers target and session.
    pub async fn page(&mut self, url: &str) -> (String, String) {
        let made = self.call(None, "Target.createTarget", json!({ "url": url })).await;
        let target = made["targetId"].as_str().expect("a target").to_owned();
        let attach = json!({ "targetId": target, "flatten": true });
        let attached = self.call(None, "Target.attachToTarget", attach).await;
        (target, attached["sessionId"].as_str().expect("a session").to_owned())
    }

    /// Waits until a page has this title, through navigations, for at most [`PATIENCE`].
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn until_titled(&mut self, session: &str, title: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let params = json!({ "expression": "document.title" });
            let (id, text) = self.command(Some(session), "Runtime.evaluate", params);
            self.send(text).await;
            // Between two documents there is none to ask, which is an error.
            let answer: Value = serde_json::from_str(&self.answer(id).await).expect("JSON");
            let now = &answer["result"]["result"]["value"];
            if now == title {
                return;
            }
            assert!(Instant::now() < end, "the title is {now}, not {title}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Evaluates an expression, awaiting a promise, and answers the value.
    pub async fn evaluate(&mut self, session: Option<&str>, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call(session, "Runtime.evaluate", params).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Waits until the other side ends the connection.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn closed(&mut self, within: Duration) -> Closed {
        let end = async {
            loop {
                if let Err(end) = self.next().await {
                    return end;
                }
            }
        };
        timeout(within, end).await.unwrap_or_else(|_| panic!("still open after {within:?}"))
    }

    /// Closes the connection.
    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
        let _ = timeout(PATIENCE, async { while self.next().await.is_ok() {} }).await;
    }
}
