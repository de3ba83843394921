//! The agent's own commands, on the pipe's root session, and what Chrome says there.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI32, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::oneshot, time};
use tracing::debug;

use super::{
    client::Client,
    mux::{Mux, locked},
    pipe::{Outgoing, Tail},
    routes::{Key, Routes},
    tail::{TargetEvent, target_event},
    websocket::Frame,
};

/// First number of the agent's own commands: far from those that clients count up from.
const FIRST_ID: i32 = 1 << 30;

/// How long Chrome may take for one of the agent's own commands.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);

/// Why one of the agent's own commands failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Chrome answered with an error.
    #[error("{message} ({code})")]
    Refused {
        /// JSON-RPC's number.
        code: i64,
        /// Chrome's sentence.
        message: String,
    },
    /// Chrome took longer than ten seconds.
    #[error("the browser does not answer")]
    TimedOut,
    /// The browser is gone.
    #[error("the browser is gone")]
    Closed,
}

pub(super) type Answered = oneshot::Sender<Result<Value, CommandError>>;

/// An own command in flight.
pub(super) enum Pending {
    /// Its answer goes to whoever asked.
    Answer(Answered),
    /// Its answer names a session, which belongs to this client from then on.
    Join(Arc<Client>, Answered),
}

/// Own commands in flight, by their number.
pub(super) struct Own {
    pending: Mutex<HashMap<i32, Pending>>,
    next_id: AtomicI32,
}

impl Default for Own {
    fn default() -> Self {
        Self { pending: Mutex::default(), next_id: AtomicI32::new(FIRST_ID) }
    }
}

impl Own {
    /// Lets everyone know who still waits that no answer comes.
    pub fn forget_all(&self) {
        locked(&self.pending).clear();
    }
}

impl Mux {
    /// Carries out one of the agent's own commands, on the browser's root session.
    pub async fn command(&self, method: &str, params: Value) -> Result<Value, CommandError> {
        let (sender, answer) = oneshot::channel();
        self.ask(method, params, Pending::Answer(sender), answer).await
    }

    pub(super) async fn ask(
        &self,
        method: &str,
        params: Value,
        pending: Pending,
        answer: oneshot::Receiver<Result<Value, CommandError>>,
    ) -> Result<Value, CommandError> {
        let id = self.own.next_id.fetch_add(1, Relaxed);
        locked(&self.own.pending).insert(id, pending);
        if self.closed.is_cancelled() {
            locked(&self.own.pending).remove(&id);
            return Err(CommandError::Closed);
        }
        self.tell(id, method, &params);
        match time::timeout(COMMAND_LIMIT, answer).await {
            Ok(answer) => answer.unwrap_or(Err(CommandError::Closed)),
            Err(_) => {
                locked(&self.own.pending).remove(&id);
                Err(CommandError::TimedOut)
            }
        }
    }

    /// Sends a command of the agent's own.
    fn tell(&self, id: i32, method: &str, params: &Value) {
        let body = json!({ "id": id, "method": method, "params": params }).to_string().into();
        self.to_chrome().push(Outgoing { body, tail: Tail::Nul });
        self.to_chrome().flush();
    }

    pub(super) fn detach(&self, key: Key) {
        let id = self.own.next_id.fetch_add(1, Relaxed);
        self.tell(id, "Target.detachFromTarget", &json!({ "sessionId": key.to_string() }));
    }

    /// A message of the root session, which is the agent's own.
    pub(super) fn root_message(&self, routes: &mut Routes, message: &[u8]) -> Option<Arc<Client>> {
        #[derive(Deserialize)]
        struct Answer {
            id: Option<i32>,
            result: Option<Value>,
            error: Option<Fault>,
        }
        #[derive(Deserialize)]
        struct Fault {
            code: i64,
            message: String,
        }
        if let Some(event) = target_event(message) {
            if let TargetEvent::Detached(key) = event
                && let Some(session) = routes.remove(key)
            {
                // The page of a page endpoint is gone: Chrome's last word on such a connection.
                const GONE: &str =
                    r#"{"method":"Inspector.detached","params":{"reason":"target_closed"}}"#;
                session.client.outbox.push(Frame::text(GONE));
                session.client.outbox.close(None, "");
            }
            return None;
        }
        let answer: Answer = serde_json::from_slice(message).ok()?;
        let id = answer.id?;
        let Some(pending) = locked(&self.own.pending).remove(&id) else {
            return self.unnamed_answer(routes, id, answer.error.map(|fault| fault.code));
        };
        let outcome = match (answer.result, answer.error) {
            (Some(result), _) => Ok(result),
            (None, Some(Fault { code, message })) => Err(CommandError::Refused { code, message }),
            (None, None) => Err(CommandError::Closed),
        };
        let sender = match pending {
            Pending::Answer(sender) => sender,
            Pending::Join(client, sender) => {
                if let Ok(result) = &outcome {
                    self.joined(routes, client, result);
                }
                sender
            }
        };
        let _ = sender.send(outcome);
        None
    }

    fn joined(&self, routes: &mut Routes, client: Arc<Client>, result: &Value) {
        let id = result["sessionId"].as_str().unwrap_or_default();
        let Some(key) = Key::read(id.as_bytes()) else { return };
        let clients = locked(&self.clients);
        if clients.connected.iter().any(|other| Arc::ptr_eq(other, &client)) {
            client.set_root(key, id);
            routes.connect(key, client);
        } else {
            // It gave up in the meantime.
            self.detach(key);
        }
    }

    /// Chrome answers a command without naming its session if that ended in the meantime.
    fn unnamed_answer(&self, routes: &Routes, id: i32, code: Option<i64>) -> Option<Arc<Client>> {
        const NO_SUCH_SESSION: i64 = -32001;
        if code != Some(NO_SUCH_SESSION) {
            return None;
        }
        let clients = locked(&self.clients);
        let is_gone = |key| routes.get(key).is_none();
        let owner =
            clients.connected.iter().find(|client| client.sent_to_gone(id, is_gone)).cloned();
        if owner.is_none() {
            debug!(id, "an answer that belongs to no client");
        }
        owner
    }
}
