//! As much of a CDP client as a first session needs.

use std::collections::VecDeque;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};

/// Largest message that is taken: a screenshot is one.
const MESSAGE_BYTES: usize = 64 << 20;

/// A connection to a browser.
pub struct Cdp {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last_id: i64,
    events: VecDeque<Value>,
}

impl Cdp {
    /// Connects, and hears the browser itself answer.
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES))
            .max_frame_size(Some(MESSAGE_BYTES));
        let (socket, _) =
            connect_async_with_config(url, Some(config), true).await.map_err(refused)?;
        let mut cdp = Self { socket, last_id: 0, events: VecDeque::new() };
        cdp.command(None, "Browser.getVersion", json!({})).await?;
        Ok(cdp)
    }

    /// Sends a command, to the browser or to one of its sessions, and waits for the answer.
    pub async fn command(
        &mut self,
        session: Option<&str>,
        method: &str,
        params: Value,
    ) -> anyhow::Result<Value> {
        self.last_id += 1;
        let id = self.last_id;
        let mut command = json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        self.socket.send(Message::text(command.to_string())).await?;
        loop {
            let mut message = self.next().await?;
            if message["id"] != id {
                self.events.push_back(message);
                continue;
            }
            if let Some(error) = message["error"]["message"].as_str() {
                bail!("{method}: {error}");
            }
            return Ok(message["result"].take());
        }
    }

    /// Waits for an event of a session, which may have come already.
    pub async fn event(&mut self, session: &str, method: &str) -> anyhow::Result<()> {
        loop {
            let event = match self.events.pop_front() {
                Some(event) => event,
                None => self.next().await?,
            };
            if event["method"] == method && event["sessionId"] == session {
                return Ok(());
            }
        }
    }

    /// Says good-bye. The session's release follows, so nobody waits for an answer.
    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
    }

    async fn next(&mut self) -> anyhow::Result<Value> {
        loop {
            match self.socket.next().await.context("the connection ended")?? {
                Message::Text(text) => return Ok(serde_json::from_str(&text)?),
                Message::Close(Some(close)) => bail!("the server closed: {}", close.reason),
                _ => (),
            }
        }
    }
}

/// An upgrade that was refused, in the words of the server's problem document.
fn refused(error: tungstenite::Error) -> anyhow::Error {
    let tungstenite::Error::Http(answer) = error else { return error.into() };
    let body = answer.body().as_deref().unwrap_or_default();
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or_default();
    anyhow::anyhow!("refused ({}): {detail}", answer.status())
}
