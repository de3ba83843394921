//! The way to a slot: at once where there is one, or through the queue.

use std::sync::Arc;

use proto::{id::AgentId, region::Region, trace};
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument, Span, error_span, info, info_span};

use super::{Request, Reserved};
use crate::{
    agents::slots::{self, Slot},
    app::App,
    audit::{self, Deed},
    db::Tx,
    error::Error,
    metrics::Stage,
    sessions::{
        SessionRow,
        changes::Seen,
        idempotency,
        inputs::{self, Inputs},
        queue::{LOOK_EVERY, Place, Standing},
        store,
    },
    workspaces,
};

/// Gets a slot, waiting for one if need be.
pub(super) async fn reserve(app: &App, request: &mut Request) -> Result<Reserved, Error> {
    if request.session.has_inputs() {
        // What the key stands for counts before what has become of a profile.
        if let Some(reserved) = attempt(app, request, &[]).await? {
            return Ok(reserved);
        }
        let inputs = inputs::prepare(app, request.workspace, &request.session).await?;
        request.inputs = inputs.map(Arc::new);
    }
    let request = &*request;
    // The usual case needs no look at what regions there are.
    if let Some(only) = request.region.only(app)
        && let Some(reserved) = attempt(app, request, &not_waited_for(app, &[only])).await?
    {
        return Ok(reserved);
    }
    let resolved = request.region.resolve(app, &mut app.db.read().await?).await;
    let (regions, others) = match resolved {
        Ok(resolved) => resolved,
        // What the key stands for counts before what has become of a region.
        Err(error) => return attempt(app, request, &[]).await?.ok_or(error),
    };
    if request.region.only(app).is_none()
        && let Some(reserved) = attempt(app, request, &not_waited_for(app, &regions)).await?
    {
        return Ok(reserved);
    }
    let began = Instant::now();
    let hurries = request.patience <= LOOK_EVERY;
    let Some(place) = app.queue.join(&regions, request.workspace, hurries) else {
        let estimate_seconds = app.queue.estimate(&regions);
        return Err(Error::QueueFull { regions, estimate_seconds });
    };
    let span = info_span!(target: trace::TARGET, "session.queue");
    match wait(app, request, &place).instrument(span).await? {
        Some(reserved) => {
            if let Reserved::New(seen, _) = &reserved {
                app.metrics.waited(&seen.row.region, began.elapsed());
                place.served(&seen.row.region);
            }
            Ok(reserved)
        }
        None => {
            if let Some(region) = regions.first() {
                app.metrics.waited(region, began.elapsed());
            }
            let waited_ms = u64::try_from(request.arrived.elapsed().as_millis());
            let mut standing = place.standing();
            if app.closing.is_cancelled() {
                // Elsewhere it may be served at once.
                standing = Standing { estimate_seconds: 1, ..standing };
            }
            let waited_ms = waited_ms.unwrap_or(u64::MAX);
            Err(Error::NoCapacity { regions, waited_ms, standing, others })
        }
    }
}

/// Those for which nobody waits: nobody is overtaken.
fn not_waited_for(app: &App, regions: &[Region]) -> Vec<Region> {
    regions.iter().filter(|region| !app.queue.is_waiting(region)).cloned().collect()
}

/// Tries whenever it is the request's turn and there may be room, until it has waited long
/// enough. Only waiting is cut short: an attempt may be about to commit.
async fn wait(app: &App, request: &Request, place: &Place) -> Result<Option<Reserved>, Error> {
    loop {
        let turn = tokio::select! {
            // A request that has no time to wait is not put off by a queue that it heads.
            biased;
            turn = place.turn() => turn,
            () = impatient(app, request) => return Ok(None),
        };
        if let Some(reserved) = attempt(app, request, &turn).await? {
            return Ok(Some(reserved));
        }
        // However often it is woken.
        if Instant::now() >= request.deadline() {
            return Ok(None);
        }
    }
}

/// Ends when the request has waited long enough, or is to wait elsewhere.
async fn impatient(app: &App, request: &Request) {
    tokio::select! {
        () = sleep_until(request.deadline()) => (),
        () = app.closing.cancelled() => (),
    }
}

/// Finds what the key stands for, or else a slot in the first of these regions that has one,
/// and records the session. `None` when there is no slot.
async fn attempt(
    app: &App,
    request: &Request,
    regions: &[Region],
) -> Result<Option<Reserved>, Error> {
    // A transaction for each: who looks through several regions holds no agents of one while
    // they wait for those of another.
    for region in regions {
        if let Some(reserved) = attempt_in(app, request, Some(region)).await? {
            return Ok(Some(reserved));
        }
    }
    if regions.is_empty() { attempt_in(app, request, None).await } else { Ok(None) }
}

async fn attempt_in(
    app: &App,
    request: &Request,
    region: Option<&Region>,
) -> Result<Option<Reserved>, Error> {
    let Some(name) = region.map(Region::as_str) else { return place(app, request, None).await };
    let span = info_span!(target: trace::TARGET, "session.place",
        ventus.region = name, ventus.placed = false);
    let placing = async {
        let reserved = place(app, request, region).await?;
        if matches!(reserved, Some(Reserved::New(..))) {
            Span::current().record("ventus.placed", true);
        }
        Ok(reserved)
    };
    placing.instrument(span).await
}

/// One transaction, or several if others are faster.
async fn place(
    app: &App,
    request: &Request,
    region: Option<&Region>,
) -> Result<Option<Reserved>, Error> {
    let began = Instant::now();
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
        check_limit(&mut tx, request).await?;
        let Some(region) = region else { return Ok(None) };
        let shortlist = app.hub.shortlist(region, &[]);
        let agent = match slots::hold(&mut tx, region, &shortlist, &[]).await? {
            Slot::On(agent) => agent,
            Slot::Contended(agent) if slots::wait_for(&mut tx, region, agent).await? => agent,
            // Others have filled it meanwhile.
            Slot::Contended(_) => continue,
            Slot::None => return Ok(None),
        };
        let now_us = tx.now_us().await?;
        let Some(row) = record(app, &mut tx, request, region, agent).await? else {
            // Another replica was faster with this key: take what it made.
            continue;
        };
        // In a task of its own: when the caller leaves now, the agent still hears of it. Its log
        // lines are the request's as well, and its spans in the request's trace.
        let log = error_span!("session", session = %row.id);
        let launch = app.tasks.spawn({
            let (app, inputs) = (app.clone(), request.inputs.clone());
            async move {
                let watch = app.changes.watch(row.id);
                tx.commit().await?;
                info!(%agent, region = %row.region, "placed");
                let none = Inputs::default();
                app.hub.assign(agent, &row, inputs.as_ref().map_or(&none, |ready| &ready.inputs));
                Ok::<_, Error>(Reserved::New(Box::new(Seen { row, now_us }), watch))
            }
            .instrument(log)
            .instrument(Span::current())
        });
        let reserved = launch.await.map_err(anyhow::Error::from)??;
        app.metrics.created(Stage::Queue, began - request.arrived);
        app.metrics.created(Stage::Place, began.elapsed());
        return Ok(Some(reserved));
    }
}

/// Refuses one session more than the workspace may have at once. Creates of a workspace with
/// a limit go one after the other, over all replicas: its row is held until the end.
async fn check_limit(tx: &mut Tx, request: &Request) -> Result<(), Error> {
    if request.sessions_at_once.is_none() {
        return Ok(());
    }
    let workspace = workspaces::store::lock(tx, request.workspace).await?;
    let limit = workspace.and_then(|workspace| workspace.sessions_at_once());
    // Counted by a statement of its own, as of when the row is held.
    match limit {
        Some(limit) if store::count_live(tx, request.workspace).await? >= i64::from(limit) => {
            Err(Error::ConcurrencyLimit(limit))
        }
        _ => Ok(()),
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
