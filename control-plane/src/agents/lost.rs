//! Declares agents lost whose lease has lapsed: their sessions end, their slots are free.

use std::time::Duration;

use proto::id::AgentId;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::store;
use crate::{app::App, sessions};

/// How often to look. A lapsed lease is noticed this much later at most.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Looks for lapsed leases, forever. Takes no input: what to do is in the database, so a
/// restart or a second replica does no harm.
pub async fn run(app: App, stop: CancellationToken) {
    let mut tick = time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => (),
        }
        if let Err(error) = declare_all(&app).await {
            error!(?error, "could not look for lost agents; the next tick tries again");
        }
    }
}

async fn declare_all(app: &App) -> sqlx::Result<()> {
    let lapsed = store::lapsed(&mut app.db.read().await?).await?;
    for agent in lapsed {
        declare(app, agent).await?;
    }
    Ok(())
}

/// Ends all that a lapsed agent ran, unless it has come back meanwhile.
pub(super) async fn declare(app: &App, agent: AgentId) -> sqlx::Result<()> {
    let mut tx = app.db.begin().await?;
    if !store::lock_lapsed(&mut tx, agent).await? {
        return Ok(());
    }
    let lost = sessions::lost_in(&mut tx, agent).await?;
    tx.commit().await?;
    warn!(%agent, "the agent's lease has lapsed: it is lost");
    lost.announce(app);
    Ok(())
}
