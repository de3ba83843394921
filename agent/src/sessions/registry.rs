//! All sessions that this agent knows of: running ones, and ended ones until their deadline,
//! so that a late client hears "over" and a late assignment starts nothing.
//!
//! Never more sessions at once than the capacity: a slot is a permit that the session's task
//! holds until its browser is gone.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use dashmap::{DashMap, mapref::entry::Entry as Slot};
use proto::{id::SessionId, session::EndReason};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch},
    time::Instant,
};

use super::{Ending, Order, Terms, Usage};
use crate::{
    cdp::Mux,
    files::{self, PlaceError},
    gateway::{Account, Denials},
};

/// How many acknowledged sessions are remembered; the one with the nearest deadline goes first.
const REMEMBERED: usize = 65_536;

/// What a session is doing, for those who want to reach its browser.
#[derive(Clone)]
pub enum Phase {
    /// Its browser starts.
    Launching,
    /// Its browser takes clients.
    Running(Arc<Mux>),
    /// It takes no more clients.
    Over(EndReason),
}

/// What a session is doing, for the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Launching,
    Running,
    /// Its browser is gone with all it left.
    Ended(Outcome),
}

/// How a session ended, and what it had used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub ending: Ending,
    pub usage: Usage,
}

/// Whether a session is to leave this agent, which goes out of service. The later outdoes the
/// earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leave {
    No,
    /// Another agent shall run it, unless its browser is up already.
    Launch,
    /// It is to end, and this says why.
    End(&'static str),
}

/// One session that the hub has not acknowledged the end of.
pub(crate) struct Entry {
    /// Set by the session's task alone.
    pub phase: watch::Sender<Phase>,
    /// The hub has said that it is recorded as running.
    recorded: AtomicBool,
    /// Set once, when its browser is lent.
    pub account: OnceLock<Account>,
    /// Set once, when the agent itself has come to end it.
    pub ending: OnceLock<Ending>,
    /// Set once, by whoever first wants the session to end and needs not ask: the hub, or who
    /// has lost it.
    pub wish: watch::Sender<Option<Ending>>,
    /// Set when the agent goes out of service.
    pub leave: watch::Sender<Leave>,
    /// Set once, when everything is gone.
    pub outcome: OnceLock<Outcome>,
    /// Set by the hub.
    pub terms: watch::Sender<Terms>,
    /// What is to be done with its uploads, once its browser runs.
    pub orders: files::Queue,
}

impl Entry {
    fn new(order: &Order) -> Self {
        Self {
            phase: watch::Sender::new(Phase::Launching),
            recorded: AtomicBool::new(false),
            account: OnceLock::new(),
            ending: OnceLock::new(),
            wish: watch::Sender::new(None),
            leave: watch::Sender::new(Leave::No),
            outcome: OnceLock::new(),
            terms: watch::Sender::new(order.terms),
            orders: files::Queue::new(),
        }
    }

    fn state(&self) -> State {
        match (self.outcome.get(), &*self.phase.borrow()) {
            (Some(outcome), _) => State::Ended(outcome.clone()),
            (None, Phase::Launching) => State::Launching,
            // Ending counts as running until nothing is left.
            (None, _) => State::Running,
        }
    }

    fn usage(&self) -> Option<Usage> {
        match (self.outcome.get(), &*self.phase.borrow()) {
            (Some(outcome), _) => Some(outcome.usage),
            (None, Phase::Running(mux)) => Some(self.used(mux)),
            (None, _) => None,
        }
    }

    /// What has gone through its browser and its browser's gateway.
    pub fn used(&self, mux: &Mux) -> Usage {
        let egress_bytes = self.account.get().map_or(0, |account| account.meter.bytes());
        Usage { clients: mux.usage(), egress_bytes }
    }

    /// Asks the session to end; the first reason counts. Whether this is the first.
    pub fn end(&self, ending: &Ending) -> bool {
        self.wish.send_if_modified(|wish| {
            let first = wish.is_none();
            wish.get_or_insert_with(|| ending.clone());
            first
        })
    }
}

/// All sessions that this agent knows of.
pub struct Registry {
    open: DashMap<SessionId, Arc<Entry>>,
    over: std::sync::Mutex<Over>,
    slots: Arc<Semaphore>,
    capacity: u32,
    /// No new session is started any more.
    closed: AtomicBool,
    /// A session was taken up.
    arrived: Notify,
    /// The last open session was acknowledged.
    settled: Notify,
}

/// Acknowledged sessions, until their deadline.
#[derive(Default)]
struct Over {
    reasons: HashMap<SessionId, EndReason>,
    by_deadline: BTreeSet<(Instant, SessionId)>,
}

impl Over {
    fn remember(&mut self, id: SessionId, reason: EndReason, deadline: Instant) {
        let now = Instant::now();
        while let Some(&(first, old)) = self.by_deadline.first()
            && (first <= now || self.by_deadline.len() >= REMEMBERED)
        {
            self.by_deadline.pop_first();
            self.reasons.remove(&old);
        }
        if deadline > now && self.reasons.insert(id, reason).is_none() {
            self.by_deadline.insert((deadline, id));
        }
    }
}

impl Registry {
    /// With room for `capacity` sessions at once.
    pub fn new(capacity: u32) -> Arc<Self> {
        Arc::new(Self {
            open: DashMap::new(),
            over: std::sync::Mutex::default(),
            slots: Arc::new(Semaphore::new(capacity as usize)),
            capacity,
            closed: AtomicBool::new(false),
            arrived: Notify::new(),
            settled: Notify::new(),
        })
    }

    /// Follows a session; `None` when it is not known here. A session that is over stays
    /// known until its deadline.
    pub fn watch(&self, id: SessionId) -> Option<watch::Receiver<Phase>> {
        // In this order: an acknowledged session enters `over` before it leaves `open`.
        if let Some(entry) = self.open.get(&id) {
            return Some(entry.phase.subscribe());
        }
        self.remembered(id).map(|reason| watch::channel(Phase::Over(reason)).1)
    }

    /// Follows a session that the hub is about to assign, as soon as it has.
    pub async fn arrival(&self, id: SessionId) -> watch::Receiver<Phase> {
        loop {
            let arrived = self.arrived.notified();
            if let Some(phase) = self.watch(id) {
                return phase;
            }
            arrived.await;
        }
    }

    /// Takes up a new session, with its slot, or says what is known of it. Without room
    /// the session counts as one whose launch failed: the hub tries another agent.
    pub(super) fn admit(&self, order: &Order) -> Result<(Arc<Entry>, OwnedSemaphorePermit), State> {
        let slot = match self.open.entry(order.id) {
            Slot::Occupied(known) => return Err(known.get().state()),
            Slot::Vacant(slot) => slot,
        };
        if let Some(reason) = self.remembered(order.id) {
            return Err(State::Ended(Outcome {
                ending: Ending::new(reason, ""),
                usage: Usage::default(),
            }));
        }
        let entry = Arc::new(Entry::new(order));
        slot.insert(entry.clone());
        self.arrived.notify_waiters();
        let refusal = if self.closed.load(Ordering::SeqCst) {
            "the agent is stopping"
        } else {
            match self.slots.clone().try_acquire_owned() {
                Ok(permit) => return Ok((entry, permit)),
                Err(_) => "the agent has no room",
            }
        };
        let ending = Ending::new(EndReason::LaunchFailed, refusal);
        let outcome = Outcome { ending, usage: Usage::default() };
        entry.phase.send_replace(Phase::Over(EndReason::LaunchFailed));
        let outcome = entry.outcome.get_or_init(|| outcome).clone();
        Err(State::Ended(outcome))
    }

    /// How many sessions there may be at once.
    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// How many have a slot.
    pub(crate) fn slots_used(&self) -> u32 {
        let free = u32::try_from(self.slots.available_permits()).unwrap_or(u32::MAX);
        self.capacity.saturating_sub(free)
    }

    /// How many clients are connected to their browsers.
    pub(crate) fn clients(&self) -> usize {
        let of = |entry: &Entry| match &*entry.phase.borrow() {
            Phase::Running(mux) => *mux.clients().borrow(),
            Phase::Launching | Phase::Over(_) => 0,
        };
        self.open.iter().map(|entry| of(&entry)).sum()
    }

    /// Waits until no session has a slot.
    pub(crate) async fn vacated(&self) {
        // Never closed. They are given back at once.
        let _ = self.slots.acquire_many(self.capacity).await;
    }

    /// What is known of one session.
    pub(crate) fn state(&self, id: SessionId) -> Option<State> {
        let open = self.open.get(&id).map(|entry| entry.state());
        open.or_else(|| {
            let ending = Ending::new(self.remembered(id)?, "");
            Some(State::Ended(Outcome { ending, usage: Usage::default() }))
        })
    }

    /// How the agent itself is about to end a session, if it is.
    pub(crate) fn ending(&self, id: SessionId) -> Option<Ending> {
        self.open.get(&id)?.ending.get().cloned()
    }

    /// Everything that the hub has not acknowledged the end of.
    pub(crate) fn inventory(&self) -> Vec<(SessionId, State)> {
        self.open.iter().map(|entry| (*entry.key(), entry.state())).collect()
    }

    /// Running totals of all sessions that have some.
    pub(crate) fn usage(&self) -> Vec<(SessionId, Usage)> {
        self.open.iter().filter_map(|entry| Some((*entry.key(), entry.usage()?))).collect()
    }

    /// What the browsers of all sessions were refused, if they have been lent.
    pub(crate) fn denials(&self) -> Vec<(SessionId, Denials)> {
        let of = |entry: &Entry| Some(entry.account.get()?.denials.clone());
        self.open.iter().filter_map(|entry| Some((*entry.key(), of(&entry)?))).collect()
    }

    /// What the browser of one session was refused, if it has been lent.
    pub(crate) fn denials_of(&self, id: SessionId) -> Option<Denials> {
        Some(self.open.get(&id)?.account.get()?.denials.clone())
    }

    /// Another deadline, or the keep-alive anew. What is not open here has no terms.
    pub(crate) fn adjust(&self, id: SessionId, terms: Terms) {
        if let Some(entry) = self.open.get(&id) {
            // Restarts are counted: one that comes late must not undo a later one.
            entry.terms.send_modify(|known| {
                known.deadline = terms.deadline;
                known.keepalives = known.keepalives.max(terms.keepalives);
            });
        }
    }

    /// The browser of a session that runs, and the places that it asked for: `host:port`.
    pub(crate) fn running(&self, id: SessionId) -> Option<(Arc<Mux>, Vec<String>)> {
        let entry = self.open.get(&id)?;
        match &*entry.phase.borrow() {
            Phase::Running(mux) => {
                let places =
                    entry.account.get().map(|account| account.meter.places()).unwrap_or_default();
                Some((mux.clone(), places))
            }
            Phase::Launching | Phase::Over(_) => None,
        }
    }

    /// Has something done with an upload; `None` when the session is not open here.
    pub(super) fn place(
        &self,
        id: SessionId,
        order: files::Order,
    ) -> Option<oneshot::Receiver<Result<(), PlaceError>>> {
        self.open.get(&id).map(|entry| entry.orders.add(order))
    }

    /// Asks a session to end; `false` when it is not open here.
    pub(crate) fn end(&self, id: SessionId, ending: &Ending) -> bool {
        self.open.get(&id).map(|entry| entry.end(ending)).is_some()
    }

    /// Asks every session to end.
    pub(crate) fn end_all(&self, ending: &Ending) {
        for entry in &self.open {
            entry.end(ending);
        }
    }

    /// A session is recorded as running.
    pub(crate) fn recorded(&self, id: SessionId) {
        if let Some(entry) = self.open.get(&id) {
            entry.recorded.store(true, Ordering::SeqCst);
        }
    }

    /// Asks every session to end that is not recorded as running; how many had not been asked.
    pub(crate) fn end_unrecorded(&self, ending: &Ending) -> usize {
        let entries = self.open.iter();
        let unrecorded = entries.filter(|entry| !entry.recorded.load(Ordering::SeqCst));
        unrecorded.filter(|entry| entry.end(ending)).count()
    }

    /// Starts no session any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Has every session leave this agent, at once or only if its browser is not up yet.
    pub(crate) fn leave(&self, leave: Leave) {
        for entry in &self.open {
            entry
                .leave
                .send_if_modified(|known| std::mem::replace(known, leave.max(*known)) < leave);
        }
    }

    /// The hub knows that the session has ended.
    pub(crate) fn acknowledged(&self, id: SessionId) {
        let ended = self.open.get(&id).and_then(|entry| {
            let reason = entry.outcome.get()?.ending.reason;
            Some((reason, entry.terms.borrow().deadline))
        });
        let Some((reason, deadline)) = ended else { return };
        self.lock_over().remember(id, reason, deadline);
        self.open.remove(&id);
        if self.open.is_empty() {
            self.settled.notify_waiters();
        }
    }

    /// Waits until no session is open: all ended and acknowledged.
    pub(crate) async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            if self.open.is_empty() {
                return;
            }
            settled.await;
        }
    }

    fn remembered(&self, id: SessionId) -> Option<EndReason> {
        self.lock_over().reasons.get(&id).copied()
    }

    fn lock_over(&self) -> std::sync::MutexGuard<'_, Over> {
        self.over.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
