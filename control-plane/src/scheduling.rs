//! Which agent gets a session. Pure: no I/O, no clock, no chance.

use std::cmp::Ordering;

use proto::id::AgentId;

/// An agent that may take a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Which agent.
    pub id: AgentId,
    /// Sessions at once.
    pub capacity: u32,
    /// Sessions that hold a slot.
    pub in_use: u32,
    /// Idle browsers, as it last said.
    pub warm: u32,
}

impl Candidate {
    fn free(&self) -> u32 {
        self.capacity.saturating_sub(self.in_use)
    }

    /// Greater is better: a warm browser, then the greater free share, then more room.
    fn compare(&self, other: &Self) -> Ordering {
        // free/capacity of both, multiplied out.
        let share = u64::from(self.free()) * u64::from(other.capacity);
        let others = u64::from(other.free()) * u64::from(self.capacity);
        (self.warm > 0)
            .cmp(&(other.warm > 0))
            .then(share.cmp(&others))
            .then(self.free().cmp(&other.free()))
            .then(other.id.cmp(&self.id)) // any order will do, if it is always the same
    }
}

/// The best of those with room; `None` only when none has any.
pub fn place(candidates: &[Candidate]) -> Option<AgentId> {
    let with_room = candidates.iter().filter(|agent| agent.free() > 0);
    with_room.max_by(|a, b| a.compare(b)).map(|agent| agent.id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn agent(capacity: u32, in_use: u32, warm: u32) -> Candidate {
        Candidate { id: AgentId::generate(), capacity, in_use, warm }
    }

    #[test]
    fn sessions_spread_by_free_share() {
        let agents = [agent(10, 5, 0), agent(100, 40, 0), agent(4, 2, 0)];
        assert_eq!(place(&agents), Some(agents[1].id));
    }

    #[test]
    fn a_warm_browser_is_preferred_but_not_without_room() {
        let agents = [agent(10, 0, 0), agent(10, 9, 1)];
        assert_eq!(place(&agents), Some(agents[1].id));
        let agents = [agent(10, 9, 0), agent(10, 10, 1)];
        assert_eq!(place(&agents), Some(agents[0].id));
    }

    proptest! {
        #[test]
        fn an_agent_with_room_is_chosen_if_there_is_one(
            numbers in prop::collection::vec((0u32..6, 0u32..8, 0u32..3), 0..12),
        ) {
            let agents: Vec<_> = numbers.iter().map(|&(c, u, w)| agent(c, u, w)).collect();
            match place(&agents) {
                Some(chosen) => {
                    let chosen = agents.iter().find(|agent| agent.id == chosen).unwrap();
                    prop_assert!(chosen.in_use < chosen.capacity);
                    let warm = agents.iter().any(|agent| agent.free() > 0 && agent.warm > 0);
                    prop_assert_eq!(chosen.warm > 0, warm);
                }
                None => prop_assert!(agents.iter().all(|agent| agent.in_use >= agent.capacity)),
            }
        }

        #[test]
        fn filling_a_region_reaches_every_slot_and_exceeds_none(
            capacities in prop::collection::vec(0u32..6, 1..8),
        ) {
            let mut agents: Vec<_> = capacities.iter().map(|&c| agent(c, 0, 0)).collect();
            for _ in 0..capacities.iter().sum::<u32>() {
                let chosen = place(&agents).unwrap();
                agents.iter_mut().find(|agent| agent.id == chosen).unwrap().in_use += 1;
            }
            prop_assert!(agents.iter().all(|agent| agent.in_use == agent.capacity));
            prop_assert_eq!(place(&agents), None);
        }
    }
}
