//! Stories of sessions, on both databases.

mod access;
mod caps;
mod create;
mod failover;
mod idempotency;
mod lifecycle;
mod list;
mod queue;
mod regions;
