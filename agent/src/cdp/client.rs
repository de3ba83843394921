//! One client on one browser: its socket, and the commands that come through it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::AsyncReadExt,
    net::{TcpStream, tcp::OwnedReadHalf},
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
    time,
};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{
    backlog::Backlogs,
    flights::Flights,
    mux::Mux,
    outbox::Outbox,
    pipe::{Outgoing, Tail},
    routes::{Key, Special},
    scan::{Clean, error_answer, scan},
    usage::Counters,
    websocket::{Frame, Frames, Incoming},
};
use crate::crowd::Crowd;

/// How often a client is pinged.
const PING_EVERY: Duration = Duration::from_secs(20);

/// Pings after which a connection that was silent both ways is given up: a minute.
const SILENT_PINGS: u32 = 3;

/// How long a client may take to answer a close.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// Commands to child sessions that are remembered, see [`Client::sent_to_gone`].
const RECENT: usize = 256;

/// A command that is so long, in bytes, takes milliseconds to read.
const LONG: usize = 1 << 20;

/// Free space that is kept ready for the socket, in bytes.
const READ_CHUNK: usize = 16 << 10;

/// What the multiplexer keeps of a client.
pub(super) struct Client {
    pub outbox: Outbox,
    /// The client's own session on the browser, and what names it behind a command.
    root: OnceLock<(Key, Tail)>,
    recent: Mutex<VecDeque<(i32, Key)>>,
    /// Takes the time of its commands.
    pub flights: Flights,
}

impl Client {
    pub fn new(counters: Arc<Counters>, backlogs: &Backlogs) -> Arc<Self> {
        let client = Arc::new(Self {
            outbox: Outbox::new(counters, backlogs.part()),
            root: OnceLock::new(),
            recent: Mutex::default(),
            flights: Flights::default(),
        });
        backlogs.add(&client);
        client
    }

    pub fn root(&self) -> Option<Key> {
        self.root.get().map(|(key, _)| *key)
    }

    pub fn set_root(&self, key: Key, id: &str) {
        let _ = self.root.set((key, Tail::session(id)));
    }

    fn sent(&self, id: i32, key: Key) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back((id, key));
    }

    /// Whether this client sent a command of this number to a session that is gone. Chrome
    /// answers a command that crossed the end of its session without naming the session.
    pub fn sent_to_gone(&self, id: i32, is_gone: impl Fn(Key) -> bool) -> bool {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let found = recent.iter().position(|(of, key)| *of == id && is_gone(*key));
        found.is_some_and(|at| recent.remove(at).is_some())
    }
}

/// A client's place on a browser. Dropped, it leaves: Chrome ends what it had set up.
pub struct Seat {
    pub(super) mux: Arc<Mux>,
    pub(super) client: Arc<Client>,
    pub(super) ping_every: Duration,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.mux.leave(&self.client);
    }
}

impl Seat {
    pub(super) fn new(mux: Arc<Mux>, client: Arc<Client>) -> Self {
        Self { mux, client, ping_every: PING_EVERY }
    }

    /// Serves the client until one side ends it. `early` came with the upgrade request.
    pub async fn serve(self, stream: TcpStream, early: Bytes) {
        let (mut reader, writer) = stream.into_split();
        let writer = Arc::new(writer);
        self.client.outbox.open(writer.clone());
        self.client.outbox.flush();
        let mut frames = Frames::new(early);
        let closed_by_client = tokio::select! {
            () = self.read(&mut reader, &mut frames) => true,
            () = self.client.outbox.run(&writer) => false,
        };
        let client = self.client.clone();
        drop(self);
        if closed_by_client {
            let _ = time::timeout(CLOSE_GRACE, client.outbox.run(&writer)).await;
        } else {
            // The close went out: a client that answers it sees a clean end.
            let _ = time::timeout(CLOSE_GRACE, drain(&mut reader)).await;
        }
    }

    /// Reads until the client leaves or has to.
    async fn read(&self, reader: &mut OwnedReadHalf, frames: &mut Frames) {
        let outbox = &self.client.outbox;
        let every = self.ping_every;
        let mut ping = time::interval_at(time::Instant::now() + every, every);
        let (mut heard, mut silent) = (false, 0);
        let mut inflow = self.mux.inflow.part();
        let mut crowd = Crowd::default();
        while let Some(commands) = self.take_messages(frames) {
            crowd.came(commands);
            if !inflow.fits(frames.held()) {
                let reason = "too much is being sent at once";
                return outbox.close(Some(CloseCode::Again), reason);
            }
            self.mux.to_chrome().has_space().await;
            frames.reserve(READ_CHUNK);
            tokio::select! {
                read = reader.read_buf(&mut frames.buffer) => match read {
                    Ok(1..) => heard = true,
                    Ok(0) | Err(_) => return outbox.close(None, ""),
                },
                _ = ping.tick() => {
                    let quiet = !std::mem::take(&mut heard) & !outbox.take_active();
                    silent = if quiet { silent + 1 } else { 0 };
                    if silent >= SILENT_PINGS {
                        return outbox.close(Some(CloseCode::Away), "no answer to pings");
                    }
                    outbox.push(Frame::ping());
                    outbox.flush();
                    outbox.take_active();
                }
            }
        }
    }

    /// Handles what the buffer holds, and answers how many commands those were. `None`: the
    /// connection is over.
    fn take_messages(&self, frames: &mut Frames) -> Option<u32> {
        let outbox = &self.client.outbox;
        let (mut commands, mut bytes) = (0_u32, 0);
        let open = loop {
            match frames.next() {
                Ok(None) => break true,
                Ok(Some(Incoming::Text(message))) => {
                    commands += 1;
                    bytes += message.len() as u64;
                    aside(message.len(), || self.command(message));
                }
                Ok(Some(Incoming::Ping(payload))) => outbox.pong(&payload),
                Ok(Some(Incoming::Pong)) => {}
                Ok(Some(Incoming::Close(code))) => {
                    outbox.close(code.map(CloseCode::from), "");
                    break false;
                }
                // As Chrome: the socket goes, and nothing is carried out.
                Ok(Some(Incoming::Binary)) => {
                    outbox.close(Some(CloseCode::Unsupported), "binary frames are not CDP");
                    break false;
                }
                Err(violation) => {
                    outbox.close(Some(violation.code()), &violation.to_string());
                    break false;
                }
            }
        };
        if commands > 0 {
            // One write for all that came in one read.
            self.mux.to_chrome().flush();
            self.mux.received(commands.into(), bytes);
        }
        outbox.flush();
        open.then_some(commands)
    }

    /// Passes one command on to Chrome, or answers it in Chrome's stead.
    fn command(&self, message: BytesMut) {
        let answer = |text: String| self.client.outbox.push(Frame::text(text));
        let command = match scan(&message) {
            Ok(command) => command,
            Err(refusal) => return answer(refusal.answer()),
        };
        match command.clean {
            None => {}
            Some(Clean::Message(clean)) => return self.command(BytesMut::from(Bytes::from(clean))),
            Some(Clean::TooLong) => return self.too_long(),
        }
        let Some((root, tail)) = self.client.root.get() else { return };
        let key = if command.session.is_empty() {
            *root
        } else {
            match Key::read(command.session.as_bytes()) {
                Some(key) if self.mux.routes().owns(&self.client, key) => key,
                _ => {
                    let text = "Session with given id not found.";
                    return answer(error_answer(Some(command.id), -32001, text));
                }
            }
        };
        let judged = match self.mux.judge(&command) {
            Ok(judged) => judged,
            Err(refusal) => return answer(refusal.answer(command.id, &command.session)),
        };
        if !command.session.is_empty() {
            self.client.sent(command.id, key);
        }
        self.mux.first.command(key, command.id, &command.method);
        self.client.flights.sent(command.id, &command.method);
        if let Some(special) = Special::of(&command.method, command.params) {
            self.mux.expect(key, command.id, special);
        }
        if let Some(proxy) = judged.proxy {
            self.mux.routes().contexts.asked(key, command.id, proxy);
        }
        let outgoing = if judged.arguments.is_some() || !command.plain {
            let body = command.rewritten(judged.arguments.as_ref()).into();
            let named = (!command.session.is_empty()).then(|| Tail::session(&command.session));
            Outgoing { body, tail: named.unwrap_or_else(|| tail.clone()) }
        } else {
            let end = command.end;
            match command.session.as_ref() {
                "" => Outgoing { body: message.freeze().slice(..end), tail: tail.clone() },
                _ => Outgoing { body: message.freeze().slice(..=end), tail: Tail::Nul },
            }
        };
        if outgoing.fits() {
            self.mux.to_chrome().push(outgoing);
        } else {
            self.too_long();
        }
    }

    /// Chrome would give its pipe up.
    fn too_long(&self) {
        self.client.outbox.close(Some(CloseCode::Size), "message over the limit");
    }
}

/// Does what takes long for a long message in such a way that the thread's other tasks, also
/// other sessions' and the agent's own, do not wait for it.
fn aside<T>(length: usize, work: impl FnOnce() -> T) -> T {
    let many = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if length >= LONG && many { block_in_place(work) } else { work() }
}

/// Reads until the client has closed its side.
async fn drain(reader: &mut OwnedReadHalf) {
    let mut buffer = [0; 4096];
    while matches!(reader.read(&mut buffer).await, Ok(1..)) {}
}
