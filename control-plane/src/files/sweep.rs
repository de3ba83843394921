//! Deletes what is left of files that are not there any more, a few chunks a transaction:
//! others want to write meanwhile.

use proto::id::WorkspaceId;
use tracing::error;

use super::store;
use crate::{app::App, error::Error};

/// Longer than any file takes to be written, in microseconds.
const STALE_US: i64 = 3_600 * 1_000_000;

/// Deletes what is left, in the background.
pub fn soon(app: &App) {
    let sweeping = app.clone();
    app.tasks.spawn(async move {
        if let Err(error) = what_is_gone(&sweeping).await {
            error!(?error, "could not delete what is left of files; the next sweep tries again");
        }
    });
}

/// Gives up what nobody writes any more, and deletes all that is left.
pub async fn all(app: &App) -> Result<(), Error> {
    let mut tx = app.db.begin().await?;
    store::give_up_stale(&mut tx, STALE_US).await?;
    tx.commit().await?;
    what_is_gone(app).await
}

/// Deletes all files of a workspace that is deleted for good.
pub async fn workspace(app: &App, id: WorkspaceId) -> Result<(), Error> {
    let mut tx = app.db.begin().await?;
    store::give_up_all(&mut tx, id).await?;
    tx.commit().await?;
    what_is_gone(app).await
}

/// Deletes all that is left, but for what another replica is at.
pub async fn what_is_gone(app: &App) -> Result<(), Error> {
    while !app.stop.is_cancelled() {
        let gone = store::a_gone_one(&mut app.db.read().await?).await?;
        let Some(file) = gone else { return Ok(()) };
        if file.in_objects {
            // Twice does no harm.
            app.objects.delete_file(file.id).await?;
            let mut tx = app.db.begin().await?;
            store::left_objects(&mut tx, file.id).await?;
            tx.commit().await?;
            continue;
        }
        let mut tx = app.db.begin().await?;
        let Some(file) = store::take_gone(&mut tx).await? else { return Ok(()) };
        if store::delete_chunks(&mut tx, file).await? == 0 {
            store::delete(&mut tx, file).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}
