//! The way to one client: frames that wait until its socket takes them.
//!
//! Whoever brings frames writes at once what the socket takes; the rest waits for the
//! client's own task. What waits is bounded: a client that falls further behind than
//! [`BACKLOG_MAX`] is closed, and nothing is ever left out in silence.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{net::tcp::OwnedWriteHalf, sync::Notify, time};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{
    gather::{Gather, Pieces},
    usage::Counters,
    websocket::Frame,
};

/// Most bytes that wait for a client behind the message it is being sent. That one may be
/// of any size: a 50 MB answer is ordinary.
pub const BACKLOG_MAX: usize = 32 << 20;

/// How long a client may take for what is in flight when its session ends.
const END_GRACE: Duration = Duration::from_secs(4);

/// How long a client that fell behind is waited for.
const OVERFLOW_GRACE: Duration = Duration::from_secs(1);

pub(super) struct Outbox {
    state: Mutex<State>,
    /// Something is left for the client's task to do.
    waiting: Notify,
    /// Counts the messages that are out.
    counters: Arc<Counters>,
}

#[derive(Default)]
struct State {
    /// The client's socket, once it is open.
    stream: Option<Arc<OwnedWriteHalf>>,
    frames: Gather<Frame>,
    /// A close frame is queued, and how long it may take to get out. Nothing follows it.
    closing: Option<Duration>,
    broken: bool,
    /// Whether a message went out since this was last asked.
    active: bool,
}

impl Outbox {
    pub fn new(counters: Arc<Counters>) -> Self {
        Self { state: Mutex::default(), waiting: Notify::new(), counters }
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

    /// Writes what the socket takes now. The client's task does the rest.
    pub fn flush(&self) {
        if self.write() {
            self.waiting.notify_one();
        }
    }

    /// Writes, and says whether something is left for the client's task.
    fn write(&self) -> bool {
        let mut state = self.state();
        state.write(&self.counters);
        if state.frames.behind() > BACKLOG_MAX && state.closing.is_none() {
            state.overflow();
        }
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
            let full = {
                let state = self.state();
                if state.broken || (state.closing.is_some() && state.frames.is_empty()) {
                    return;
                }
                if let Some(grace) = state.closing {
                    deadline.get_or_insert_with(|| time::Instant::now() + grace);
                }
                !state.frames.is_empty()
            };
            tokio::select! {
                () = self.waiting.notified() => {}
                _ = stream.writable(), if full => {
                    self.write();
                }
                () = late(deadline) => return,
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
        let (mut messages, mut bytes) = (0, 0);
        let out = |frame: Frame| {
            if frame.is_text() {
                messages += 1;
                bytes += frame.payload.len() as u64;
            }
        };
        let written = self.frames.write(|slices| stream.try_write_vectored(slices), out);
        counters.sent(messages, bytes);
        if written.is_err() {
            *self = Self { broken: true, ..Self::default() };
        }
    }

    /// Gives up what waits, but for the frame whose beginning is out already.
    fn overflow(&mut self) {
        self.frames.keep_begun();
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
    fn pieces(&self) -> [&[u8]; 2] {
        [self.head(), &self.payload]
    }
}
