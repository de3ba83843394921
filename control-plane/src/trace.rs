//! The span of a request, which all other spans of what it asked for are below.

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use http::Method;
use proto::{
    problem::RequestId,
    trace::{TARGET, continues, failed, traceparent},
};
use tracing::{Instrument, Span, field::Empty, info_span};

/// Routes that are asked all the time, and of which there is nothing to tell.
const PROBES: [&str; 3] = ["/healthz", "/readyz", "/v1/health"];

/// Serves a request in a span of its own, named and described by OpenTelemetry's conventions
/// for HTTP servers. It tells of the route, never of the path: that may hold what people call
/// their files.
pub async fn request(request: Request, next: Next) -> Response {
    let span = of(&request);
    if span.is_disabled() {
        return next.run(request).await;
    }
    continues(&span, traceparent(request.headers()).unwrap_or_default());
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        failed(span, status.as_str());
    }
    response
}

fn of(request: &Request) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    if PROBES.contains(&route) {
        return Span::none();
    }
    let method = known(request.method());
    let id = request.extensions().get::<RequestId>().map(|id| &*id.0);
    info_span!(target: TARGET, "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        "error.type" = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        ventus.request.id = id,
        ventus.session.id = Empty)
}

/// Whatever a caller makes up is one other method.
fn known(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::OPTIONS => method.as_str(),
        _ => "_OTHER",
    }
}
