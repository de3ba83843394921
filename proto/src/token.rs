//! The connect token: a JWT (RFC 7519) that opens the data plane of one session.
//!
//! EdDSA over Ed25519 (RFC 8037) and nothing else. The control plane signs, agents verify
//! with the public keys that the hub sends them. A token is a secret: it is never logged.

use serde::{Deserialize, Serialize};

use crate::id::{AgentId, SessionId, WorkspaceId};

/// The `iss` of every connect token.
pub const ISSUER: &str = "ventus";
/// The `aud` of every connect token.
pub const AUDIENCE: &str = "ventus-cdp";
/// The `scp` that lets its holder drive the browser.
pub const SCOPE_CDP: &str = "cdp";

/// What a connect token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectClaims {
    /// Who signed: [`ISSUER`].
    pub iss: String,
    /// Whom it is for: [`AUDIENCE`].
    pub aud: String,
    /// The session that it opens.
    pub sub: SessionId,
    /// The session's workspace.
    pub wid: WorkspaceId,
    /// The agent that runs the session.
    pub agt: AgentId,
    /// What it allows: [`SCOPE_CDP`].
    pub scp: String,
    /// When it was signed, Unix seconds.
    pub iat: i64,
    /// When it stops to count, Unix seconds: the session's deadline.
    pub exp: i64,
}
