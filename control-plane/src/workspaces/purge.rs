//! Deletes a workspace for good, a piece at a time: a workspace may have a million sessions,
//! and others want to write meanwhile.

use tracing::info;

use super::store;
use crate::{
    app::App, audit, error::Error, files, invitations, keys, members, outbox, profiles, sessions,
};

/// Deletes a workspace whose grace is over, if there is one.
pub async fn one(app: &App) -> Result<(), Error> {
    let Some(id) = store::to_purge(&mut app.db.read().await?).await? else { return Ok(()) };
    profiles::purge::all_of(app, id).await?;
    files::sweep::workspace(app, id).await?;
    loop {
        let mut tx = app.db.begin().await?;
        if !store::hold_deleted(&mut tx, id).await? {
            return Ok(()); // another replica is at it
        }
        // What refers to others goes before what it refers to.
        let deleted = sessions::store::purge(&mut tx, id).await?
            + outbox::purge(&mut tx, id).await?
            + audit::purge(&mut tx, id).await?;
        if deleted == 0 {
            keys::store::purge(&mut tx, id).await?;
            invitations::store::purge(&mut tx, id).await?;
            members::store::purge(&mut tx, id).await?;
            store::delete(&mut tx, id).await?;
        }
        tx.commit().await?;
        if deleted == 0 {
            info!(workspace = %id, "purged");
            return Ok(());
        }
        if app.stop.is_cancelled() {
            return Ok(());
        }
    }
}
