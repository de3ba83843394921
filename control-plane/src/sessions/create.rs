//! `POST /v1/sessions`
//!
//! A request gets a slot, or waits for one in its region's queue. Slot, session, first events
//! and idempotency record are one transaction. Once that is committed the session no longer
//! needs its request: agent and store bring it up, whoever still listens.

mod schema;

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use proto::{
    id::{AgentId, SessionId, WorkspaceId},
    problem::Problem,
    region::Region,
    session::SessionStatus,
};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::info;

use super::{
    NewSession, SessionRow,
    changes::Watch,
    idempotency,
    inputs::{self, Inputs, Ready},
    object::Session,
    prefer::Prefer,
    queue::Head,
    store, traceparent, validate,
};
use crate::{
    agents,
    api::{BodyFailure, Failure, NoCapacity},
    app::App,
    audit::{self, Actor, Deed},
    db::Tx,
    error::Error,
    keys::{Caller, Write},
    regions,
    request::{CREATE_LIMIT, Query, WrittenBody},
    scheduling,
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
/// When no slot is free the request waits, first come, first served in its region: 5 seconds,
/// or as many as `Prefer: wait=N` says (0 to 60, never longer than `timeout_seconds`). Then
/// it answers 503, and nothing was created. At most 1,000 requests wait for one region.
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
        NoCapacity,
    ))]
pub async fn handler(
    State(app): State<App>,
    caller: Caller<Write>,
    query: Query,
    headers: HeaderMap,
    body: WrittenBody<CREATE_LIMIT>,
) -> Result<Response, Problem> {
    query.allow_none()?;
    let key = idempotency::key(&headers)?;
    let prefer = Prefer::of(&headers);
    let mut request = Request::read(&app, caller, key, &body, prefer, &headers)?;
    let (created, Seen { row, now_us }) = create(&app, &mut request, prefer.respond_async).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let location = HeaderValue::try_from(format!("/v1/sessions/{}", row.id));
    let mut response = (status, Json(Session::of(&app, row, now_us))).into_response();
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
    /// `Err` for a name that no region can have.
    region: Result<Region, String>,
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
        app: &App,
        caller: Caller<Write>,
        key: String,
        body: &WrittenBody<CREATE_LIMIT>,
        prefer: Prefer,
        headers: &HeaderMap,
    ) -> Result<Self, Problem> {
        let validate::Create { region, session } = validate::create(&body.value, &body.text)?;
        let region = match region {
            None => Ok(app.config.default_region.clone()),
            Some(name) => name.parse().map_err(|_| name),
        };
        let lifetime = Duration::from_secs(session.timeout_seconds.into());
        Ok(Self {
            workspace: caller.workspace,
            actor: caller.actor,
            key,
            fingerprint: idempotency::fingerprint(&body.value),
            region,
            session,
            inputs: None,
            traceparent: traceparent::of(headers).unwrap_or_default(),
            arrived: Instant::now(),
            patience: prefer.wait().min(lifetime),
        })
    }

    fn deadline(&self) -> Instant {
        self.arrived + self.patience
    }
}

/// Makes the session, or finds the one that the key stands for. Says which of the two.
async fn create(
    app: &App,
    request: &mut Request,
    respond_async: bool,
) -> Result<(bool, Seen), Error> {
    let reserved = {
        let _turn = app.turns.take(request.workspace, &request.key).await;
        reserve(app, request).await?
    };
    let (created, seen) = match reserved {
        Reserved::New(seen, _) if respond_async => return Ok((true, *seen)),
        Reserved::New(seen, watch) => {
            let id = seen.row.id;
            (true, settled(app, id, Some(*seen), watch).await?)
        }
        Reserved::Known(id) => (false, settled(app, id, None, app.changes.watch(id)).await?),
    };
    if seen.row.never_ran() {
        return Err(Error::LaunchFailed(seen.row.region));
    }
    Ok((created, seen))
}

/// A session, and when it was so by the database's clock.
struct Seen {
    row: SessionRow,
    now_us: i64,
}

/// What a request has in the store.
enum Reserved {
    /// A session of its own, and a watch that has seen nothing of it yet.
    New(Box<Seen>, Watch),
    /// The session that its key stands for.
    Known(SessionId),
}

/// Gets a slot, waiting for one if need be.
async fn reserve(app: &App, request: &mut Request) -> Result<Reserved, Error> {
    if request.session.has_inputs() {
        // What the key stands for counts before what has become of a profile.
        if let Some(reserved) = attempt(app, request, false).await? {
            return Ok(reserved);
        }
        let inputs = inputs::prepare(app, request.workspace, &request.session).await?;
        request.inputs = inputs.map(Arc::new);
    }
    let request = &*request;
    let waiting = request.region.as_ref().is_ok_and(|region| app.queue.is_waiting(region));
    if let Some(reserved) = attempt(app, request, !waiting).await? {
        return Ok(reserved);
    }
    let regions: Vec<_> = regions::all(app).await?.into_iter().map(|row| row.region).collect();
    let region = match &request.region {
        Ok(region) if regions.contains(region) => region,
        Ok(region) => {
            return Err(Error::UnknownRegion { region: region.to_string(), known: regions });
        }
        Err(name) => return Err(Error::UnknownRegion { region: name.clone(), known: regions }),
    };
    let line = app.queue.line(region);
    let place = line.join().ok_or_else(|| Error::QueueFull(region.clone()))?;
    let reserved = tokio::select! {
        // A request that has no time to wait is not put off by a queue that it heads.
        biased;
        head = place.head() => at_head(app, request, &head).await?,
        () = impatient(app, request) => None,
    };
    reserved.ok_or_else(|| Error::NoCapacity {
        region: region.clone(),
        waited_ms: u64::try_from(request.arrived.elapsed().as_millis()).unwrap_or(u64::MAX),
        others: regions.into_iter().filter(|other| other != region).collect(),
    })
}

/// Tries whenever there may be room, until the request has waited long enough. Only waiting
/// is cut short: an attempt may be about to commit.
async fn at_head(app: &App, request: &Request, head: &Head<'_>) -> Result<Option<Reserved>, Error> {
    loop {
        if let Some(reserved) = attempt(app, request, true).await? {
            return Ok(Some(reserved));
        }
        tokio::select! {
            () = head.room() => (),
            () = impatient(app, request) => return Ok(None),
        }
    }
}

/// Ends when the request has waited long enough, or the server stops.
async fn impatient(app: &App, request: &Request) {
    tokio::select! {
        () = sleep_until(request.deadline()) => (),
        () = app.stop.cancelled() => (),
    }
}

/// One transaction: finds what the key stands for, or else a slot, and records the session.
/// `None` when there is no slot, or the request may not take one.
async fn attempt(app: &App, request: &Request, may_place: bool) -> Result<Option<Reserved>, Error> {
    loop {
        let mut tx = app.db.begin().await?;
        let known = idempotency::find(&mut tx, request.workspace, &request.key).await?;
        if let Some(known) = known {
            // What was read must be durable before it is told.
            tx.commit().await?;
            if known.fingerprint != request.fingerprint {
                return Err(Error::KeyReused);
            }
            return Ok(Some(Reserved::Known(known.session_id)));
        }
        let (Ok(region), true) = (&request.region, may_place) else { return Ok(None) };
        let agents = agents::store::lock_with_room(&mut tx, region).await?;
        let Some(agent) = scheduling::place(&agents) else { return Ok(None) };
        let now_us = tx.now_us().await?;
        let Some(row) = record(app, &mut tx, request, region, agent).await? else {
            // Another replica was faster with this key: take what it made.
            continue;
        };
        // In a task of its own: when the caller leaves now, the agent still hears of it.
        let launch = app.tasks.spawn({
            let (app, inputs) = (app.clone(), request.inputs.clone());
            async move {
                let watch = app.changes.watch(row.id);
                tx.commit().await?;
                info!(session = %row.id, %agent, region = %row.region, "placed");
                let none = Inputs::default();
                app.hub.assign(agent, &row, inputs.as_ref().map_or(&none, |ready| &ready.inputs));
                Ok::<_, Error>(Reserved::New(Box::new(Seen { row, now_us }), watch))
            }
        });
        return launch.await.map_err(anyhow::Error::from)?.map(Some);
    }
}

/// The session, its events, its key, and what its launch needs. `None` when the key is taken.
async fn record(
    app: &App,
    tx: &mut Tx,
    request: &Request,
    region: &Region,
    agent: AgentId,
) -> Result<Option<SessionRow>, Error> {
    let now_us = tx.now_us().await?;
    let waited_us = i64::try_from(request.arrived.elapsed().as_micros()).unwrap_or(0);
    let placed = store::Placed {
        workspace: request.workspace,
        region,
        agent,
        // In whole milliseconds, as callers see it, so that filters by time are exact.
        created_us: (now_us - waited_us) / 1000 * 1000,
        traceparent: &request.traceparent,
    };
    let row = store::insert(tx, &placed, &request.session).await?;
    let (key, fingerprint) = (&request.key, &request.fingerprint);
    if !idempotency::record(tx, request.workspace, key, fingerprint, row.id).await? {
        return Ok(None);
    }
    if let Some(inputs) = &request.inputs {
        inputs::insert(tx, &app.secrets, row.id, inputs).await?;
    }
    let deed = Deed {
        action: "session.create",
        target_kind: "session",
        target_id: &row.id.to_string(),
        detail: &[("region", region.as_str().into())],
    };
    audit::record(tx, request.workspace, &request.actor, deed).await?;
    Ok(Some(row))
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
        // Running into the limit is one of the two reasons to look again.
        let _ = timeout(LOOK_EVERY, watch.changed()).await;
    }
}

async fn look(app: &App, id: SessionId) -> Result<Seen, Error> {
    let mut tx = app.db.read().await?;
    let row = store::get(&mut tx, id).await?.ok_or(Error::NoSuchSession)?;
    Ok(Seen { row, now_us: tx.now_us().await? })
}
