//! How a client asks for a WebSocket (RFC 6455, section 4.2), and how it is answered.

use axum::extract::Request;
use http::{HeaderMap, HeaderValue, header};
use proto::problem::Problem;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// WebSocket protocol by which a page brings its connect token, as it can set no header:
/// `new WebSocket(url, ["ventus.cdp", "ventus.token.<token>"])`.
const TOKEN_PROTOCOL: &str = "ventus.token.";

/// The protocol that is chosen then, so that the answer does not repeat the token.
const PROTOCOL: &str = "ventus.cdp";

/// The connect token among the protocols that a client offers.
pub fn token(headers: &HeaderMap) -> Option<&str> {
    protocols(headers).find_map(|name| name.strip_prefix(TOKEN_PROTOCOL))
}

/// The protocols that a client offers.
fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}

/// The one that is chosen. Clients that offer any insist on one of them: ours, or the token's
/// if there is no other of ours.
pub fn protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let ours = protocols(headers).find(|name| *name == PROTOCOL);
    let token = || protocols(headers).find(|name| name.starts_with(TOKEN_PROTOCOL));
    ours.or_else(token).and_then(|name| HeaderValue::from_str(name).ok())
}

/// What answers the client's key, if this is a WebSocket upgrade (RFC 6455, section 4.2.1).
pub fn accept_key(request: &Request) -> Result<HeaderValue, Problem> {
    let headers = request.headers();
    let has = |name, wanted: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(wanted)))
    };
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    // 16 bytes in base64.
    let key = key.filter(|key| key.len() == 24 && key.ends_with(b"=="));
    let upgrade = request.method() == http::Method::GET
        && has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    key.filter(|_| upgrade)
        .and_then(|key| HeaderValue::from_str(&derive_accept_key(key)).ok())
        .ok_or_else(|| {
            Problem::malformed("this is a WebSocket endpoint: connect a CDP client to it")
                .with_header(header::UPGRADE, HeaderValue::from_static("websocket"))
                .with_header(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
        })
}
