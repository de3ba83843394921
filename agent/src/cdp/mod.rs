//! CDP between clients and one browser: see [`mux`] for how it works.

mod client;
pub mod discovery;
mod gather;
pub mod mux;
mod outbox;
mod own;
mod pipe;
pub mod protocol;
mod routes;
pub mod scan;
mod tail;
mod usage;
mod websocket;

pub use client::Seat;
pub use mux::{Endpoint, JoinError, Mux};
pub use own::CommandError;
pub use usage::Usage;
