//! The URL that a CDP client dials: the data plane of the session's agent, with a token.

use proto::token::{AUDIENCE, ConnectClaims, ISSUER, SCOPE_CDP};

use super::SessionRow;
use crate::app::App;

/// A connect URL with a fresh token, or `None` for a session that is over or has no agent.
/// The token ends with the session's deadline. It is a secret: never log it.
pub fn of(app: &App, session: &SessionRow, now_us: i64) -> Option<String> {
    if session.status.is_final() {
        return None;
    }
    let (agent, host) = (session.agent_id?, session.data_plane_url.as_ref()?);
    let token = app.signer.connect_token(&ConnectClaims {
        iss: ISSUER.to_owned(),
        aud: AUDIENCE.to_owned(),
        sub: session.id,
        wid: session.workspace_id,
        agt: agent,
        scp: SCOPE_CDP.to_owned(),
        iat: now_us / 1_000_000,
        // Rounded up: a token must not end before its session.
        exp: session.expires_us / 1_000_000 + 1,
    });
    Some(format!("{host}/v1/sessions/{}/cdp?token={token}", session.id))
}
