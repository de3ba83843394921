//! End-to-end tests, a file a story.
#![expect(clippy::unwrap_used, reason = "tests panic on what they did not expect")]

mod chart;
mod chromiumoxide;
mod churn;
mod cli;
mod clients;
mod contract;
mod crash;
mod create;
mod deadlines;
mod deletion_cost;
mod drain;
mod faults;
mod files;
mod first_session;
mod forward;
mod halves;
mod hostile;
mod images;
mod limits;
mod metrics;
mod network;
mod proxy;
mod raw;
mod replicas;
mod secrets;
mod sign_in;
mod simulation;
mod storage_state;
mod tokens;
mod tracing;
mod usage;
