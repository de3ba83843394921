//! Files of sessions: what callers put for a browser to upload, and what it has downloaded.
//!
//! ```text
//! hub ── Fetch ──▶ uploads.rs ──▶ its uploads/     (the browser reads)
//! hub ◀── Keep ── downloads.rs ◀── its downloads/  (the browser writes)
//! ```
//!
//! Kept true: nothing outside a browser's two directories is ever read or written, whatever
//! links or names the browser makes; no file is in memory as a whole; the end of a session
//! does not wait longer for its downloads than [`downloads::KEEP_LIMIT`].

mod downloads;

#[cfg(test)]
mod tests;
mod transfer;
mod trays;
mod uploads;

use std::sync::Arc;

use proto::id::SessionId;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use self::downloads::Keeper;
pub(crate) use self::{
    downloads::Keeping,
    trays::Trays,
    uploads::{Order, PlaceError, Queue},
};
use crate::{cdp::Mux, hub::Hub};

/// Serves the files of one session while its browser is lent. Dropped, it stops at once.
pub(crate) struct Desk {
    _uploads: AbortOnDropHandle<()>,
    keeper: Keeper,
}

impl Desk {
    /// Opens for a browser. To be called in the session's span.
    pub fn open(
        hub: &Hub,
        session: SessionId,
        trays: Arc<Trays>,
        mux: &Mux,
        orders: &Queue,
    ) -> Self {
        let span = tracing::Span::current();
        let placing = uploads::serve(hub.clone(), session, trays.clone(), orders.jobs());
        let uploads: JoinHandle<()> = tokio::spawn(placing.instrument(span));
        let keeper = Keeper::start(hub.clone(), session, trays, mux.downloads());
        Self { _uploads: AbortOnDropHandle::new(uploads), keeper }
    }

    /// Takes no more orders, and has hold of every download that is complete: from now on
    /// the browser's directory may go. What is left to do is in the answer.
    pub async fn close(self) -> Keeping {
        self.keeper.close().await
    }
}
