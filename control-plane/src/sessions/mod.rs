//! Sessions: one Chrome lent to one caller, for a time.
//!
//! ```text
//! request ─▶ queue ─▶ PROVISIONING ─▶ RUNNING ─▶ COMPLETED │ EXPIRED │ ERRORED
//!            (memory)       │ launch failed           ▲
//!                           └─▶ another agent, or ────┘
//! ```
//!
//! A session is a row from the moment that it has a slot; before that it is a waiting request
//! and nothing else. Its states follow one another only in [`store::start`] and
//! [`store::end`], each with its event in the same transaction. A session that is over may
//! still hold its slot: the slot is free when its agent has said that the browser is gone.

pub mod captures;
pub mod changes;
mod connect_url;
pub mod create;
pub mod denials;
pub mod egress;
pub mod end;
pub mod events;
pub mod expire;
pub mod force_stop;
pub mod get;
pub mod idempotency;
pub mod inputs;
pub mod keepalive;
pub mod list;
pub mod object;
pub mod prefer;
pub mod proxy;
pub mod queue;
mod reports;
pub mod save_profile;
pub mod store;
pub(crate) mod validate;
mod wanted;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use proto::{
    id::{AgentId, ProfileId, SessionId, WorkspaceId},
    region::Region,
    session::{EndReason, SessionStatus},
};
use serde::{Deserialize, Serialize};
use tracing::{Span, error_span};
use utoipa::ToSchema;

use crate::storage_state::StorageState;
use egress::Egress;
use proxy::Upstream;
pub use reports::{Reporter, ended, ending, lost, started, usage};
pub(crate) use wanted::ANY;

/// The size of a page's visible part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Viewport {
    /// Width in CSS pixels.
    #[schema(minimum = 100, maximum = 7680, example = 1280)]
    pub width: u32,
    /// Height in CSS pixels.
    #[schema(minimum = 100, maximum = 7680, example = 720)]
    pub height: u32,
}

/// What a caller wants, checked and with its defaults filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewSession {
    /// How long it may live, from its creation.
    pub timeout_seconds: u32,
    /// How long it outlives its last client; 0 is the agent's short reconnect grace.
    pub keep_alive_seconds: u32,
    /// The size of its pages.
    pub viewport: Viewport,
    /// Instead of the browser's own.
    pub user_agent: Option<String>,
    /// Where its traffic goes instead of straight out.
    pub proxy: Option<Upstream>,
    /// Where it may connect to, within what the server allows.
    pub egress: Option<Egress>,
    /// Whose content its browser begins with.
    pub profile_id: Option<ProfileId>,
    /// What its browser begins with, over the profile.
    pub storage_state: Option<StorageState>,
    /// The caller's own marks.
    pub labels: BTreeMap<String, String>,
}

impl NewSession {
    /// Whether its launch needs more than its row says.
    pub fn has_inputs(&self) -> bool {
        self.proxy.is_some() || self.profile_id.is_some() || self.storage_state.is_some()
    }
}

/// Why a session ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reason {
    /// For programs.
    pub code: EndReason,
    /// For people.
    pub message: String,
}

/// A session as the store has it. Times are Unix microseconds.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns explain themselves; see the migration")]
pub struct SessionRow {
    pub id: SessionId,
    pub workspace_id: WorkspaceId,
    pub region: Region,
    pub agent_id: Option<AgentId>,
    pub status: SessionStatus,
    pub reason: Option<Reason>,
    pub timeout_seconds: u32,
    pub keep_alive_seconds: u32,
    pub viewport: Viewport,
    pub user_agent: Option<String>,
    /// Without credentials.
    pub proxy_url: Option<String>,
    pub egress: Option<Egress>,
    /// Connections that its browser was refused.
    pub egress_denied: u64,
    pub profile_id: Option<ProfileId>,
    /// Whether its launch needs [`inputs`].
    pub has_inputs: bool,
    /// How often its keep-alive was restarted.
    pub keepalives: u64,
    pub labels: BTreeMap<String, String>,
    pub traceparent: String,
    /// Agents that failed to launch its browser.
    pub tried: Vec<AgentId>,
    /// Whether it still counts against its agent's capacity.
    pub slot_held: bool,
    pub created_us: i64,
    pub started_us: Option<i64>,
    pub ended_us: Option<i64>,
    pub expires_us: i64,
    pub last_seen_us: Option<i64>,
    pub cdp_messages: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub egress_bytes: u64,
    /// Where its agent takes clients.
    pub data_plane_url: Option<String>,
}

impl SessionRow {
    /// Whether it ended before its browser ever ran: to its creator the create failed.
    pub fn never_ran(&self) -> bool {
        self.status == SessionStatus::Errored && self.started_us.is_none()
    }

    /// What log lines are in that tell of it beyond its own request: its trace.
    pub fn log_span(&self) -> Span {
        match self.traceparent.as_str() {
            "" => Span::none(),
            traceparent => error_span!("session", traceparent),
        }
    }
}
