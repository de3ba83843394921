//! What the control plane and the agents must agree on: the protocol between them, ids,
//! the states of a session, the claims of a connect token, where browsers may connect to, how
//! an error looks on HTTP, and how a trace goes from one to the other.

pub mod egress;
pub mod id;
pub mod pem;
pub mod pod;
pub mod problem;
pub mod reached;
pub mod region;
pub mod session;
pub mod token;
pub mod trace;
pub mod version;

/// The agent protocol, generated from `proto/ventus/agent/v1/agent.proto`.
#[expect(missing_docs, reason = "generated; documented in the .proto file")]
pub mod agent {
    tonic::include_proto!("ventus.agent.v1");
}

/// Version of the agent protocol that this build speaks; [`version`] says with whom.
pub const PROTOCOL_VERSION: u32 = 2;

/// Metadata of a refused attach: for so many milliseconds nobody judges the agent's lease, as with
/// `held_ms` of a `Lease`. Without it the refusal says nothing of leases.
pub const HELD_MS: &str = "ventus-held-ms";

/// Upper bounds of the buckets of every histogram of both halves, in seconds: half a millisecond, as
/// a command may take, to the minute that a request may wait.
pub const SPAN_BOUNDS_SECONDS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

/// The largest message of the agent protocol in bytes: a storage state, and what goes with it.
pub const MESSAGE_MAX: usize = STORAGE_STATE_MAX + (1 << 20);

/// The largest storage state in bytes of JSON, whether it comes from a caller, a profile and
/// a caller together, or a browser.
pub const STORAGE_STATE_MAX: usize = 16 << 20;
