//! The way to one client: frames that wait until its socket takes them.
//!
//! Whoever brings frames writes at once what the socket takes; the rest waits for the
//! client's own task. What waits is bounded: a client that falls further behind than
//! [`BACKLOG_MAX`] is closed, and nothing is ever left out in silence.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{net::tcp::OwnedWriteHalf, sync::Notify, time};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{
    backlog::{Part, Waiting},
    gather::{Gather, Pieces},
    usage::Counters,
    websocket::Frame,
};

/// Most bytes that wait for a client behind the message it is being sent. That one may be
/// of any size: a 50 MB answer is ordinary.
pub const BACKLOG_MAX: usize = 32 << 20;

/// How long a client may take for what is in flight when its session ends.
const END_GRACE: Duration = Duration::from_secs(4);

/// How long a client may take nothing at all while something waits for it: as long as one
/// that says nothing is kept.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// Answers to pings that may wait. Pings cost nothing to send; over this only the latest is
/// answered, and only that one must be (RFC 6455, section 5.5.3).
const PONGS_MAX: usize = 16;

/// What a frame costs beside its payload, in bytes.
const FRAME_BYTES: usize = 64;

/// Payloads up to this length, in bytes, are copied when they have to wait: what is read from
/// Chrome at once is one piece of memory, which a part of it would hold as a whole.
const SMALL: usize = 1 << 20;

/// How long a client that fell behind is waited for.
const OVERFLOW_GRACE: Duration = Duration::from_secs(1);

pub(super) struct Outbox {
    state: Mutex<State>,
    /// Something is left for the client's task to do.
    waiting: Notify,
    /// Counts the messages that are out.
    counters: Arc<Counters>,
    part: Part,
}

#[derive(Default)]
struct State {
    /// The client's socket, once it is open.
    stream: Option<Arc<OwnedWriteHalf>>,
    frames: Gather<Frame>,
    /// A close frame is queued, and how long it may take to get out. Nothing follows it.
    closing: Option<Duration>,
    broken: bool,
    /// Answers to pings that wait.
    pongs: usize,
    /// The latest ping for whose answer there was no room.
    ping: Option<Bytes>,
    /// Whether a message went out since this was last asked.
    active: bool,
    /// When the socket last took something.
    moved: Option<time::Instant>,
}

impl Outbox {
    pub fn new(counters: Arc<Counters>, part: Part) -> Self {
        Self { state: Mutex::default(), waiting: Notify::new(), counters, part }
    }

    /// What waits here, among what waits for all clients.
    pub fn part(&self) -> &Part {
        &self.part
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the way; what was pushed before goes out with the next flush.
    pub fn open(&self, stream: Arc<OwnedWriteHalf>) {
        self.state().stream = Some(stream);
    }

    /// Puts a frame behind those that wait; [`flush`](Self::flush) sends it.
    pub fn push(&self, frame: Frame) {
        let mut state = self.state();
        if state.closing.is_none() && !state.broken {
            state.active = true;
            state.frames.push(frame);
        }
    }

    /// Answers a ping with the next flush.
    pub fn pong(&self, payload: &[u8]) {
        let mut state = self.state();
        state.ping = Some(Bytes::copy_from_slice(payload));
        state.answer_ping();
    }

    /// Writes what the socket takes now. The client's task does the rest.
    pub fn flush(&self) {
        if self.write() {
            self.waiting.notify_one();
            self.part.relieve();
        }
    }

    /// Closes the client as one that reads too slowly. `false`: it is about to end already.
    pub fn give_up(&self) -> bool {
        let mut state = self.state();
        if state.closing.is_some() || state.broken {
            return false;
        }
        state.overflow();
        self.part.set(state.waits());
        drop(state);
        self.waiting.notify_one();
        true
    }

    /// Drops all that waits, and the connection. `false`: that was done before.
    pub fn break_off(&self) -> bool {
        let mut state = self.state();
        if state.broken {
            return false;
        }
        *state = State::broken();
        self.part.set(state.waits());
        drop(state);
        self.waiting.notify_one();
        true
    }

    /// Writes, and says whether something is left for the client's task.
    fn write(&self) -> bool {
        let mut state = self.state();
        state.write(&self.counters);
        if state.waits().behind > BACKLOG_MAX && state.closing.is_none() {
            state.overflow();
        }
        self.part.set(state.waits());
        !state.frames.is_empty() || state.broken || state.closing.is_some()
    }

    /// Closes the socket after what is queued.
    pub fn close(&self, code: Option<CloseCode>, reason: &str) {
        {
            let mut state = self.state();
            if state.closing.is_some() || state.broken {
                return;
            }
            state.queue_close(Frame::close(code, reason), END_GRACE);
        }
        self.flush();
    }

    /// Whether a message went out since this was last asked.
    pub fn take_active(&self) -> bool {
        std::mem::take(&mut self.state().active)
    }

    /// Writes until a close frame is out, the socket breaks or the client takes too long.
    pub async fn run(&self, stream: &OwnedWriteHalf) {
        let mut deadline = None;
        loop {
            let (full, moved) = {
                let state = self.state();
                if state.broken || (state.closing.is_some() && state.frames.is_empty()) {
                    return;
                }
                if let Some(grace) = state.closing {
                    deadline.get_or_insert_with(|| time::Instant::now() + grace);
                }
                (!state.frames.is_empty(), state.moved)
            };
            let stalled = moved.filter(|_| full).map(|moved| moved + STALL_LIMIT);
            tokio::select! {
                () = self.waiting.notified() => {}
                _ = stream.writable(), if full => {
                    self.write();
                }
                () = late(deadline) => return,
                () = late(stalled) => {
                    self.give_up();
                }
            }
        }
    }
}

/// Ends when the time has come, if there is one.
async fn late(deadline: Option<time::Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl State {
    fn write(&mut self, counters: &Counters) {
        let Some(stream) = &self.stream else { return };
        let before = self.frames.bytes();
        let (mut messages, mut bytes) = (0, 0);
        let out = |frame: Frame| {
            if frame.is_text() {
                messages += 1;
                bytes += frame.payload.len() as u64;
            }
            self.pongs -= usize::from(frame.is_pong() && self.pongs > 0);
        };
        let written = self.frames.write(|slices| stream.try_write_vectored(slices), out);
        counters.sent(messages, bytes);
        if written.is_err() {
            *self = Self::broken();
            return;
        }
        self.answer_ping();
        if self.frames.is_empty() {
            self.moved = None;
        } else {
            if self.frames.bytes() < before || self.moved.is_none() {
                self.moved = Some(time::Instant::now());
            }
            self.frames.settle();
        }
    }

    /// Queues the answer to the latest ping if there is room.
    fn answer_ping(&mut self) {
        if self.pongs < PONGS_MAX
            && self.closing.is_none()
            && let Some(payload) = self.ping.take()
        {
            self.frames.push(Frame::pong(payload));
            self.pongs += 1;
        }
    }

    fn broken() -> Self {
        Self { broken: true, ..Self::default() }
    }

    /// What waits, with what it costs to keep it.
    fn waits(&self) -> Waiting {
        let frames = FRAME_BYTES * self.frames.count();
        let behind = self.frames.behind() + frames.saturating_sub(FRAME_BYTES);
        Waiting { behind, all: self.frames.bytes() + frames }
    }

    /// Gives up what waits, but for the frame whose beginning is out already.
    fn overflow(&mut self) {
        self.frames.keep_begun();
        self.pongs = 0;
        self.queue_close(
            Frame::close(Some(CloseCode::Again), "the client reads too slowly"),
            OVERFLOW_GRACE,
        );
    }

    fn queue_close(&mut self, frame: Frame, grace: Duration) {
        self.frames.push(frame);
        self.closing = Some(grace);
    }
}

impl Pieces for Frame {
    fn detach(&mut self) {
        if self.payload.len() <= SMALL {
            self.payload = Bytes::copy_from_slice(&self.payload);
        }
    }

    fn pieces(&self) -> [&[u8]; 2] {
        [self.head(), &self.payload]
    }
}
