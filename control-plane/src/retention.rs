//! Deletes what has had its time, a few rows in each transaction: others want to write
//! meanwhile, and other replicas do the same.
//!
//! | what | is kept |
//! | --- | --- |
//! | sessions that are over, with all that is theirs | `retain_sessions_days` |
//! | audit rows | `retain_audit_days` |
//! | idempotency keys, invitations, links, tokens | as long as they are good |
//! | revoked API keys, join tokens that are no longer good | 90 days |
//! | agents that are gone | 30 days, and as long as their sessions |
//! | news that nobody took | 7 days |
//! | counts of requests | to the end of the day, UTC |
//! | captures and file orders | as long as somebody may wait for them |

use std::time::Duration;

use tracing::info;

use crate::{
    agents,
    app::App,
    audit,
    db::{Tx, dialect, on},
    error::Error,
    files, invitations, join_tokens, keys, outbox, rate_limits, sessions, sign_in,
};

/// How often to look for what is old.
pub const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Most rows that one of [`Old`]'s transactions deletes; its texts have it too.
const BATCH: u64 = 500;
/// A day in microseconds.
const DAY_US: i64 = 24 * 3_600 * 1_000_000;

/// Rows that are deleted when they are old.
pub struct Old {
    /// SQLite's text and PostgreSQL's, by [`old!`].
    pub texts: [&'static str; 2],
    /// How long they are kept from the time that the texts compare, in microseconds.
    pub kept_us: i64,
}

/// The two texts that delete some rows of a table: those before `$1`, Unix microseconds. On
/// PostgreSQL those that another replica is at are left to it.
macro_rules! old {
    ($table:literal, $before:literal) => {
        [
            concat!(
                "DELETE FROM ",
                $table,
                " WHERE rowid IN (SELECT rowid FROM ",
                $table,
                " WHERE ",
                $before,
                " LIMIT 500)"
            ),
            concat!(
                "DELETE FROM ",
                $table,
                " WHERE ctid = ANY(ARRAY(SELECT ctid FROM ",
                $table,
                " WHERE ",
                $before,
                " LIMIT 500 FOR UPDATE SKIP LOCKED))"
            ),
        ]
    };
}
pub(crate) use old;

/// All that is kept for a time of its own.
const KEPT: &[Old] = &[
    sessions::idempotency::OLD,
    sessions::captures::OLD,
    files::orders::OLD,
    outbox::OLD,
    rate_limits::store::OLD,
    sign_in::store::OLD_LINKS,
    sign_in::store::OLD_TOKENS,
    invitations::store::OLD,
    keys::store::OLD,
    agents::store::OLD,
    join_tokens::store::OLD,
];

/// Deletes all that is old now.
pub async fn sweep(app: &App) -> Result<(), Error> {
    for old in KEPT {
        forget(app, old).await?;
    }
    if let Some(kept_us) = days(app.config.retain_audit_days) {
        forget(app, &Old { texts: audit::OLD, kept_us }).await?;
    }
    if let Some(kept_us) = days(app.config.retain_sessions_days) {
        finished_sessions(app, kept_us).await?;
    }
    Ok(())
}

/// Days in microseconds; none for 0, which is for ever.
fn days(days: u32) -> Option<i64> {
    (days > 0).then(|| i64::from(days) * DAY_US)
}

async fn forget(app: &App, old: &Old) -> sqlx::Result<()> {
    while !app.stop.is_cancelled() {
        let mut tx = app.db.begin().await?;
        let deleted = delete(&mut tx, old).await?;
        tx.commit().await?;
        if deleted < BATCH {
            break;
        }
    }
    Ok(())
}

async fn delete(tx: &mut Tx, old: &Old) -> sqlx::Result<u64> {
    let before = tx.now_us().await? - old.kept_us;
    let text = dialect!(tx, old.texts[0], old.texts[1]);
    on!(tx, |db| {
        sqlx::query(text).bind(before).execute(db).await.map(|done| done.rows_affected())
    })
}

/// Deletes sessions that ended long ago. Their files go first: what is left of those is found
/// by their rows. Profiles are not a session's, and stay.
async fn finished_sessions(app: &App, kept_us: i64) -> Result<(), Error> {
    while !app.stop.is_cancelled() {
        let mut tx = app.db.begin().await?;
        let old = sessions::store::ended_before(&mut tx, kept_us).await?;
        if old.is_empty() {
            return Ok(());
        }
        let has_files = files::store::give_up_all_of(&mut tx, &old).await?;
        if !has_files {
            sessions::store::delete(&mut tx, &old).await?;
        }
        tx.commit().await?;
        if has_files {
            files::sweep::what_is_gone(app).await?;
        } else {
            info!(sessions = old.len(), "deleted sessions that ended long ago");
        }
    }
    Ok(())
}

/// The SQL of this module for one of the databases, 0 for SQLite and 1 for PostgreSQL, for the
/// test that prepares every text.
#[cfg(test)]
pub(crate) fn texts(database: usize) -> Vec<&'static str> {
    let kept = KEPT.iter().map(|old| old.texts[database]);
    kept.chain([audit::OLD[database]]).collect()
}

#[cfg(test)]
mod tests;
