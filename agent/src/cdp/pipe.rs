//! The way to Chrome: messages, each closed by a NUL, into one pipe that all clients share.
//!
//! Whoever has a message writes it at once if the pipe takes it, so that the usual command
//! costs no hop between tasks; what does not fit waits in a queue that one task empties.
//! Messages are never mixed. A queue above [`HIGH_WATER`] makes clients wait before they
//! read more: the bound on what a stuck Chrome can cost.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::{net::unix::pipe, sync::Notify};

use super::gather::{Gather, Pieces};

/// Bytes waiting for Chrome above which clients are held back.
const HIGH_WATER: usize = 8 << 20;

/// Longest message that Chrome takes from its pipe, the end included: at 100 MiB it gives the
/// pipe up, and with it the browser.
pub(super) const MESSAGE_MAX: usize = (100 << 20) - 1;

/// Ends of a message that is passed on as it is.
const NUL: &[u8] = b"\0";

/// One message on its way.
pub(super) struct Outgoing {
    /// The message, without its last brace if `tail` brings it.
    pub body: Bytes,
    pub tail: Tail,
}

/// What is written behind a message's body.
#[derive(Clone)]
pub(super) enum Tail {
    /// The end of the message.
    Nul,
    /// A last member `sessionId`, the closing brace and the end of the message.
    Session(Bytes),
}

impl Tail {
    /// Adds a session to a message that names none.
    pub fn session(id: &str) -> Self {
        Self::Session(format!(",\"sessionId\":\"{id}\"}}\0").into())
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Nul => NUL,
            Self::Session(bytes) => bytes,
        }
    }
}

impl Outgoing {
    /// Whether Chrome takes a message of this length.
    pub fn fits(&self) -> bool {
        self.len() <= MESSAGE_MAX
    }
}

impl Pieces for Outgoing {
    fn pieces(&self) -> [&[u8]; 2] {
        [&self.body, self.tail.bytes()]
    }
}

/// The writing end of Chrome's pipe.
pub(super) struct ToChrome {
    pipe: pipe::Sender,
    queue: Mutex<Queue>,
    /// Something waits for the task.
    waiting: Notify,
    /// The queue fell below [`HIGH_WATER`], or the pipe is gone.
    space: Notify,
}

#[derive(Default)]
struct Queue {
    messages: Gather<Outgoing>,
    broken: bool,
}

impl ToChrome {
    pub fn new(pipe: pipe::Sender) -> Self {
        Self { pipe, queue: Mutex::default(), waiting: Notify::new(), space: Notify::new() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message behind those that wait; [`flush`](Self::flush) sends it.
    pub fn push(&self, message: Outgoing) {
        let mut queue = self.queue();
        if !queue.broken {
            queue.messages.push(message);
        }
    }

    /// Writes what the pipe takes now; the task does the rest.
    pub fn flush(&self) {
        let mut queue = self.queue();
        if queue.write(&self.pipe).is_err() {
            queue.fail();
            self.space.notify_waiters();
        } else if !queue.messages.is_empty() {
            self.waiting.notify_one();
        }
    }

    /// Waits until Chrome has taken enough. Ends at once when the pipe is gone.
    pub async fn has_space(&self) {
        loop {
            let space = self.space.notified();
            {
                let queue = self.queue();
                if queue.broken || queue.messages.bytes() <= HIGH_WATER {
                    return;
                }
            }
            space.await;
        }
    }

    /// The task that empties the queue. Ends when the pipe breaks.
    pub async fn run(&self) {
        loop {
            self.waiting.notified().await;
            loop {
                if self.pipe.writable().await.is_err() {
                    self.queue().fail();
                    self.space.notify_waiters();
                    return;
                }
                let mut queue = self.queue();
                if queue.write(&self.pipe).is_err() {
                    queue.fail();
                }
                if queue.messages.bytes() <= HIGH_WATER {
                    self.space.notify_waiters();
                }
                if queue.broken {
                    return;
                }
                if queue.messages.is_empty() {
                    break;
                }
            }
        }
    }
}

impl Queue {
    /// Writes until the queue is empty or the pipe is full.
    fn write(&mut self, pipe: &pipe::Sender) -> io::Result<()> {
        self.messages.write(|slices| pipe.try_write_vectored(slices), drop)
    }

    fn fail(&mut self) {
        *self = Self { broken: true, ..Self::default() };
    }
}
