//! Declares agents lost whose lease has lapsed: their sessions end or go to another agent,
//! their slots are free.
//!
//! Leases are rows, so while the database does not answer no agent can renew its own. That is
//! not the agents' fault, and nobody judges them for it: a replica only judges after it has
//! watched the database answer for a whole lease, in which every agent that lives has renewed.
//! Agents are told so, and let what runs go on.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{LEASE, in_time, store};
use crate::{app::App, sessions};

/// How often to look. A lapsed lease is noticed this much later at most.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Since when this replica has watched the database answer.
pub struct Watch(Mutex<Instant>);

impl Watch {
    /// Begins now: what was before, nobody here has seen.
    pub fn begin() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// The database did not answer, or so late that agents may have gone without a lease.
    pub fn failed(&self) {
        *self.since() = Instant::now();
    }

    /// Whether every agent that lives can have renewed its lease meanwhile.
    fn is_whole(&self) -> bool {
        self.since().elapsed() >= LEASE
    }

    fn since(&self) -> MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As if it had begun long ago.
    #[cfg(test)]
    pub fn grow_old(&self) {
        *self.since() -= LEASE;
    }
}

/// Ends all that lapsed agents ran.
pub async fn declare_all(app: &App) -> sqlx::Result<()> {
    while !app.stop.is_cancelled() {
        let lapsed = in_time(async { store::lapsed(&mut app.db.read().await?).await }).await;
        let lapsed = lapsed.inspect_err(|_| app.watch.failed())?;
        let Some(agent) = lapsed.filter(|_| app.watch.is_whole()) else { break };
        if !sessions::lost(app, agent).await? {
            // Another replica is at it, or it is back.
            break;
        }
    }
    Ok(())
}
