//! What went through a browser's clients.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::metrics::COUNTS;

/// What went through a browser's clients since it was lent.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Last message of a client, Unix milliseconds; 0: none yet.
    pub last_seen_ms: i64,
    /// Messages in both directions.
    pub cdp_messages: u64,
    /// Payload from clients.
    pub bytes_in: u64,
    /// Payload to clients.
    pub bytes_out: u64,
}

/// The running totals behind [`Usage`].
#[derive(Default)]
pub(super) struct Counters {
    last_seen_ms: AtomicI64,
    messages: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Counters {
    pub fn usage(&self) -> Usage {
        Usage {
            last_seen_ms: self.last_seen_ms.load(Relaxed),
            cdp_messages: self.messages.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
        }
    }

    /// Counts what a client sent, just now.
    pub fn received(&self, messages: u64, bytes: u64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_seen_ms.store(i64::try_from(now.as_millis()).unwrap_or(i64::MAX), Relaxed);
        self.messages.fetch_add(messages, Relaxed);
        self.bytes_in.fetch_add(bytes, Relaxed);
        COUNTS.cdp.from_clients.add(messages, bytes);
    }

    /// Counts what clients were sent.
    pub fn sent(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Relaxed);
        self.bytes_out.fetch_add(bytes, Relaxed);
        COUNTS.cdp.to_clients.add(messages, bytes);
    }
}
