//! The agent's own commands, on the pipe's root session or on a page of its own, and what
//! Chrome says there.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI32, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time,
};
use tracing::{debug, info};

use super::{
    client::Client,
    hidden::TargetNews,
    mux::{Mux, locked},
    pipe::{Outgoing, Tail},
    routes::{Key, Routes},
    tail::{TargetEvent, answered_id, target_event},
    websocket::Frame,
};

/// First number of the agent's own commands: far from those that clients count up from.
const FIRST_ID: i32 = 1 << 30;

/// How long Chrome may take for a command on the root session.
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
    /// Chrome took longer than it may.
    #[error("the browser does not answer")]
    TimedOut,
    /// The browser, or the agent's page in it, is gone.
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
    /// With its answer Chrome comes to the command that makes the agent's page.
    Hold,
    /// Its answer names the agent's page.
    Page(OwnedSemaphorePermit, Answered),
    /// With its answer nothing of the agent's page can follow.
    Forget,
    /// Its answer tells which contexts there are.
    Contexts,
}

/// Own commands in flight, by their session (none: the root session) and their number.
pub(super) struct Own {
    pending: Mutex<HashMap<(Option<Key>, i32), Pending>>,
    next_id: AtomicI32,
    /// Room for one page of the agent's own.
    pub page: Arc<Semaphore>,
}

impl Default for Own {
    fn default() -> Self {
        Self {
            pending: Mutex::default(),
            next_id: AtomicI32::new(FIRST_ID),
            page: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Own {
    /// Lets everyone know who still waits that no answer comes.
    pub fn forget_all(&self) {
        locked(&self.pending).clear();
    }

    /// The same for those who wait for one session.
    fn forget(&self, session: Key) {
        locked(&self.pending).retain(|(of, _), _| *of != Some(session));
    }
}

/// An answer of Chrome's to one of the agent's own commands.
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

impl Answer {
    fn outcome(self) -> Result<Value, CommandError> {
        match (self.result, self.error) {
            (Some(result), _) => Ok(result),
            (None, Some(Fault { code, message })) => Err(CommandError::Refused { code, message }),
            (None, None) => Err(CommandError::Closed),
        }
    }
}

impl Mux {
    /// Carries out one of the agent's own commands, on the browser's root session.
    pub async fn command(&self, method: &str, params: Value) -> Result<Value, CommandError> {
        let (sender, answer) = oneshot::channel();
        let pending = Pending::Answer(sender);
        self.ask(None, method, &params, COMMAND_LIMIT, pending, answer).await
    }

    pub(super) async fn join_by(
        &self,
        method: &str,
        params: &Value,
        client: Arc<Client>,
    ) -> Result<Value, CommandError> {
        let (sender, answer) = oneshot::channel();
        self.ask(None, method, params, COMMAND_LIMIT, Pending::Join(client, sender), answer).await
    }

    /// Sends a command, and waits for what its `pending` brings.
    pub(super) async fn ask(
        &self,
        session: Option<Key>,
        method: &str,
        params: &Value,
        limit: Duration,
        pending: Pending,
        answer: oneshot::Receiver<Result<Value, CommandError>>,
    ) -> Result<Value, CommandError> {
        let id = self.post(session, method, params, pending);
        match time::timeout(limit, answer).await {
            Ok(answer) => answer.unwrap_or(Err(CommandError::Closed)),
            Err(_) => {
                locked(&self.own.pending).remove(&(session, id));
                Err(CommandError::TimedOut)
            }
        }
    }

    /// Sends a command. If no answer can come any more, `pending` is dropped.
    pub(super) fn post(
        &self,
        session: Option<Key>,
        method: &str,
        params: &Value,
        pending: Pending,
    ) -> i32 {
        let id = self.own.next_id.fetch_add(1, Relaxed);
        locked(&self.own.pending).insert((session, id), pending);
        if self.closed.is_cancelled() {
            locked(&self.own.pending).remove(&(session, id));
        } else {
            self.tell(session, id, method, params);
        }
        id
    }

    /// Sends a command whose answer is of no interest, and says its number.
    pub(super) fn tell_only(&self, session: Option<Key>, method: &str, params: &Value) -> i32 {
        let id = self.own.next_id.fetch_add(1, Relaxed);
        self.tell(session, id, method, params);
        id
    }

    fn tell(&self, session: Option<Key>, id: i32, method: &str, params: &Value) {
        let mut text = json!({ "id": id, "method": method, "params": params }).to_string();
        let tail = session.map_or(Tail::Nul, |session| {
            text.pop(); // the tail brings the brace
            Tail::session(&session.to_string())
        });
        let command = Outgoing { body: text.into(), tail };
        if command.fits() {
            self.to_chrome().push(command);
            self.to_chrome().flush();
        } else {
            // Dropping what waits for it is the answer.
            locked(&self.own.pending).remove(&(session, id));
        }
    }

    pub(super) fn detach(&self, key: Key) {
        self.tell_only(None, "Target.detachFromTarget", &json!({ "sessionId": key.to_string() }));
    }

    /// Contexts may be gone, and their proxies with them: Chrome does not tell.
    pub(super) fn ask_for_contexts(&self, routes: &Routes) {
        if routes.contexts.any() {
            self.post(None, "Target.getBrowserContexts", &json!({}), Pending::Contexts);
        }
    }

    /// Closes a page.
    pub(super) fn close_target(&self, target: &str) {
        self.tell_only(None, "Target.closeTarget", &json!({ "targetId": target }));
    }

    /// Ends a session that a client has got without asking for it and is not to have.
    /// Chrome does not wait for it any more, then.
    pub(super) fn dismiss(&self, routes: &mut Routes, parent: Key, child: Key) {
        let params = json!({ "sessionId": child.to_string() });
        let id = self.tell_only(Some(parent), "Target.detachFromTarget", &params);
        routes.hidden.dismissed(parent, child, id);
    }

    /// A message of the root session, which is the agent's own.
    pub(super) fn root_message(&self, routes: &mut Routes, message: &[u8]) -> Option<Arc<Client>> {
        if locked(&self.downloads).hear(message) {
            return None;
        }
        if let Some(event) = target_event(message) {
            if let TargetEvent::Detached(key) = event {
                self.detached(routes, key);
            }
            return None;
        }
        if let Some(news) = TargetNews::read(message) {
            self.heard(routes, &news);
            return None;
        }
        let answer: Answer = serde_json::from_slice(message).ok()?;
        let id = answer.id?;
        let Some(pending) = locked(&self.own.pending).remove(&(None, id)) else {
            return self.unnamed_answer(routes, id, answer.error.map(|fault| fault.code));
        };
        self.answered(routes, pending, answer.outcome());
        None
    }

    fn answered(
        &self,
        routes: &mut Routes,
        pending: Pending,
        mut outcome: Result<Value, CommandError>,
    ) {
        let sender = match pending {
            Pending::Answer(sender) => {
                if let Ok(result) = &mut outcome {
                    routes.hidden.leave_out(result);
                }
                sender
            }
            Pending::Join(client, sender) => {
                if let Ok(result) = &outcome {
                    self.joined(routes, client, result);
                }
                sender
            }
            Pending::Hold => return routes.hidden.hold_from_now(),
            Pending::Forget => return routes.hidden.forget(),
            Pending::Contexts => {
                if let Ok(result) = &outcome {
                    routes.contexts.there_are(result);
                }
                return;
            }
            Pending::Page(permit, sender) => {
                let target = outcome.as_ref().ok().and_then(|result| result["targetId"].as_str());
                let Some(target) = target.map(str::to_owned) else {
                    routes.hidden.not_made();
                    let _ = sender.send(outcome);
                    return;
                };
                routes.hidden.made(&target, permit);
                if sender.send(outcome).is_err() {
                    self.close_target(&target); // no one wants it any more
                }
                return;
            }
        };
        let _ = sender.send(outcome);
    }

    /// A session of the root's is gone: a page endpoint's, or the one on the agent's page.
    fn detached(&self, routes: &mut Routes, key: Key) {
        // Chrome's last word on the connection of a page endpoint.
        const GONE: &str = r#"{"method":"Inspector.detached","params":{"reason":"target_closed"}}"#;
        if routes.hidden.is_session(key) {
            routes.hidden.detached();
            self.own.forget(key);
        } else if let Some(session) = routes.remove(key) {
            session.client.outbox.push(Frame::text(GONE));
            session.client.outbox.close(None, "");
        }
    }

    /// Keeps in mind where pages are, closes those that are not of the web, and notices when
    /// the agent's own is gone.
    fn heard(&self, routes: &mut Routes, news: &TargetNews) {
        let hidden = &mut routes.hidden;
        if news.method == "Target.targetDestroyed" && hidden.destroyed(news.target()) {
            self.post(None, "Browser.getVersion", &json!({}), Pending::Forget);
        } else if !hidden.hides(news.target()) {
            routes.visited.note(news.url());
            if routes.barred.heard(news) {
                info!(scheme = news.scheme(), "a page that is not of the web was closed");
                self.close_target(news.target());
            }
        }
    }

    /// A message of a session that belongs to no client: of the agent's own page, or its
    /// client has left.
    pub(super) fn page_message(&self, routes: &mut Routes, key: Key, message: &[u8]) {
        if !routes.hidden.is_session(key) {
            return;
        }
        let Some(id) = answered_id(message) else {
            if message.starts_with(b"{\"method\":\"Inspector.targetCrashed\"") {
                self.detached(routes, key);
            } else {
                routes.hidden.said(Bytes::copy_from_slice(message));
            }
            return;
        };
        let pending = locked(&self.own.pending).remove(&(Some(key), id));
        if let Some(pending) = pending
            && let Ok(answer) = serde_json::from_slice::<Answer>(message)
        {
            self.answered(routes, pending, answer.outcome());
        }
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
