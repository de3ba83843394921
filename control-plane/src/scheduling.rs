//! Which agents are asked for a slot first. Pure: no I/O, no clock, and chance is given.
//!
//! The best of a few that are taken at random is almost as good as the best of all, and costs
//! the same however many there are ("the power of two choices", Mitzenmacher 1996). Which one
//! is the best is known only when they are held: [`agents::slots`](crate::agents::slots).

use proto::id::AgentId;

/// How many are asked.
pub const ASKED: usize = 8;

/// The agents of a region that had room for a session when they were last looked at.
#[derive(Clone, Debug, Default)]
pub struct Open {
    /// Those with an idle browser.
    warm: Vec<AgentId>,
    cold: Vec<AgentId>,
}

impl Open {
    /// One more.
    pub fn add(&mut self, agent: AgentId, is_warm: bool) {
        if is_warm { &mut self.warm } else { &mut self.cold }.push(agent);
    }

    /// At most [`ASKED`] of them, but for some. Warm ones come first; among them each has the
    /// same chance, and so it has among the others.
    pub fn shortlist(&self, but: &[AgentId], chance: u32) -> Vec<AgentId> {
        let all = from_anywhere(&self.warm, chance).chain(from_anywhere(&self.cold, chance));
        all.filter(|agent| !but.contains(agent)).take(ASKED).collect()
    }
}

/// All of a list, from any of it to its end, then from its beginning.
fn from_anywhere(agents: &[AgentId], chance: u32) -> impl Iterator<Item = AgentId> {
    let first = (u64::from(chance) * agents.len() as u64) >> 32;
    let (before, from) = agents.split_at(first as usize);
    from.iter().chain(before).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    fn open(warm: usize, cold: usize) -> Open {
        let agents = |count| (0..count).map(|_| AgentId::generate()).collect();
        Open { warm: agents(warm), cold: agents(cold) }
    }

    #[test]
    fn each_agent_is_asked_as_often_as_any_other() {
        let (open, parts) = (open(0, 100), 100_000u32);
        let mut asked = HashMap::<_, u32>::new();
        for part in 0..parts {
            for agent in open.shortlist(&[], u32::MAX / parts * part) {
                *asked.entry(agent).or_default() += 1;
            }
        }
        let expected = parts * ASKED as u32 / 100;
        assert_eq!(asked.len(), 100);
        assert!(asked.values().all(|count| count.abs_diff(expected) < expected / 100), "{asked:?}");
    }

    proptest! {
        #[test]
        fn a_shortlist_is_as_long_as_it_can_be_and_warm_ones_come_first(
            (warm, cold, left_out) in (0usize..20, 0usize..20, 0usize..5),
            chance: u32,
        ) {
            let open = open(warm, cold);
            let all: Vec<_> = open.warm.iter().chain(&open.cold).copied().collect();
            let but: Vec<_> = all.iter().take(left_out).copied().collect();
            let list = open.shortlist(&but, chance);
            prop_assert_eq!(list.len(), (all.len() - but.len()).min(ASKED));
            prop_assert_eq!(list.iter().collect::<HashSet<_>>().len(), list.len());
            prop_assert!(list.iter().all(|agent| all.contains(agent) && !but.contains(agent)));
            let warm_asked = list.iter().filter(|agent| open.warm.contains(agent)).count();
            prop_assert_eq!(warm_asked, warm.saturating_sub(left_out).min(ASKED));
            prop_assert!(list[..warm_asked].iter().all(|agent| open.warm.contains(agent)));
        }
    }
}
