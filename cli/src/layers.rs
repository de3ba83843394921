//! What every answer passes on its way out, the same on every listener.

use std::{any::Any, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use proto::problem::{self, Frame, Problem, Slug};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{
        CompressionLayer,
        predicate::{DefaultPredicate, NotForContentType, Predicate},
    },
    timeout::{DeadlineBody, TimeoutBody},
};
use tracing::error;

/// How long a request's body may take to arrive.
const BODY: Duration = Duration::from_secs(30);
/// How long a file may take, and how long nothing of it may come.
const FILE: Duration = Duration::from_secs(15 * 60);
const FILE_SILENCE: Duration = Duration::from_secs(30);

/// The routes with all that goes around them. From the outside in: headers that guard an
/// answer, request id and problem documents, panics, compression, the body's deadline.
pub fn around(routes: Router, base_url: &str) -> Router {
    let frame = Frame { base_url: base_url.into() };
    // Files are what they are: parts of them are asked for by their place.
    let files = NotForContentType::const_new("application/octet-stream");
    let compressible = DefaultPredicate::new().and(not_an_upgrade).and(files);
    routes
        .layer(middleware::from_fn(in_time))
        .layer(CompressionLayer::new().compress_when(compressible))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(frame, problem::frame))
        .layer(middleware::from_fn(guarded))
}

/// Bodies arrive in time, or are given up.
async fn in_time(request: Request, next: Next) -> Response {
    let is_file = request.method() == Method::PUT && request.uri().path().contains("/uploads/");
    let request = request.map(|body| {
        if is_file {
            Body::new(DeadlineBody::new(FILE, Box::pin(TimeoutBody::new(FILE_SILENCE, body))))
        } else {
            Body::new(DeadlineBody::new(BODY, body))
        }
    });
    next.run(request).await
}

/// What follows a 101 is another protocol's business.
fn not_an_upgrade(status: StatusCode, _: Version, _: &HeaderMap, _: &Extensions) -> bool {
    status != StatusCode::SWITCHING_PROTOCOLS
}

/// What keeps answers where they belong. Those of the API and of the data plane hold connect
/// tokens: no cache may keep them. URLs hold them, too: no other site may learn them from a
/// page of ours. And what an answer is, its `Content-Type` says.
async fn guarded(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let secret = ["/v1/", "/json", "/devtools/"].iter().any(|prefix| path.starts_with(prefix));
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let mut set = |name, value| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if secret {
        set(header::CACHE_CONTROL, "no-store");
    }
    response
}

fn panicked(panic: Box<dyn Any + Send>) -> Response<Body> {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    error!(panic = text.unwrap_or("of an unknown kind"), "a handler panicked");
    Problem::new(Slug::Internal, "the server failed to answer").into_response()
}

#[cfg(test)]
mod tests {
    use axum::{
        body::to_bytes,
        routing::{get, post},
    };
    use proto::problem::AnswerHeaders;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;

    fn app() -> Router {
        let routes = Router::new()
            .route("/v1/long", get(|| async { "long ".repeat(1000) }))
            .route("/v1/only-post", post(|| async {}))
            .route("/v1/panics", get(panics));
        around(routes, "http://base")
    }

    async fn panics(request: Request) {
        let answer = request.extensions().get::<AnswerHeaders>().unwrap();
        answer.insert(header::AGE, HeaderValue::from_static("7"));
        panic!("on purpose");
    }

    async fn ask(path: &str, encoding: &str) -> Response {
        let request = Request::builder()
            .uri(path)
            .header(header::ACCEPT_ENCODING, encoding)
            .body(Body::empty())
            .unwrap();
        app().oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn every_refusal_is_a_problem_document() {
        for (path, status, slug) in [
            ("/nowhere", 404, "not-found"),
            ("/v1/only-post", 405, "method-not-allowed"),
            ("/v1/panics", 500, "internal"),
        ] {
            let response = ask(path, "gzip").await;
            assert_eq!(response.status(), status, "{path}");
            let headers = response.headers().clone();
            assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json", "{path}");
            let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            let problem: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem["type"], format!("http://base/errors/{slug}"));
            assert_eq!(problem["instance"], path);
            assert_eq!(problem["request_id"], headers["x-request-id"].to_str().unwrap());
        }
    }

    #[tokio::test]
    async fn what_goes_with_any_answer_goes_with_that_to_a_panic() {
        assert_eq!(ask("/v1/panics", "").await.headers()[header::AGE], "7");
    }

    #[tokio::test]
    async fn a_wrong_method_is_told_the_right_ones() {
        assert_eq!(ask("/v1/only-post", "").await.headers()[header::ALLOW], "POST");
    }

    #[tokio::test]
    async fn answers_are_compressed_as_asked_and_never_stored() {
        for encoding in ["gzip", "br", "zstd"] {
            let response = ask("/v1/long", encoding).await;
            assert_eq!(response.headers()[header::CONTENT_ENCODING], encoding);
            assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
            assert_eq!(response.headers()[header::REFERRER_POLICY], "no-referrer");
            assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        }
        assert!(
            !ask("/v1/long", "identity").await.headers().contains_key(header::CONTENT_ENCODING)
        );
    }
}
