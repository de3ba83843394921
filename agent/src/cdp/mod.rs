//! CDP between clients and one browser: see [`mux`] for how it works.

mod backlog;
mod barred;
mod client;
mod contexts;
#[cfg(test)]
pub(crate) mod costs;
pub mod discovery;
mod downloads;
mod first;
mod flights;
mod gather;
mod guard;
mod hidden;
mod inflow;
pub mod mux;
mod outbox;
mod own;
mod own_page;
mod pipe;
pub mod protocol;
mod routes;
pub mod scan;
mod slack;
pub(crate) mod strangers;
mod tail;
mod usage;
mod visited;
mod websocket;

pub use backlog::Backlogs;
pub use client::Seat;
pub(crate) use downloads::Download;
pub(crate) use flights::{METHODS, METHODS_LEN};
pub use guard::{ContextProxies, ContextProxy, Guard};
pub use mux::{Endpoint, JoinError, Mux};
pub use own::CommandError;
pub(crate) use own_page::{Commands, OwnPage};
pub use usage::Usage;
pub(crate) use visited::web_origin;
