//! What a stream has told its agent, so that its look at the database repeats only what may
//! be lost. A message on an open stream is not: what was told is told anew only by another
//! stream, or when the agent stays silent for long.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use proto::agent::Peers;
use proto::id::{CaptureId, FileOrderId, SessionId};

use crate::{files::orders::Order, sessions::SessionRow};

/// How long an agent may say nothing of a large assignment until that is repeated.
const PATIENCE: Duration = Duration::from_secs(15);

/// One stream's memory.
#[derive(Default)]
pub(super) struct Told {
    /// Assignments with inputs: large, and so not repeated with every look.
    assigned: HashMap<SessionId, Instant>,
    /// The keep-alive that the agent knows of.
    keepalives: HashMap<SessionId, u64>,
    captures: HashSet<CaptureId>,
    orders: HashSet<FileOrderId>,
    /// The deadline of its drain; `None`: it is not drained.
    drain_deadline_us: Option<i64>,
    peers: Option<Arc<Peers>>,
}

impl Told {
    /// Whether the agent is to be assigned a session now, for the first time or again.
    pub fn is_due(&self, session: &SessionRow) -> bool {
        let told = self.assigned.get(&session.id).filter(|_| session.has_inputs);
        told.is_none_or(|told| told.elapsed() >= PATIENCE)
    }

    /// An assignment also says what an adjustment would.
    pub fn assigned(&mut self, session: &SessionRow) {
        self.keepalives.insert(session.id, session.keepalives);
        if session.has_inputs {
            self.assigned.insert(session.id, Instant::now());
        }
    }

    /// Whether the agent knows less of a session's keep-alive than this; then it is told now.
    pub fn adjusts(&mut self, session: &SessionRow) -> bool {
        let known = self.keepalives.entry(session.id).or_default();
        let is_news = *known < session.keepalives;
        *known = session.keepalives.max(*known);
        is_news
    }

    /// Whether the agent has not been asked for this capture; then it is asked now.
    pub fn captures(&mut self, capture: CaptureId) -> bool {
        self.captures.insert(capture)
    }

    /// Whether the agent has not been told of this order; then it is told now.
    pub fn orders(&mut self, order: FileOrderId) -> bool {
        self.orders.insert(order)
    }

    /// Whether the agent knows of another deadline; then it is told now. A new stream begins
    /// without a drain on either side.
    pub fn drains(&mut self, deadline_us: Option<i64>) -> bool {
        let known = std::mem::replace(&mut self.drain_deadline_us, deadline_us);
        known != deadline_us
    }

    /// Whether the agent was told of others in its region; then it is told now.
    pub fn meets(&mut self, peers: &Arc<Peers>) -> bool {
        let known = self.peers.replace(peers.clone());
        known.is_none_or(|known| !Arc::ptr_eq(&known, peers))
    }

    /// Forgets what is over.
    pub fn keep(
        &mut self,
        sessions: &[SessionRow],
        captures: &[(CaptureId, SessionId)],
        orders: &[Order],
    ) {
        let sessions: HashSet<_> = sessions.iter().map(|session| session.id).collect();
        self.assigned.retain(|id, _| sessions.contains(id));
        self.keepalives.retain(|id, _| sessions.contains(id));
        self.captures.retain(|id| captures.iter().any(|(capture, _)| capture == id));
        self.orders.retain(|id| orders.iter().any(|order| order.id == *id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestApp, id_of, on_both_databases};

    on_both_databases! {
        async fn a_large_assignment_is_not_repeated_with_every_look(app: TestApp) {
            app.quick_agent("local", 1).await;
            let created = app.create("k").send().await.expect(201);
            let mut session = app.session(id_of(&created)).await;
            let mut told = Told::default();
            told.assigned(&session);
            assert!(told.is_due(&session), "a small one is");
            session.has_inputs = true;
            assert!(told.is_due(&session));
            told.assigned(&session);
            assert!(!told.is_due(&session));
            told.keep(&[], &[], &[]);
            assert!(told.is_due(&session), "it came back");
        }
    }
}
