//! What the hub has been told of sessions on one stream, and what there is to tell it.

use std::collections::HashMap;

use proto::{agent::FromAgent, id::SessionId};

use super::messages;
use crate::{
    clock::Clock,
    gateway::Denials,
    sessions::{Registry, Report, State, Usage},
};

/// Totals that the hub knows, to tell them again only when they have changed.
#[derive(Default)]
pub(super) struct Told {
    usage: HashMap<SessionId, Usage>,
    /// How many refused connections of each session.
    denials: HashMap<SessionId, u64>,
}

impl Told {
    /// What has happened to one session. First its final totals, so that they are there when it
    /// is over.
    pub fn report(&mut self, report: Report, registry: &Registry, clock: &Clock) -> Vec<FromAgent> {
        match report {
            Report::Running(id) => vec![messages::running(id)],
            Report::Ending(id) => {
                let ending = registry.ending(id);
                ending.map(|ending| messages::ending(id, &ending)).into_iter().collect()
            }
            Report::Ended(id) => {
                let Some(State::Ended(outcome)) = registry.state(id) else { return Vec::new() };
                let mut news = Vec::new();
                let known = self.usage.insert(id, outcome.usage);
                if known.unwrap_or_default() != outcome.usage {
                    news.push(messages::usage([(id, outcome.usage)], clock));
                }
                let denials = registry.denials_of(id);
                news.extend(denials.and_then(|denials| self.denials(id, &denials, clock)));
                news.push(messages::ended(id, &outcome.ending));
                news
            }
        }
    }

    /// Usage and refusals that are new, and every end that the hub has not acknowledged.
    pub fn news(&mut self, registry: &Registry, clock: &Clock) -> Vec<FromAgent> {
        let mut totals = registry.usage();
        totals.retain(|(id, usage)| self.usage.insert(*id, *usage) != Some(*usage));
        let totals = (!totals.is_empty()).then(|| messages::usage(totals, clock));
        let mut news: Vec<_> = totals.into_iter().collect();
        for (id, denials) in registry.denials() {
            news.extend(self.denials(id, &denials, clock));
        }
        for (id, state) in registry.inventory() {
            if let State::Ended(outcome) = state {
                news.push(messages::ended(id, &outcome.ending));
            }
        }
        news
    }

    /// The hub will not ask for this session again.
    pub fn forget(&mut self, id: SessionId) {
        self.usage.remove(&id);
        self.denials.remove(&id);
    }

    /// What a session's browser was refused since the last time.
    fn denials(&mut self, id: SessionId, denials: &Denials, clock: &Clock) -> Option<FromAgent> {
        let count = denials.count();
        let told = self.denials.insert(id, count).unwrap_or(0);
        (told != count).then(|| messages::denials(id, count, denials.since(told), clock))
    }
}
