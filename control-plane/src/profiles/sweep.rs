//! Deletes objects that no profile names: what a process left that died between writing an
//! object and its row, or between a row's end and its object's. Takes no input, so a restart
//! or a second replica does no harm.

use std::time::Duration;

use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::store;
use crate::{app::App, error::Error};

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);
/// A younger object may belong to a row that is just being written.
const AGE: Duration = Duration::from_secs(3_600);

/// Runs until it is stopped.
pub async fn run(app: App, stop: CancellationToken) {
    let mut tick = time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => (),
        }
        if let Err(error) = orphans(&app, AGE).await {
            error!(
                ?error,
                "could not look for objects without profiles; the next look tries again"
            );
        }
    }
}

/// Deletes the objects of at least this age that no profile names.
pub async fn orphans(app: &App, age: Duration) -> Result<(), Error> {
    for (id, version) in app.objects.older_than(age).await? {
        let mut tx = app.db.read().await?;
        let current = store::is_current(&mut tx, id, &version).await?;
        drop(tx);
        if !current {
            app.objects.delete(id, &version).await?;
            info!(profile = %id, version, "deleted an object that no profile names");
        }
    }
    Ok(())
}
