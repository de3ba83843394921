//! Agents: the processes that launch browsers. They dial a replica, hold a lease by the
//! database's clock, and are told what to run.
//!
//! The database says what should be, agents say what is. A message that is lost is made good
//! by [`stream`]'s slow look at the database, a lost stream by the next hello, and a lost
//! agent by [`lost`].

pub mod hub;
pub mod isolation;
pub mod lost;
mod messages;
mod reconcile;
pub mod store;
mod stream;
#[cfg(test)]
mod tests;
mod told;

use std::time::Duration;

/// How long an agent counts as living after its last word.
pub const LEASE: Duration = Duration::from_secs(10);
/// How often an agent is to ask for its lease.
pub const HEARTBEAT: Duration = Duration::from_secs(3);

pub use self::hub::{Hub, Service};
