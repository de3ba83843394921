//! What waits for all clients of an agent together, and who has to go when it is too much.
//!
//! A bound for each client alone would let a hundred of them take a hundred times as much.
//! So there are bounds for all of them, and over one the client goes for which most waits.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use super::client::Client;

/// Most bytes that wait for all clients together behind the messages that they are being sent.
const BEHIND_MAX: usize = 36 << 20;

/// Most bytes that wait for all clients together, those messages counted too.
const ALL_MAX: usize = 512 << 20;

/// What waits, in bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Waiting {
    /// Behind the message that is being sent.
    pub behind: usize,
    /// With it.
    pub all: usize,
}

/// What waits for all clients of an agent.
#[derive(Clone, Default)]
pub struct Backlogs(Arc<Shared>);

#[derive(Default)]
struct Shared {
    behind: AtomicUsize,
    all: AtomicUsize,
    clients: Mutex<Vec<Weak<Client>>>,
}

/// One client's part.
pub(super) struct Part {
    of: Backlogs,
    behind: AtomicUsize,
    all: AtomicUsize,
}

impl Backlogs {
    /// A part that nothing is counted in yet.
    pub(super) fn part(&self) -> Part {
        Part { of: self.clone(), behind: AtomicUsize::new(0), all: AtomicUsize::new(0) }
    }

    /// Takes a client into account.
    pub(super) fn add(&self, client: &Arc<Client>) {
        let mut clients = self.clients();
        clients.retain(|client| client.strong_count() > 0);
        clients.push(Arc::downgrade(client));
    }

    fn clients(&self) -> MutexGuard<'_, Vec<Weak<Client>>> {
        self.0.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of clients until what waits is within bounds. To be called with nothing locked.
    fn relieve(&self) {
        while self.0.behind.load(Relaxed) > BEHIND_MAX
            && self.most(|part| &part.behind).is_some_and(|client| client.outbox.give_up())
        {
        }
        while self.0.all.load(Relaxed) > ALL_MAX
            && self.most(|part| &part.all).is_some_and(|client| client.outbox.break_off())
        {}
    }

    /// The client for which most waits.
    fn most(&self, by: fn(&Part) -> &AtomicUsize) -> Option<Arc<Client>> {
        let clients: Vec<_> = self.clients().iter().filter_map(Weak::upgrade).collect();
        clients.into_iter().max_by_key(|client| by(client.outbox.part()).load(Relaxed))
    }
}

impl fmt::Debug for Backlogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.all.load(Relaxed);
        f.debug_struct("Backlogs").field("bytes", &bytes).finish_non_exhaustive()
    }
}

impl Part {
    /// Notes what waits for this client now. Called while its outbox is locked.
    pub fn set(&self, now: Waiting) {
        let note = |mine: &AtomicUsize, sum: &AtomicUsize, now: usize| {
            let before = mine.swap(now, Relaxed);
            if now >= before {
                sum.fetch_add(now - before, Relaxed);
            } else {
                sum.fetch_sub(before - now, Relaxed);
            }
        };
        note(&self.behind, &self.of.0.behind, now.behind);
        note(&self.all, &self.of.0.all, now.all);
    }

    /// Closes clients while too much waits for all of them. To be called with nothing locked.
    pub fn relieve(&self) {
        self.of.relieve();
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.set(Waiting::default());
    }
}
