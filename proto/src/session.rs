//! The states of a session, and why one ended.
//!
//! ```text
//! QUEUED ─▶ PROVISIONING ─▶ RUNNING ─▶ COMPLETED
//!    └──────────┴──────────────┴─────▶ EXPIRED
//!    └──────────┴──────────────┴─────▶ ERRORED
//! ```

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

macro_rules! names {
    ($(#[$doc:meta])* $kind:ident: $error:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        pub enum $kind {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)+
        }

        impl $kind {
            /// All of them, in the order of their drawing.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name on the wire and in the store.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $kind {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                Self::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or($error)
            }
        }

        #[doc = concat!("The text names no `", stringify!($kind), "`.")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
        #[error("unknown name")]
        pub struct $error;
    };
}

names! {
    /// What a session is doing. Final states never change.
    SessionStatus: NotAStatus {
        /// Waits for a slot.
        Queued = "QUEUED",
        /// Has a slot on an agent, which starts its browser.
        Provisioning = "PROVISIONING",
        /// Takes clients.
        Running = "RUNNING",
        /// Ended as its users wanted.
        Completed = "COMPLETED",
        /// Reached its deadline.
        Expired = "EXPIRED",
        /// Ended by a fault.
        Errored = "ERRORED",
    }
}

impl SessionStatus {
    /// Whether nothing follows this state.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Expired | Self::Errored)
    }
}

names! {
    /// Why a session ended: the code of its `status_reason`.
    EndReason: NotAReason {
        /// A request released it.
        Released = "released",
        /// Its last client left and its keep-alive ran out.
        Idle = "idle",
        /// A client closed the browser.
        ClosedByClient = "closed_by_client",
        /// It reached its deadline.
        Deadline = "deadline",
        /// No agent could start its browser.
        LaunchFailed = "launch_failed",
        /// Its browser died.
        BrowserCrashed = "browser_crashed",
        /// Its browser lived but did not answer any more.
        BrowserUnresponsive = "browser_unresponsive",
        /// Its browser took more of the machine than a session may.
        ResourceLimit = "resource_limit",
        /// Its agent died or lost its lease.
        AgentLost = "agent_lost",
        /// Its agent was drained, and it had not ended by itself in the time for that.
        AgentDrained = "agent_drained",
        /// An administrator stopped it.
        ForceStopped = "force_stopped",
    }
}

impl EndReason {
    /// The final state that this reason leads to.
    pub const fn status(self) -> SessionStatus {
        match self {
            Self::Released | Self::Idle | Self::ClosedByClient | Self::ForceStopped => {
                SessionStatus::Completed
            }
            Self::Deadline => SessionStatus::Expired,
            Self::LaunchFailed
            | Self::BrowserCrashed
            | Self::BrowserUnresponsive
            | Self::ResourceLimit
            | Self::AgentLost
            | Self::AgentDrained => SessionStatus::Errored,
        }
    }

    /// The reason in a sentence, for people.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Released => "released by request",
            Self::Idle => "the last client left and the keep-alive ran out",
            Self::ClosedByClient => "a client closed the browser",
            Self::Deadline => "the session reached its deadline",
            Self::LaunchFailed => "the browser could not be started",
            Self::BrowserCrashed => "the browser ended unexpectedly",
            Self::BrowserUnresponsive => "the browser did not answer any more",
            Self::ResourceLimit => "the browser took more of the machine than a session may",
            Self::AgentLost => "the agent that ran the browser was lost",
            Self::AgentDrained => "the agent that ran the browser was taken out of service",
            Self::ForceStopped => "stopped by an administrator",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_leads_to_a_final_state() {
        for reason in EndReason::ALL {
            assert!(reason.status().is_final(), "{reason}");
        }
    }

    #[test]
    fn names_survive_their_text() {
        for status in SessionStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(*status));
        }
        for reason in EndReason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(*reason));
        }
        assert_eq!("running".parse::<SessionStatus>(), Err(NotAStatus));
    }
}
