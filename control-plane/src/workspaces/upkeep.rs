//! Sees to it that nothing runs in a closed workspace, and deletes what has had its time:
//! workspaces after their grace, files that were given up, links, invitations, tokens, and keys that were revoked long
//! ago. Takes no input: it reads what to do from the database, so a restart, a second replica
//! or a change from the command line does no harm.

use std::time::Duration;

use proto::session::EndReason;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::purge;
use crate::{app::App, error::Error, files, invitations, keys, sessions, sign_in};

/// How long a session may run on in a workspace that was closed by others.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many looks lie between two sweeps of what is old.
const LOOKS_PER_SWEEP: u32 = 60;

/// Runs until it is stopped.
pub async fn run(app: App, stop: CancellationToken) {
    let mut tick = time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    for look in 0_u32.. {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => (),
        }
        if let Err(error) = end_sessions(&app).await {
            error!(
                ?error,
                "could not end the sessions of closed workspaces; the next look tries again"
            );
        }
        if look % LOOKS_PER_SWEEP == 0
            && let Err(error) = sweep(&app).await
        {
            error!(?error, "could not delete what is old; the next sweep tries again");
        }
    }
}

/// Ends what runs in workspaces that are suspended or deleted.
pub async fn end_sessions(app: &App) -> sqlx::Result<()> {
    let found = sessions::store::in_closed_workspaces(&mut app.db.read().await?).await?;
    if found.is_empty() {
        return Ok(());
    }
    let mut tx = app.db.begin().await?;
    let mut ended = Vec::new();
    for (id, why) in found {
        ended.extend(sessions::store::end(&mut tx, id, EndReason::Released, Some(why)).await?);
    }
    tx.commit().await?;
    for session in ended {
        info!(session = %session.id, workspace = %session.workspace_id, "released: its workspace is closed");
        if let Some(agent) = session.agent_id {
            app.hub.release(agent, session.id, EndReason::Released);
        }
        app.changes.wake(session.id);
    }
    Ok(())
}

/// Deletes what is old.
pub async fn sweep(app: &App) -> Result<(), Error> {
    let mut tx = app.db.begin().await?;
    sign_in::store::forget_old(&mut tx).await?;
    invitations::store::forget_expired(&mut tx).await?;
    keys::store::forget_revoked(&mut tx).await?;
    tx.commit().await?;
    app.mailer.forget_old().await;
    files::sweep::all(app).await?;
    purge::one(app).await
}
