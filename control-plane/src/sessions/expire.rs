//! Ends sessions whose deadline has passed, and deletes idempotency keys, news, captures and
//! counts of requests whose time is over.
//! Takes no input: it reads what to do from the database, so a restart or a second replica
//! does no harm.

use std::time::Duration;

use proto::session::EndReason;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{SessionRow, captures, idempotency, store};
use crate::{app::App, outbox, rate_limits};

/// How late a session may end.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How many looks lie between two sweeps of what is old.
const LOOKS_PER_SWEEP: u32 = 120;

/// Runs until it is stopped.
pub async fn run(app: App, stop: CancellationToken) {
    let mut tick = time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    for look in 0_u32.. {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => (),
        }
        if let Err(error) = overdue(&app).await {
            error!(?error, "could not end overdue sessions; the next look tries again");
        }
        if look % LOOKS_PER_SWEEP == 0
            && let Err(error) = sweep(&app).await
        {
            error!(?error, "could not delete what is old; the next sweep tries again");
        }
    }
}

/// Ends what is overdue now.
pub async fn overdue(app: &App) -> sqlx::Result<()> {
    let overdue = store::overdue(&mut app.db.read().await?).await?;
    if overdue.is_empty() {
        return Ok(());
    }
    let mut tx = app.db.begin().await?;
    let mut ended: Vec<SessionRow> = Vec::new();
    for id in overdue {
        ended.extend(store::end(&mut tx, id, EndReason::Deadline, None).await?);
    }
    tx.commit().await?;
    for session in ended {
        info!(session = %session.id, "reached its deadline");
        if let Some(agent) = session.agent_id {
            app.hub.release(agent, session.id, EndReason::Deadline);
        }
        app.changes.wake(session.id);
    }
    Ok(())
}

async fn sweep(app: &App) -> sqlx::Result<()> {
    let mut tx = app.db.begin().await?;
    idempotency::purge(&mut tx).await?;
    outbox::forget_old(&mut tx).await?;
    rate_limits::store::forget_old(&mut tx).await?;
    captures::forget_stale(&mut tx).await?;
    tx.commit().await
}
