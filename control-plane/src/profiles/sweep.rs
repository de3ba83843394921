//! Deletes objects that no profile names: what a process left that died between writing an
//! object and its row, or between a row's end and its object's.

use std::time::Duration;

use tracing::info;

use super::store;
use crate::{app::App, error::Error};

/// How often to look.
pub const LOOK_EVERY: Duration = Duration::from_secs(3_600);
/// A younger object may belong to a row that is just being written.
pub const AGE: Duration = Duration::from_secs(3_600);

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
