//! End-to-end tests, a file a story.
#![expect(clippy::unwrap_used, reason = "tests panic on what they did not expect")]

mod chromiumoxide;
mod churn;
mod cli;
mod clients;
mod contract;
mod crash;
mod create;
mod deadlines;
mod files;
mod halves;
mod hostile;
mod limits;
mod proxy;
mod raw;
mod secrets;
mod sign_in;
mod storage_state;
mod tokens;
mod usage;
