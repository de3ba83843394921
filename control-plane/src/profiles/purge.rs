//! Deletes the profiles of a workspace that is deleted for good, their contents included.

use proto::id::WorkspaceId;

use super::{content, store};
use crate::app::App;

/// How many to look up at once.
const SOME: i64 = 100;

/// Deletes all of them, one by one: each may be large.
pub async fn all_of(app: &App, workspace: WorkspaceId) -> sqlx::Result<()> {
    loop {
        let page = store::page(&mut app.db.read().await?, workspace, None, SOME).await?;
        if page.is_empty() {
            return Ok(());
        }
        for profile in page {
            let mut tx = app.db.begin().await?;
            // Another replica may be at it too.
            let Some(held) = store::lock(&mut tx, workspace, profile.id).await? else { continue };
            store::delete(&mut tx, profile.id, &held).await?;
            tx.commit().await?;
            content::forget(app, profile.id, &held).await;
        }
    }
}
