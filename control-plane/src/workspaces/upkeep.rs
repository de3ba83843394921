//! Sees to it that nothing runs in a closed workspace, and deletes what is left of those that
//! were deleted, and of files and mails.

use std::time::Duration;

use proto::session::EndReason;
use tracing::info;

use super::purge;
use crate::{app::App, error::Error, files, sessions};

/// How long a session may run on in a workspace that was closed by others.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often to look for what is left.
pub const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Ends what runs in workspaces that are suspended or deleted.
pub async fn end_sessions(app: &App) -> sqlx::Result<()> {
    use sessions::store::{self, in_closed_workspaces};
    while !in_closed_workspaces(&mut app.db.read().await?).await?.is_empty() {
        let mut tx = app.db.begin().await?;
        let found = in_closed_workspaces(&mut tx).await?;
        let mut ended = Vec::new();
        for (id, why) in &found {
            ended.extend(store::end(&mut tx, *id, EndReason::Released, Some(why)).await?);
        }
        tx.commit().await?;
        for session in ended {
            app.metrics.ended(&session.region, EndReason::Released);
            info!(session = %session.id, workspace = %session.workspace_id, "released: its workspace is closed");
            if let Some(agent) = session.agent_id {
                app.hub.release(agent, session.id, EndReason::Released);
            }
            app.changes.wake(session.id);
        }
        if found.len() < store::ENDED_AT_ONCE || app.stop.is_cancelled() {
            break;
        }
    }
    Ok(())
}

/// Deletes what is left.
pub async fn sweep(app: &App) -> Result<(), Error> {
    app.mailer.forget_old().await;
    files::sweep::all(app).await?;
    purge::one(app).await
}
