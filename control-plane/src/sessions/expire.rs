//! Ends sessions whose deadline has passed.

use std::time::Duration;

use proto::session::EndReason;
use tracing::info;

use super::{SessionRow, store};
use crate::app::App;

/// How late a session may end.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Ends what is overdue now.
pub async fn overdue(app: &App) -> sqlx::Result<()> {
    while !store::overdue(&mut app.db.read().await?).await?.is_empty() {
        let mut tx = app.db.begin().await?;
        let overdue = store::overdue(&mut tx).await?;
        let mut ended: Vec<SessionRow> = Vec::new();
        for id in &overdue {
            ended.extend(store::end(&mut tx, *id, EndReason::Deadline, None).await?);
        }
        tx.commit().await?;
        for session in ended {
            app.metrics.ended(&session.region, EndReason::Deadline);
            session.log_span().in_scope(|| info!(session = %session.id, "reached its deadline"));
            if let Some(agent) = session.agent_id {
                app.hub.release(agent, session.id, EndReason::Deadline);
            }
            app.changes.wake(session.id);
        }
        if overdue.len() < store::ENDED_AT_ONCE || app.stop.is_cancelled() {
            break;
        }
    }
    Ok(())
}
