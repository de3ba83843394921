//! Wakes those who wait for a session to change. Only a hint: who waits also looks by
//! themselves now and then, since the change may happen on another replica.

use std::sync::Arc;

use dashmap::DashMap;
use proto::id::SessionId;
use tokio::sync::watch;

/// Who waits for which session.
#[derive(Clone, Default)]
pub struct Changes {
    waiters: Arc<DashMap<SessionId, watch::Sender<()>>>,
}

impl Changes {
    /// From now on sees every change of a session, until it is dropped.
    pub fn watch(&self, id: SessionId) -> Watch {
        // The shard stays locked, so a watch that ends now does not take the sender away.
        let changed = self.waiters.entry(id).or_insert_with(|| watch::channel(()).0).subscribe();
        Watch { id, changed: Some(changed), waiters: Arc::clone(&self.waiters) }
    }

    /// Says that a session has changed.
    pub fn wake(&self, id: SessionId) {
        if let Some(waiters) = self.waiters.get(&id) {
            waiters.send_replace(());
        }
    }
}

/// Sees one session's changes.
pub struct Watch {
    id: SessionId,
    changed: Option<watch::Receiver<()>>,
    waiters: Arc<DashMap<SessionId, watch::Sender<()>>>,
}

impl Watch {
    /// Waits for a change since the last call. Cancel-safe.
    pub async fn changed(&mut self) {
        if let Some(changed) = &mut self.changed
            && changed.changed().await.is_ok()
        {
            return;
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
