//! Wakes those who wait for a session to change. Only a hint: who waits also looks by
//! themselves now and then, since the change may happen on another replica. Where it happens
//! here, what has become of the session may be told with it, and need not be read again.

use std::sync::Arc;

use dashmap::DashMap;
use proto::id::SessionId;
use tokio::sync::watch;

use super::SessionRow;
use crate::hints::{Hint, Hints};

/// A session as it was committed, and when it was so by the database's clock.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The session.
    pub row: SessionRow,
    /// Unix microseconds.
    pub now_us: i64,
}

/// Who waits for which session.
#[derive(Clone, Default)]
pub struct Changes {
    hints: Hints,
    waiters: Waiters,
}

/// By session; the value is what was told with the last change.
type Waiters = Arc<DashMap<SessionId, watch::Sender<Option<Box<Seen>>>>>;

impl Changes {
    /// One that tells other replicas.
    pub fn new(hints: Hints) -> Self {
        Self { hints, ..Self::default() }
    }

    /// From now on sees every change of a session, until it is dropped.
    pub fn watch(&self, id: SessionId) -> Watch {
        // The shard stays locked, so a watch that ends now does not take the sender away.
        let changed = self.waiters.entry(id).or_insert_with(|| watch::channel(None).0).subscribe();
        Watch { id, changed: Some(changed), waiters: Arc::clone(&self.waiters) }
    }

    /// Says that a session has changed. If nobody here waits for it, somebody may at another
    /// replica: most often one does at most.
    pub fn wake(&self, id: SessionId) {
        if !self.woken(id) {
            self.hints.tell(Hint::Session(id));
        }
    }

    /// The same, with what has become of it. Only what is committed may be told.
    pub fn tell(&self, seen: Seen) {
        let id = seen.row.id;
        if !self.replace(id, Some(seen.into())) {
            self.hints.tell(Hint::Session(id));
        }
    }

    /// A session has changed, says another replica. Whether anybody here waits for it.
    pub fn woken(&self, id: SessionId) -> bool {
        self.replace(id, None)
    }

    fn replace(&self, id: SessionId, told: Option<Box<Seen>>) -> bool {
        let waiters = self.waiters.get(&id);
        waiters.is_some_and(|waiters| {
            waiters.send_replace(told);
            true
        })
    }
}

/// Sees one session's changes.
pub struct Watch {
    id: SessionId,
    changed: Option<watch::Receiver<Option<Box<Seen>>>>,
    waiters: Waiters,
}

impl Watch {
    /// Waits for a change since the last call, and says what was told with it, if anything was:
    /// of several the last one counts. Cancel-safe.
    pub async fn changed(&mut self) -> Option<Box<Seen>> {
        if let Some(changed) = &mut self.changed
            && changed.changed().await.is_ok()
        {
            return changed.borrow_and_update().clone();
        }
        std::future::pending().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.changed = None;
        self.waiters.remove_if(&self.id, |_, sender| sender.receiver_count() == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watch_sees_changes_and_leaves_nothing() {
        let changes = Changes::default();
        let id = SessionId::generate();
        let (mut first, mut second) = (changes.watch(id), changes.watch(id));
        changes.wake(SessionId::generate());
        changes.wake(id);
        first.changed().await;
        drop(first);
        second.changed().await;
        drop(second);
        assert!(changes.waiters.is_empty());
    }
}
