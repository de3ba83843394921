//! One browser's CDP, shared by many clients over its single pipe.
//!
//! ```text
//!  client ─▶ Frames ─▶ scan ─▶ ToChrome ══▶ pipe ══▶ Chrome
//!  client ◀─ Outbox ◀─ strip ◀─ Routes ◀══ pipe ◀══
//! ```
//!
//! Every client has a browser-level CDP session of its own (`Target.attachToBrowserTarget`)
//! which is its connection: the session's id is added to what it sends and taken off what
//! it gets, both at the tail of the message. Ids of commands are scoped by session, so they
//! pass unchanged. The pipe's own root session is the agent's.
//!
//! Kept true: the pipe is always drained, whatever clients do; a message goes to the owner
//! of its session and to nobody else; what is in flight goes out before a close.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use bytes::BytesMut;
use memchr::memchr;
use proto::{id::SessionId, session::EndReason};
use serde_json::json;
use tokio::{io::AsyncReadExt, net::unix::pipe, sync::watch};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::sync::CancellationToken;

use super::{
    backlog::Backlogs,
    barred,
    client::{Client, Seat},
    downloads::Downloads,
    first::First,
    guard::{Guard, Judged, Refusal},
    hidden::{Hidden, TargetNews, Verdict},
    inflow::Inflow,
    own::{CommandError, Own},
    pipe::ToChrome,
    routes::{Address, Key, Routes, Special},
    scan::Command,
    slack::Slack,
    tail::{TargetEvent, answered_id, session_at_tail, strip_session, target_event},
    usage::{Counters, Usage},
    websocket::Frame,
};
use crate::crowd::Crowd;

/// Most clients on one browser.
pub const CLIENTS_MAX: usize = 16;

/// Free space that is kept ready for the pipe, in bytes; it holds up to 1 MiB.
const READ_CHUNK: usize = 64 << 10;

/// What a client talks to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The browser.
    Browser,
    /// One target, by its id.
    Page(String),
}

/// Why a client gets no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The session is over.
    #[error("the session is over: {0}")]
    Over(EndReason),
    /// The browser has all the clients that it may have.
    #[error("{CLIENTS_MAX} clients are connected already")]
    Full,
    /// No such page.
    #[error("no such target id: {0}")]
    NoTarget(String),
    /// The browser does not answer.
    #[error("the browser does not answer")]
    Unanswered,
}

#[derive(Default)]
pub(super) struct Clients {
    pub connected: Vec<Arc<Client>>,
    ended: Option<EndReason>,
}

/// The multiplexer of one browser.
pub struct Mux {
    to_chrome: ToChrome,
    routes: Mutex<Routes>,
    pub(super) own: Own,
    pub(super) clients: Mutex<Clients>,
    count: watch::Sender<usize>,
    pub(super) closed: CancellationToken,
    closed_by_client: AtomicBool,
    counters: Arc<Counters>,
    guard: Guard,
    pub(super) downloads: Mutex<Downloads>,
    backlogs: Backlogs,
    pub(super) inflow: Inflow,
    pub(super) first: First,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether an event tells of a target that is none for clients.
fn is_barred(event: &[u8]) -> bool {
    TargetNews::read(event).is_some_and(|news| barred::is_barred(news.kind(), news.url()))
}

impl Mux {
    /// Takes over both ends of a browser's pipe. The tasks that serve it end with it. The
    /// guard judges what clients send; what waits for them counts among what waits for all
    /// clients of the agent.
    pub fn start(
        from_chrome: pipe::Receiver,
        to_chrome: pipe::Sender,
        guard: Guard,
        backlogs: Backlogs,
    ) -> Arc<Self> {
        let mux = Arc::new(Self {
            to_chrome: ToChrome::new(to_chrome),
            routes: Mutex::default(),
            own: Own::default(),
            clients: Mutex::default(),
            count: watch::Sender::new(0),
            closed: CancellationToken::new(),
            closed_by_client: AtomicBool::new(false),
            counters: Arc::default(),
            guard,
            downloads: Mutex::default(),
            backlogs,
            inflow: Inflow::default(),
            first: First::default(),
        });
        tokio::spawn(mux.clone().serve(from_chrome));
        mux
    }

    async fn serve(self: Arc<Self>, mut from_chrome: pipe::Receiver) {
        {
            let mut reading = pin!(self.read(&mut from_chrome));
            tokio::select! {
                () = &mut reading => {}
                // A pipe that takes nothing more has no reader: what Chrome still said follows.
                () = self.to_chrome.run() => reading.await,
            }
        }
        self.closed.cancel();
        self.own.forget_all();
        self.routes().hidden = Hidden::default();
    }

    /// Waits until the browser is gone and its last words are on their way to the clients.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// How many clients are connected.
    pub fn clients(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Whether a client closed the browser by `Browser.close`.
    pub fn closed_by_client(&self) -> bool {
        self.closed_by_client.load(Relaxed)
    }

    /// What its clients have used so far.
    pub fn usage(&self) -> Usage {
        self.counters.usage()
    }

    /// Remembers origins as if pages had been there.
    pub(crate) fn keep_visited(&self, origins: Vec<String>) {
        self.routes().visited.keep(origins);
    }

    /// Origins that its pages have been at; only the latest if they were many.
    pub(crate) fn visited(&self) -> Vec<String> {
        self.routes().visited.all()
    }

    /// Closes every client, after what is in flight, with 1001 and the reason's code.
    /// Clients that come later get no place.
    pub fn end(&self, reason: EndReason) {
        let connected = {
            let mut clients = locked(&self.clients);
            clients.ended.get_or_insert(reason);
            clients.connected.clone()
        };
        for client in connected {
            client.outbox.close(Some(CloseCode::Away), reason.as_str());
        }
    }

    /// Waits until no client is left.
    pub async fn drained(&self) {
        // The sender lives as long as `self`, so this ends only when the count is 0.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    /// From now on the browser is this session's, whose spans continue a `traceparent`.
    pub fn belongs_to(&self, session: SessionId, traceparent: &str) {
        self.first.begin(session, traceparent);
    }

    /// Gives a client its place: a session of its own on the browser or on one target.
    pub async fn join(self: &Arc<Self>, endpoint: &Endpoint) -> Result<Seat, JoinError> {
        self.first.client(self.seat(endpoint)).await
    }

    async fn seat(self: &Arc<Self>, endpoint: &Endpoint) -> Result<Seat, JoinError> {
        let client = Client::new(self.counters.clone(), &self.backlogs);
        {
            let mut clients = locked(&self.clients);
            if let Some(reason) = clients.ended {
                return Err(JoinError::Over(reason));
            }
            if clients.connected.len() >= CLIENTS_MAX {
                return Err(JoinError::Full);
            }
            clients.connected.push(client.clone());
            self.count.send_replace(clients.connected.len());
        }
        // From here on, dropping the seat undoes it all.
        let seat = Seat::new(self.clone(), client.clone());
        let (method, params) = match endpoint {
            Endpoint::Browser => ("Target.attachToBrowserTarget", json!({})),
            Endpoint::Page(target) if self.routes().barred.holds(target) => {
                return Err(JoinError::NoTarget(target.clone()));
            }
            Endpoint::Page(target) => {
                ("Target.attachToTarget", json!({ "targetId": target, "flatten": true }))
            }
        };
        match self.join_by(method, &params, client).await {
            Ok(_) if seat.client.root().is_some() => Ok(seat),
            Err(CommandError::Refused { .. }) => match endpoint {
                Endpoint::Page(target) => Err(JoinError::NoTarget(target.clone())),
                Endpoint::Browser => Err(JoinError::Unanswered),
            },
            _ => Err(JoinError::Unanswered),
        }
    }

    /// A client is gone: Chrome ends its session and with it all that it had set up.
    pub(super) fn leave(&self, client: &Arc<Client>) {
        let (root, was_last) = {
            let mut routes = self.routes();
            self.first.left(|key| client.root() == Some(key) || routes.owns(client, key));
            let mut clients = locked(&self.clients);
            clients.connected.retain(|other| !Arc::ptr_eq(other, client));
            self.count.send_replace(clients.connected.len());
            let root = client.root().filter(|root| routes.remove(*root).is_some());
            (root, clients.connected.is_empty())
        };
        if let Some(root) = root {
            self.detach(root);
            self.ask_for_contexts(&self.routes());
        }
        if was_last {
            self.accept_downloads_again();
        }
    }

    pub(super) fn routes(&self) -> MutexGuard<'_, Routes> {
        locked(&self.routes)
    }

    pub(super) fn expect(&self, key: Key, id: i32, special: Special) {
        if special == Special::Close {
            self.closed_by_client.store(true, Relaxed);
        }
        self.routes().expect(key, id, special);
    }

    /// Whether a client may have this carried out, and with which arguments if not its own.
    pub(super) fn judge(&self, command: &Command<'_>) -> Result<Judged, Refusal> {
        let is_barred = |target: &str| self.routes().barred.holds(target);
        self.guard.judge(&command.method, command.params, &is_barred)
    }

    /// The way to Chrome.
    pub(super) fn to_chrome(&self) -> &ToChrome {
        &self.to_chrome
    }

    /// Counts what a client sent.
    pub(super) fn received(&self, messages: u64, bytes: u64) {
        self.counters.received(messages, bytes);
    }

    /// Reads what Chrome says until it is gone, never waiting for a client.
    async fn read(&self, from_chrome: &mut pipe::Receiver) {
        let mut buffer = BytesMut::new();
        let (mut scanned, mut slack) = (0, Slack::default());
        let mut crowd = Crowd::default();
        loop {
            slack.trim(&mut buffer);
            buffer.reserve(READ_CHUNK);
            match from_chrome.read_buf(&mut buffer).await {
                Ok(1..) => {
                    slack.held(buffer.len());
                    crowd.came(self.dispatch(&mut buffer, &mut scanned));
                }
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// Hands out the whole messages in the buffer, then writes once to every client that
    /// got one. Answers how many there were.
    fn dispatch(&self, buffer: &mut BytesMut, scanned: &mut usize) -> u32 {
        let (mut touched, mut messages) = (Vec::new(), 0);
        let mut routes = self.routes();
        while let Some(end) = memchr(0, &buffer[*scanned..]) {
            let mut message = buffer.split_to(*scanned + end + 1);
            *scanned = 0;
            messages += 1;
            message.truncate(message.len() - 1);
            let Some(message) = routes.hidden.hold(message) else { continue };
            self.deliver(&mut routes, message, &mut touched);
            while let Some(held) = routes.hidden.released() {
                self.deliver(&mut routes, held, &mut touched);
            }
        }
        *scanned = buffer.len();
        drop(routes);
        for client in touched {
            client.outbox.flush();
        }
        messages
    }

    /// Puts a message before its client, and notes who that is.
    fn deliver(&self, routes: &mut Routes, mut message: BytesMut, touched: &mut Vec<Arc<Client>>) {
        let Some(client) = self.route(routes, &mut message) else { return };
        client.outbox.push(Frame::text(message.freeze()));
        if !touched.iter().any(|other| Arc::ptr_eq(other, &client)) {
            touched.push(client);
        }
    }

    /// Finds whom a message is for, and makes it look as on the client's own connection.
    fn route(&self, routes: &mut Routes, message: &mut BytesMut) -> Option<Arc<Client>> {
        let Some(key) = session_at_tail(message) else { return self.root_message(routes, message) };
        let Some(session) = routes.get(key) else {
            self.page_message(routes, key, message);
            return None;
        };
        self.first.message(key, message);
        let client = session.client.clone();
        let is_connection = session.address == Address::Connection;
        if routes.hidden.is_there() && !self.shows(routes, key, message) {
            return None;
        }
        if let Some(event) = target_event(message) {
            match event {
                TargetEvent::Attached(child) if is_barred(message) => {
                    self.dismiss(routes, key, child);
                    return None;
                }
                TargetEvent::Attached(child) => routes.attached(key, child),
                TargetEvent::Detached(child) => {
                    routes.remove(child);
                }
            }
        } else if let Some(id) = answered_id(message) {
            client.flights.answered(id);
            if routes.expects_any() || routes.contexts.expects_any() {
                self.settle(routes, key, id, message);
            }
        }
        if is_connection {
            strip_session(message);
        }
        Some(client)
    }

    /// Does what depends on the answer to a client's command.
    fn settle(&self, routes: &mut Routes, key: Key, id: i32, answer: &[u8]) {
        routes.contexts.answered(key, id, answer);
        match routes.answered(key, id, answer) {
            Some((Special::Close, false)) => self.closed_by_client.store(false, Relaxed),
            Some((Special::Dispose, true)) => self.ask_for_contexts(routes),
            _ => {}
        }
    }

    /// Whether a client gets a message while the agent has a page of its own.
    fn shows(&self, routes: &mut Routes, key: Key, message: &mut BytesMut) -> bool {
        match routes.hidden.judge(key, message) {
            Verdict::Show => return true,
            Verdict::Instead(instead) => {
                *message = instead;
                return true;
            }
            Verdict::Hide => {}
            Verdict::Dismiss(child) => self.dismiss(routes, key, child),
        }
        false
    }
}
