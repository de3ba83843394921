//! Which versions of the agent protocol get along.
//!
//! A hub takes agents of its own version and of the one before. So a server is upgraded hubs
//! first, then the agents one after the other, and nothing stands still meanwhile.

/// A hub and an agent whose versions are too far apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The hub has left the agent's version behind.
    #[error(
        "the control plane speaks versions {} and {hub} of the agent protocol, the agent {agent}: \
         upgrade the agent",
        hub.saturating_sub(1)
    )]
    AgentTooOld {
        /// The hub's newest version.
        hub: u32,
        /// The agent's version.
        agent: u32,
    },
    /// The hub does not know the agent's version yet.
    #[error(
        "the control plane speaks versions {} and {hub} of the agent protocol, the agent {agent}: \
         upgrade the control plane first",
        hub.saturating_sub(1)
    )]
    HubTooOld {
        /// The hub's newest version.
        hub: u32,
        /// The agent's version.
        agent: u32,
    },
}

/// Whether a hub and an agent of these versions may talk to each other.
///
/// # Errors
///
/// Says which of the two has to be upgraded.
pub fn check(hub: u32, agent: u32) -> Result<(), Mismatch> {
    if agent > hub {
        Err(Mismatch::HubTooOld { hub, agent })
    } else if agent == 0 || agent + 1 < hub {
        Err(Mismatch::AgentTooOld { hub, agent })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PROTOCOL_VERSION;

    #[test]
    fn a_hub_takes_its_own_version_and_the_one_before() {
        assert_eq!(check(PROTOCOL_VERSION, PROTOCOL_VERSION), Ok(()));
        assert_eq!(check(7, 7), Ok(()));
        assert_eq!(check(7, 6), Ok(()));
        assert_eq!(check(7, 5), Err(Mismatch::AgentTooOld { hub: 7, agent: 5 }));
        assert_eq!(check(7, 8), Err(Mismatch::HubTooOld { hub: 7, agent: 8 }));
        assert_eq!(check(1, 0), Err(Mismatch::AgentTooOld { hub: 1, agent: 0 }), "it says none");
    }

    #[test]
    fn a_mismatch_says_who_is_to_be_upgraded() {
        assert_eq!(
            check(7, 5).unwrap_err().to_string(),
            "the control plane speaks versions 6 and 7 of the agent protocol, the agent 5: \
             upgrade the agent"
        );
        assert!(check(7, 8).unwrap_err().to_string().ends_with("upgrade the control plane first"));
    }
}
