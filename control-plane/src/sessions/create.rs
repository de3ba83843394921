//! `POST /v1/sessions`
//!
//! A request gets a slot, or waits for one in its region's queue. Slot, session, first events
//! and idempotency record are one transaction. Once that is committed the session no longer
//! needs its request: agent and store bring it up, whoever still listens.

mod place;
mod schema;

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use proto::{
    id::{SessionId, WorkspaceId},
    problem::Problem,
    session::SessionStatus,
    trace,
};
use tokio::time::{Instant, timeout};
use tracing::{Span, field::display};

use super::{
    NewSession,
    changes::{Seen, Watch},
    idempotency,
    inputs::Ready,
    object::Session,
    prefer::Prefer,
    store, validate,
    wanted::Wanted,
};
use crate::{
    api::{BodyFailure, Failure, NoCapacity, NoMoreSessions},
    app::App,
    audit::Actor,
    error::Error,
    keys::{Caller, Write},
    metrics::Stage,
    request::{CREATE_LIMIT, Query, Reached, WrittenBody},
};

/// How often a waiting create looks at the store without having been woken.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a create waits for the browser. Agents give up on a launch sooner than this.
const LAUNCH_PATIENCE: Duration = Duration::from_secs(120);

/// Create a session
///
/// Answers once the browser is there: 201 with a `connect_url` that works at once. With
/// `Prefer: respond-async` it answers as soon as a slot is reserved, with `PROVISIONING`.
///
/// With several regions, or `any`, the session runs in the first of them that has room.
///
/// When no slot is free the request waits: 5 seconds, or as many as `Prefer: wait=N` says (0 to
/// 60, never longer than `timeout_seconds`). In each region workspaces take turns, and a
/// workspace's requests are served in the order in which they came. Then it answers 503 with
/// where it stood in the queue, and nothing was created. At most 1,000 requests wait for one
/// region. A workspace that has as many sessions as it may have does not wait: 429.
///
/// A repetition with the same `Idempotency-Key` and body within 24 hours answers 200 with the
/// same session as it now is; a create that failed does not use its key up.
#[utoipa::path(post, path = "/v1/sessions", tag = "sessions", operation_id = "createSession",
    params(
        ("Idempotency-Key" = String, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$", description = "1 to 255 visible ASCII characters: new for each session wanted, the same for each retry", example = "3f0c9d1e-5b7a"),
        ("Prefer" = Option<String>, Header, description = "`respond-async` and `wait=N` (RFC 7240)", example = "wait=30"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, carried to the agent", example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ),
    request_body(content = schema::CreateSession, example = json!({"timeout_seconds": 600, "labels": {"team": "search"}})),
    security(("api_key" = ["sessions:write"])),
    responses(
        (status = 200, description = "The session that this key stands for already, as it now is", body = Session),
        (status = 201, description = "The new session", body = Session,
            headers(("Location" = String, description = "The session's path"),
                ("Preference-Applied" = String, description = "What was granted of `Prefer`"))),
        Failure,
        BodyFailure,
        NoMoreSessions,
        NoCapacity,
    ))]
pub async fn handler(
    State(app): State<App>,
    caller: Caller<Write>,
    reached: Reached,
    query: Query,
    headers: HeaderMap,
    body: WrittenBody<CREATE_LIMIT>,
) -> Result<Response, Problem> {
    query.allow_none()?;
    let key = idempotency::key(&headers)?;
    let prefer = Prefer::of(&headers);
    let mut request = Request::read(caller, key, &body, prefer, &headers)?;
    let (created, Seen { row, now_us }) = create(&app, &mut request, prefer.respond_async).await?;
    Span::current().record("ventus.session.id", display(row.id));
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let location = HeaderValue::try_from(format!("/v1/sessions/{}", row.id));
    let mut response =
        (status, Json(Session::of(&app, row, now_us).reached(&app, &reached))).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if let Some(applied) = prefer.applied() {
        let name = HeaderName::from_static("preference-applied");
        response.headers_mut().insert(name, applied);
    }
    Ok(response)
}

/// A create that was understood.
struct Request {
    workspace: WorkspaceId,
    actor: Actor,
    key: String,
    fingerprint: Vec<u8>,
    region: Wanted,
    /// How many sessions the workspace may have at once, if that is bounded.
    sessions_at_once: Option<u32>,
    session: NewSession,
    /// What its launch needs beside its row, once that has been put together.
    inputs: Option<Arc<Ready>>,
    traceparent: String,
    arrived: Instant,
    /// How long it waits for a slot.
    patience: Duration,
}

impl Request {
    fn read(
        caller: Caller<Write>,
        key: String,
        body: &WrittenBody<CREATE_LIMIT>,
        prefer: Prefer,
        headers: &HeaderMap,
    ) -> Result<Self, Problem> {
        let validate::Create { region, session } = validate::create(&body.value, &body.text)?;
        let lifetime = Duration::from_secs(session.timeout_seconds.into());
        Ok(Self {
            workspace: caller.workspace,
            actor: caller.actor,
            key,
            fingerprint: idempotency::fingerprint(&body.value),
            region,
            sessions_at_once: caller.sessions_at_once,
            session,
            inputs: None,
            traceparent: traceparent_of(headers),
            arrived: Instant::now(),
            patience: prefer.wait().min(lifetime),
        })
    }

    fn deadline(&self) -> Instant {
        self.arrived + self.patience
    }
}

/// What the session's own spans continue: the request's span if it is exported, else what the
/// caller sent, or nothing.
fn traceparent_of(headers: &HeaderMap) -> String {
    let sent = || trace::traceparent(headers).map(str::to_owned);
    trace::current().or_else(sent).unwrap_or_default()
}

/// Makes the session, or finds the one that the key stands for. Says which of the two.
async fn create(
    app: &App,
    request: &mut Request,
    respond_async: bool,
) -> Result<(bool, Seen), Error> {
    let reserved = {
        let _turn = app.turns.take(request.workspace, &request.key).await;
        place::reserve(app, request).await?
    };
    let (created, seen) = match reserved {
        Reserved::New(seen, _) if respond_async => return Ok((true, *seen)),
        Reserved::New(seen, watch) => {
            let (id, placed) = (seen.row.id, Instant::now());
            let seen = settled(app, id, Some(*seen), watch).await?;
            if seen.row.status == SessionStatus::Running {
                app.metrics.created(Stage::Launch, placed.elapsed());
                app.metrics.created(Stage::Total, request.arrived.elapsed());
            }
            (true, seen)
        }
        Reserved::Known(id) => (false, settled(app, id, None, app.changes.watch(id)).await?),
    };
    if seen.row.never_ran() {
        return Err(Error::LaunchFailed(seen.row.region));
    }
    Ok((created, seen))
}

/// What a request has in the store.
enum Reserved {
    /// A session of its own, and a watch that has seen nothing of it yet.
    New(Box<Seen>, Watch),
    /// The session that its key stands for.
    Known(SessionId),
}

/// Waits until the session runs or is over. `seen` is what is known of it so far.
async fn settled(
    app: &App,
    id: SessionId,
    mut seen: Option<Seen>,
    mut watch: Watch,
) -> Result<Seen, Error> {
    let deadline = Instant::now() + LAUNCH_PATIENCE;
    loop {
        let known = match seen.take() {
            Some(seen) => seen,
            None => look(app, id).await?,
        };
        let status = known.row.status;
        let comes_up = matches!(status, SessionStatus::Queued | SessionStatus::Provisioning);
        if !comes_up || Instant::now() >= deadline {
            return Ok(known);
        }
        // Running into the limit is one of the reasons to look again.
        let told = timeout(LOOK_EVERY, watch.changed()).await;
        seen = told.ok().flatten().map(|told| *told);
    }
}

async fn look(app: &App, id: SessionId) -> Result<Seen, Error> {
    let mut tx = app.db.read().await?;
    let row = store::get(&mut tx, id).await?.ok_or(Error::NoSuchSession)?;
    Ok(Seen { row, now_us: tx.now_us().await? })
}
