//! Stories of sessions, on both databases.

mod access;
mod create;
mod idempotency;
mod lifecycle;
mod list;
mod queue;
