//! Deletes what is left of files that are not there any more, a few chunks a transaction:
//! others want to write meanwhile. Takes no input, so a restart or a second replica does no
//! harm.

use proto::id::WorkspaceId;
use tracing::error;

use super::{FileRow, orders, store};
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
    orders::forget_stale(&mut tx).await?;
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

async fn what_is_gone(app: &App) -> Result<(), Error> {
    while !app.stop.is_cancelled() {
        let gone = store::a_gone_one(&mut app.db.read().await?).await?;
        let Some(file) = gone else { return Ok(()) };
        delete(app, &file).await?;
    }
    Ok(())
}

async fn delete(app: &App, file: &FileRow) -> Result<(), Error> {
    if file.in_objects {
        app.objects.delete_file(file.id).await?;
    }
    loop {
        let mut tx = app.db.begin().await?;
        let deleted = store::delete_chunks(&mut tx, file.id).await?;
        if deleted == 0 {
            store::delete(&mut tx, file.id).await?;
        }
        tx.commit().await?;
        if deleted == 0 {
            return Ok(());
        }
    }
}
