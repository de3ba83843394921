//! The streams of agents that are open on this replica.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dashmap::{DashMap, mapref::entry::Entry};
use proto::{
    agent::FromHub,
    id::{AgentId, CaptureId, InstanceId, JoinTokenId, SessionId},
    pod::Pod,
    region::Region,
    session::EndReason,
    trace,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::info_span;

use super::{messages, roster::Roster, told::Told};
use crate::{
    files::orders::Order,
    hints::{Hint, Hints},
    sessions::{Reporter, SessionRow, inputs::Inputs},
};

/// The agents whose streams end on this replica. What is pushed here is only faster than the
/// streams' own look at the database; it may be lost.
#[derive(Clone, Default)]
pub struct Hub {
    hints: Hints,
    open: Arc<DashMap<AgentId, Open>>,
    roster: Arc<Roster>,
}

/// An agent's open stream, to push to. Cheap to clone.
#[derive(Clone)]
pub struct Open {
    pub(super) agent: AgentId,
    pub(super) instance: InstanceId,
    pub(super) region: Region,
    /// The agent's own, as it says.
    pub(super) pod: Option<Pod>,
    /// Grows with every stream of the agent, over all replicas.
    pub(super) epoch: u64,
    /// What the agent joined with, unless it was the server's own token.
    pub(super) token: Option<JoinTokenId>,
    /// Cancelled when the stream is to end.
    pub(super) cut: CancellationToken,
    pub(super) out: mpsc::Sender<Result<FromHub, Status>>,
    pub(super) told: Arc<Mutex<Told>>,
}

impl Open {
    /// Who speaks on this stream.
    pub fn reporter(&self) -> Reporter {
        Reporter { agent: self.agent, epoch: Some(self.epoch) }
    }

    /// Tells the agent to run a session.
    pub fn assign(&self, session: &SessionRow, inputs: &Inputs) {
        self.told().assigned(session);
        self.send(messages::assign(session, inputs));
    }

    /// Tells the agent of a session's deadline and keep-alive, unless it knows.
    pub fn adjust(&self, session: &SessionRow) {
        if self.told().adjusts(session) {
            self.send(messages::adjust(session));
        }
    }

    /// Asks the agent for a browser's storage state, unless it was asked.
    pub fn capture(&self, capture: CaptureId, session: SessionId) {
        if self.told().captures(capture) {
            self.send(messages::capture(capture, session));
        }
    }

    /// Has the agent do something with an upload, unless it was asked.
    pub fn file(&self, order: &Order) {
        if self.told().orders(order.id) {
            self.send(messages::file(order));
        }
    }

    /// Tells the agent of its drain, unless it knows. The deadline is in Unix microseconds by
    /// the database's clock; `None`: it is not drained.
    pub fn drain(&self, deadline_us: Option<i64>, now_us: i64) {
        if self.told().drains(deadline_us) {
            self.send(messages::drain(deadline_us.map(|deadline| deadline - now_us)));
        }
    }

    /// Tells the agent who else is in its region, unless it knows.
    pub(super) fn peers(&self, roster: &Roster) {
        if let Some(peers) = roster.of(&self.region)
            && self.told().meets(&peers)
        {
            self.send(messages::peers(&peers));
        }
    }

    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message. If there is no room for it the stream ends, and the agent's next
    /// hello mends what was lost.
    pub fn send(&self, message: FromHub) {
        if self.out.try_send(Ok(message)).is_err() {
            self.cut.cancel();
        }
    }

    /// Ends the stream with a status, if there is room to say it.
    pub fn refuse(&self, status: Status) {
        let _ = self.out.try_send(Err(status));
        self.cut.cancel();
    }
}

impl Hub {
    /// One that tells other replicas, where the streams of other agents end.
    pub fn new(hints: Hints) -> Self {
        Self { hints, ..Self::default() }
    }

    /// Tells an agent to run a session.
    pub fn assign(&self, agent: AgentId, session: &SessionRow, inputs: &Inputs) {
        let span = info_span!(target: trace::TARGET, "session.assign", otel.kind = "producer",
            ventus.session.id = %session.id, ventus.agent.id = %agent,
            ventus.pushed = self.open.contains_key(&agent));
        trace::continues(&span, &session.traceparent);
        let _inside = span.enter();
        self.on(agent, Hint::Tell(agent, session.id), |open| open.assign(session, inputs));
    }

    /// Tells an agent of a session's deadline and keep-alive.
    pub fn adjust(&self, agent: AgentId, session: &SessionRow) {
        self.on(agent, Hint::Tell(agent, session.id), |open| open.adjust(session));
    }

    /// Asks an agent for the storage state of a session's browser.
    pub fn capture(&self, agent: AgentId, capture: CaptureId, session: SessionId) {
        self.on(agent, Hint::Look(agent), |open| open.capture(capture, session));
    }

    /// Has an agent do something with an upload.
    pub fn file(&self, agent: AgentId, order: &Order) {
        self.on(agent, Hint::Look(agent), |open| open.file(order));
    }

    /// Tells an agent to end a session.
    pub fn release(&self, agent: AgentId, session: SessionId, reason: EndReason) {
        let hint = Hint::Tell(agent, session);
        self.on(agent, hint, |open| open.send(messages::release(session, reason)));
    }

    /// Tells an agent of its drain. Where its stream ends at another replica, that replica's
    /// next look does.
    pub fn drain(&self, agent: AgentId, deadline_us: Option<i64>, now_us: i64) {
        if let Some(open) = self.open.get(&agent) {
            open.drain(deadline_us, now_us);
        }
    }

    /// The pods of agents whose streams end here, each with its agent.
    pub(super) fn pods(&self) -> Vec<(Pod, AgentId)> {
        let pods = self.open.iter().map(|open| (open.pod.clone(), open.agent));
        pods.filter_map(|(pod, agent)| Some((pod?, agent))).collect()
    }

    /// How many streams end here.
    pub fn streams(&self) -> usize {
        self.open.len()
    }

    /// Whether no stream ends here.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// Which agents of a region are to be asked for a slot first, as this replica knows them.
    pub fn shortlist(&self, region: &Region, but: &[AgentId]) -> Vec<AgentId> {
        self.roster.shortlist(region, but)
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Tells every agent of its region and of its drain, unless it knows.
    pub(super) fn tell_all(&self, drains: &HashMap<AgentId, Option<i64>>, now_us: i64) {
        for open in self.open.iter() {
            open.peers(&self.roster);
            // One that is not there has no lease: its stream ends by itself.
            if let Some(deadline_us) = drains.get(&open.agent) {
                open.drain(*deadline_us, now_us);
            }
        }
    }

    /// Tells every agent which keys sign connect tokens now.
    pub fn keys_changed(&self, jwks: &str) {
        for open in self.open.iter() {
            open.send(messages::signing_keys(jwks));
        }
    }

    /// Pushes to an agent's stream, or hints at it where that ends at another replica.
    fn on(&self, agent: AgentId, hint: Hint, push: impl FnOnce(&Open)) {
        match self.open.get(&agent) {
            Some(open) => push(&open),
            None => self.hints.tell(hint),
        }
    }

    /// An agent's stream, if it ends here.
    pub fn stream_of(&self, agent: AgentId) -> Option<Open> {
        self.open.get(&agent).map(|open| open.clone())
    }

    /// Whether this very run of an agent has its stream here.
    pub(super) fn has(&self, agent: AgentId, instance: InstanceId) -> bool {
        self.open.get(&agent).is_some_and(|open| open.instance == instance)
    }

    /// From now on pushes go to this stream; an older one of the same agent ends.
    pub(super) fn add(&self, stream: &Open) {
        match self.open.entry(stream.agent) {
            Entry::Occupied(newer) if newer.get().epoch > stream.epoch => stream.cut.cancel(),
            Entry::Occupied(mut older) => {
                older.get().refuse(Status::aborted("the agent has a newer stream"));
                older.insert(stream.clone());
            }
            Entry::Vacant(place) => {
                place.insert(stream.clone());
            }
        }
    }

    pub(super) fn remove(&self, stream: &Open) {
        self.open.remove_if(&stream.agent, |_, open| open.epoch == stream.epoch);
    }
}
