//! How an error looks on HTTP: problem documents (RFC 9457), the same from both halves.
//!
//! A handler answers with a [`Problem`]; [`frame`], the outermost layer of every listener,
//! gives the request its id and turns the problem into a document. What something else
//! refused (an extractor, the router, a panic) becomes a problem there too, so no answer
//! outside 2xx and 3xx leaves without one.

#[cfg(test)]
mod costs;

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use problem_details::ProblemDetails;
use serde::{Deserialize, Serialize};
use tracing::{Instrument, error_span};
use ulid::Ulid;

use crate::trace::traceparent;

macro_rules! slugs {
    ($($variant:ident = $slug:literal, $status:ident, $title:literal, $meaning:literal;)+) => {
        /// The kinds of problem: the last part of their `type` URL.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[expect(missing_docs, reason = "each explains itself in `meaning`")]
        pub enum Slug { $($variant,)+ }

        impl Slug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in the `type` URL.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $slug,)+ }
            }

            /// The status that goes with it.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }

            /// The same few words for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }

            /// What it means and what to do about it: the text of the page at its URL.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }
        }
    };
}

slugs! {
    ValidationError = "validation-error", UNPROCESSABLE_ENTITY, "The request is not valid",
        "A field, parameter or header is missing, malformed, unknown or outside its limits. The member `errors` lists every fault with a JSON pointer. Malformed requests answer 400, well-formed ones that make no sense 422.";
    Unauthorized = "unauthorized", UNAUTHORIZED, "Not authenticated",
        "The credential is missing, malformed, unknown, expired or revoked. Send an API key as `Authorization: Bearer vs_…`; on the dashboard's routes a person's access token, `Bearer vd_…`; on the data plane send the connect token that came with the session.";
    Forbidden = "forbidden", FORBIDDEN, "Not allowed",
        "The credential is good, but not for this: the key or the role lacks the scope, the workspace is closed, a change by cookie came from another origin, or the connect token belongs to another session.";
    NotFound = "not-found", NOT_FOUND, "Not found",
        "Nothing is here, or nothing that this key may see.";
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "Method not allowed",
        "The path exists, but not with this method. The `Allow` header lists those that do.";
    Conflict = "conflict", CONFLICT, "Conflict with the current state",
        "The request does not fit the state that the thing is in.";
    Gone = "gone", GONE, "The session is over",
        "The session has ended and takes no more clients. Its `status_reason` says why.";
    PayloadTooLarge = "payload-too-large", PAYLOAD_TOO_LARGE, "The body is too large",
        "The request's body is over the limit of this route.";
    RangeNotSatisfiable = "range-not-satisfiable", RANGE_NOT_SATISFIABLE, "The range is outside the file",
        "The file ends before the `Range` that was asked for. The `Content-Range` header says how long it is.";
    UnsupportedMediaType = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "Unsupported media type",
        "Send the body as `Content-Type: application/json`.";
    IdempotencyKeyRequired = "idempotency-key-required", BAD_REQUEST, "An idempotency key is required",
        "Creating a session needs an `Idempotency-Key` header of 1 to 255 visible ASCII characters, new for each session wanted and the same for each retry.";
    IdempotencyKeyReused = "idempotency-key-reused", UNPROCESSABLE_ENTITY, "The idempotency key was used with another request",
        "Within 24 hours a key stands for one request. Use a new key for a different one.";
    UnknownRegion = "unknown-region", UNPROCESSABLE_ENTITY, "Unknown region",
        "No agent serves this region. `detail` names those that are known.";
    UnsupportedRuntime = "unsupported-runtime", UNPROCESSABLE_ENTITY, "Unsupported runtime",
        "This server runs no such `runtime_kind`.";
    UnknownProfile = "unknown-profile", UNPROCESSABLE_ENTITY, "Unknown profile",
        "The workspace has no profile with this id.";
    LastOwner = "last-owner", CONFLICT, "The last owner stays",
        "A workspace keeps at least one owner. Make someone else owner first.";
    RateLimited = "rate-limited", TOO_MANY_REQUESTS, "Too many requests",
        "The key is over its rate limit. `Retry-After` says when to try again.";
    ConcurrencyLimit = "concurrency-limit", TOO_MANY_REQUESTS, "Too many sessions at once",
        "The workspace has as many sessions at once as it may have. Release one, or wait for one to end; `Retry-After` says when to try again. Nothing was created, and the idempotency key is not used up.";
    InsufficientCapacity = "insufficient-capacity", SERVICE_UNAVAILABLE, "No capacity",
        "No slot became free in the time that the request was ready to wait. Nothing was created; retry with the same idempotency key after `Retry-After` seconds.";
    SessionNotReady = "session-not-ready", SERVICE_UNAVAILABLE, "The session is not ready",
        "The session's browser did not come up in time. Try again, or look at the session's events.";
    Internal = "internal", INTERNAL_SERVER_ERROR, "Internal error",
        "The server failed. Its log has the cause under the `request_id` of the answer.";
}

/// One fault of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) into the body, or `?name` for a parameter of the query.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

/// An answer that is not a success.
#[derive(Clone, Debug)]
pub struct Problem {
    slug: Slug,
    status: StatusCode,
    detail: String,
    errors: Vec<FieldError>,
    /// Beside those of every problem document.
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem with its slug's own status. `detail` is for the caller: no internals.
    pub fn new(slug: Slug, detail: impl Into<String>) -> Self {
        let mut headers = Vec::new();
        if slug == Slug::Unauthorized {
            headers.push((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        }
        Self { slug, status: slug.status(), detail: detail.into(), errors: Vec::new(), headers }
    }

    /// A request that cannot be read: 400.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, ..Self::new(Slug::ValidationError, detail) }
    }

    /// The problem of a document that another part of this server wrote. `None`: it is none.
    pub fn read(document: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Document {
            r#type: String,
            status: u16,
            detail: String,
            #[serde(default)]
            errors: Vec<FieldError>,
        }
        let document: Document = serde_json::from_slice(document).ok()?;
        let (_, slug) = document.r#type.rsplit_once("/errors/")?;
        let slug = *Slug::ALL.iter().find(|known| known.as_str() == slug)?;
        let status = StatusCode::from_u16(document.status).ok()?;
        let refuses = status.is_client_error() || status.is_server_error();
        refuses.then(|| Self {
            status,
            errors: document.errors,
            ..Self::new(slug, document.detail)
        })
    }

    /// The same problem with a list of what exactly is wrong.
    #[must_use]
    pub fn with_errors(self, errors: Vec<FieldError>) -> Self {
        Self { errors, ..self }
    }

    /// The same problem with a `Retry-After` in seconds.
    #[must_use]
    pub fn with_retry_after(self, seconds: u32) -> Self {
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The same problem with one header more.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The kind of problem.
    pub fn slug(&self) -> Slug {
        self.slug
    }

    /// The status that it answers with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What it tells the caller.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What exactly is wrong, if it is the request's content.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// The problem behind an answer that something other than our handlers gave.
    fn of_status(status: StatusCode) -> Self {
        let (slug, detail) = match status {
            StatusCode::UNAUTHORIZED => (Slug::Unauthorized, "the credential was not accepted"),
            StatusCode::FORBIDDEN => (Slug::Forbidden, "this is not allowed"),
            StatusCode::NOT_FOUND => (Slug::NotFound, "nothing is at this path"),
            StatusCode::METHOD_NOT_ALLOWED => {
                (Slug::MethodNotAllowed, "this path does not take this method")
            }
            StatusCode::PAYLOAD_TOO_LARGE => (Slug::PayloadTooLarge, "the body is too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                (Slug::UnsupportedMediaType, "the body must be application/json")
            }
            _ if status.is_client_error() => {
                (Slug::ValidationError, "the request could not be understood")
            }
            _ => (Slug::Internal, "the server failed to answer"),
        };
        Self { status, ..Self::new(slug, detail) }
    }

    fn render(self, frame: &Frame, instance: &str, request_id: &str) -> Response {
        #[derive(Debug, Serialize)]
        struct Extensions<'a> {
            request_id: &'a str,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            errors: Vec<FieldError>,
        }
        let kind: Uri =
            format!("{}/errors/{}", frame.base_url, self.slug.as_str()).parse().unwrap_or_default();
        let mut document = ProblemDetails::from_status_code(self.status)
            .with_type(kind)
            .with_title(self.slug.title())
            .with_detail(self.detail);
        if let Ok(instance) = instance.parse::<Uri>() {
            document = document.with_instance(instance);
        }
        let document = document.with_extensions(Extensions { request_id, errors: self.errors });
        let headers: HeaderMap = self.headers.into_iter().collect();
        (headers, Box::new(document)).into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// What [`frame`] needs to know.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Where this server is reached: scheme and authority, without a trailing slash.
    pub base_url: Arc<str>,
}

/// The id of a request, also in its answer's `X-Request-Id` and in every line logged for it.
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);

/// Headers that the answer to a request goes out with, whatever it turns out to be: also when
/// its handler panics. [`frame`] puts them into the extensions of every request.
#[derive(Clone, Debug, Default)]
pub struct AnswerHeaders(Arc<Mutex<HeaderMap>>);

impl AnswerHeaders {
    /// Adds a header, in place of one with this name.
    pub fn insert(&self, name: HeaderName, value: HeaderValue) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, value);
    }

    fn take(&self) -> HeaderMap {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest `X-Request-Id` that is taken over from a request, in bytes.
const REQUEST_ID_MAX: usize = 128;

impl RequestId {
    fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| {
            (1..=REQUEST_ID_MAX).contains(&id.len()) && id.bytes().all(|c| c.is_ascii_graphic())
        });
        Self(given.map_or_else(|| Ulid::generate().to_string(), str::to_owned).into())
    }
}

/// The outermost layer: request id, log span, and a problem document for every refusal.
pub async fn frame(State(frame): State<Frame>, mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    // The path alone: a query may hold a connect token.
    let path = request.uri().path().to_owned();
    // At this level so that also the errors of a log of errors alone say whose they are.
    let span = error_span!("request", request_id = %id.0, method = %request.method(), path,
        traceparent = traceparent(request.headers()));
    request.extensions_mut().insert(id.clone());
    let beside = AnswerHeaders::default();
    request.extensions_mut().insert(beside.clone());
    let mut response = next.run(request).instrument(span).await;
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        let problem = match response.extensions_mut().remove::<Problem>() {
            Some(problem) => problem,
            None => Problem { headers: kept(response.headers()), ..Problem::of_status(status) },
        };
        response = problem.render(&frame, &path, &id.0);
    }
    response.headers_mut().extend(beside.take());
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// What a refusal that we did not write ourselves keeps of its headers.
fn kept(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    [header::ALLOW, header::RETRY_AFTER]
        .into_iter()
        .filter_map(|name| Some((name.clone(), headers.get(name)?.clone())))
        .collect()
}

/// The page that a problem's `type` URL leads to, or `None` for an unknown slug.
pub fn page(slug: &str) -> Option<String> {
    let slug = Slug::ALL.iter().find(|known| known.as_str() == slug)?;
    Some(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <style>body{{font:16px/1.5 system-ui;max-width:40em;margin:4em auto;padding:0 1em}}</style>\
         <h1>{title}</h1><p><code>{slug}</code>, usually {status}</p><p>{meaning}</p></html>\n",
        title = slug.title(),
        slug = slug.as_str(),
        status = slug.status(),
        meaning = slug.meaning(),
    ))
}
