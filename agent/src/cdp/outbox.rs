//! The way to one client: frames that wait until its socket takes them.
//!
//! Whoever brings frames writes at once what the socket takes; the rest waits for the
//! client's own task. What waits is bounded: a client that falls further behind than
//! [`BACKLOG_MAX`] is closed, and nothing is ever left out in silence.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{net::tcp::OwnedWriteHalf, sync::Notify, time};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::websocket::Frame;

/// Most bytes that wait for a client behind the message it is being sent. That one may be
/// of any size: a 50 MB answer is ordinary.
pub const BACKLOG_MAX: usize = 32 << 20;

/// How long a client may take for what is in flight when its session ends.
const END_GRACE: Duration = Duration::from_secs(4);

/// How long a client that fell behind is waited for.
const OVERFLOW_GRACE: Duration = Duration::from_secs(1);

/// Most pieces handed to one system call.
const PIECES: usize = 64;

#[derive(Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// Something is left for the client's task to do.
    waiting: Notify,
}

#[derive(Default)]
struct State {
    /// The client's socket, once it is open.
    stream: Option<Arc<OwnedWriteHalf>>,
    frames: VecDeque<Frame>,
    /// Bytes of the first frame that are written already.
    written: usize,
    bytes: usize,
    /// A close frame is queued, and how long it may take to get out. Nothing follows it.
    closing: Option<Duration>,
    broken: bool,
    /// Whether a message went out since this was last asked.
    active: bool,
}

impl Outbox {
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
            state.bytes += frame.len();
            state.frames.push_back(frame);
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
        state.write();
        if state.behind() > BACKLOG_MAX && state.closing.is_none() {
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
    /// Bytes behind the frame that is being written.
    fn behind(&self) -> usize {
        self.bytes - self.frames.front().map_or(0, |first| first.len() - self.written)
    }

    fn write(&mut self) {
        let Some(stream) = self.stream.clone() else { return };
        while !self.frames.is_empty() {
            match stream.try_write_vectored(&self.pieces()) {
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    *self = Self { broken: true, ..Self::default() };
                    return;
                }
            }
        }
    }

    fn pieces(&self) -> Vec<IoSlice<'_>> {
        let mut skip = self.written;
        let mut pieces = Vec::with_capacity((2 * self.frames.len()).min(PIECES));
        for frame in self.frames.iter().take(PIECES / 2) {
            for piece in [frame.head(), &frame.payload[..]] {
                let skipped = skip.min(piece.len());
                skip -= skipped;
                if skipped < piece.len() {
                    pieces.push(IoSlice::new(&piece[skipped..]));
                }
            }
        }
        pieces
    }

    fn advance(&mut self, count: usize) {
        self.bytes -= count;
        self.written += count;
        while let Some(first) = self.frames.front()
            && self.written >= first.len()
        {
            self.written -= first.len();
            self.frames.pop_front();
        }
    }

    /// Gives up what waits, but for the frame whose beginning is out already.
    fn overflow(&mut self) {
        self.frames.truncate(usize::from(self.written > 0));
        self.bytes = self.frames.iter().map(Frame::len).sum::<usize>() - self.written;
        self.queue_close(
            Frame::close(Some(CloseCode::Again), "the client reads too slowly"),
            OVERFLOW_GRACE,
        );
    }

    fn queue_close(&mut self, frame: Frame, grace: Duration) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
        self.closing = Some(grace);
    }
}
