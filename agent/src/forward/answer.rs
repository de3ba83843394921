//! Another agent's answer, as this one gives it to its client.

use axum::{
    body::{Body, to_bytes},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use hyper::body::Incoming;
use proto::problem::{Problem, Slug};

use super::{Asked, unreachable};

/// The largest answer that is taken, in bytes: a description of the protocol, or a list of
/// very many targets.
const ANSWER_MAX: usize = 16 << 20;

/// What switches the client's connection over.
pub(super) fn upgraded(answer: &http::Response<Incoming>) -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    for name in [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_ACCEPT] {
        if let Some(value) = answer.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// A page with the client's own token in its URLs, or the problem that there was.
pub(super) async fn translated(
    answer: http::Response<Incoming>,
    asked: &Asked<'_>,
    id: &str,
) -> Result<Response, Problem> {
    let (parts, body) = answer.into_parts();
    let body = to_bytes(Body::new(body), ANSWER_MAX)
        .await
        .map_err(|_| unreachable("the answer of the agent that runs the session broke off"))?;
    if parts.status == StatusCode::UNAUTHORIZED {
        // The client's own token was good. It is the other agent that does not know this one,
        // or their clocks are far apart.
        return Err(unreachable("the agent that runs the session does not know this one yet"));
    }
    if !parts.status.is_success() {
        let problem = Problem::read(&body).unwrap_or_else(|| {
            Problem::new(Slug::Internal, "the agent that runs the session failed")
        });
        let passed_on = [header::ALLOW, header::RETRY_AFTER, header::UPGRADE];
        return Err(passed_on.into_iter().fold(problem, |problem, name| {
            match parts.headers.get(&name) {
                Some(value) => problem.with_header(name, value.clone()),
                None => problem,
            }
        }));
    }
    let body = with_token(&body, id, asked.token);
    let mut response = (parts.status, body).into_response();
    let headers = response.headers_mut();
    if let Some(kind) = parts.headers.get(header::CONTENT_TYPE) {
        headers.insert(header::CONTENT_TYPE, kind.clone());
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn with_token(body: &Bytes, id: &str, token: &str) -> Bytes {
    let mut whole = Vec::new();
    let mut from = 0;
    for at in memchr::memmem::find_iter(body, id) {
        whole.extend_from_slice(&body[from..at]);
        whole.extend_from_slice(token.as_bytes());
        from = at + id.len();
    }
    if from == 0 {
        return body.clone();
    }
    whole.extend_from_slice(&body[from..]);
    whole.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_put_where_its_stand_in_is_and_nowhere_else() {
        let body = Bytes::from_static(b"a?token=ID1, b?token=ID1\n");
        assert_eq!(with_token(&body, "ID1", "real"), "a?token=real, b?token=real\n");
        assert_eq!(with_token(&body, "ID2", "real"), body);
        assert_eq!(with_token(&Bytes::new(), "ID1", "real"), "");
    }
}
