//! Agents: the processes that launch browsers. They dial a replica, hold a lease by the
//! database's clock, and are told what to run.
//!
//! The database says what should be, agents say what is. A message that is lost is made good
//! by [`reconcile`]'s looks at the database, a lost stream by the next hello, and a lost agent
//! by [`lost`].

pub mod deletion_cost;
pub mod drain;
pub mod hub;
pub mod isolation;
pub mod list;
pub mod lost;
mod messages;
pub mod object;
pub mod reconcile;
pub mod roster;
mod service;
pub mod slots;
pub mod store;
mod stream;
#[cfg(test)]
mod tests;
mod told;

use std::time::Duration;

use tokio::time::timeout;

/// How long an agent counts as living after its last word.
pub const LEASE: Duration = Duration::from_secs(10);
/// How often an agent is to ask for its lease.
pub const HEARTBEAT: Duration = Duration::from_secs(3);
/// How long the database may take to answer for an agent. Later it is as good as away: an agent
/// that was not answered dials anew at its next heartbeat, and must hear why before its lease ends.
const ANSWER_LIMIT: Duration = Duration::from_millis(1_500);

/// What the database says, if it does so in time.
async fn in_time<T>(asked: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    timeout(ANSWER_LIMIT, asked).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

pub use self::hub::Hub;
pub use self::reconcile::look;
pub use self::service::Service;
