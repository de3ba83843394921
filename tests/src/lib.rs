//! The harness of the end-to-end tests: real servers, real clients, real Chromium.
//!
//! A test starts what it needs and stops it with [`Server::stop`], which fails when the
//! server leaves anything behind: a process, a directory, a row in a wrong state.

pub mod api;
pub mod authority;
pub mod cdp;
pub mod chrome;
pub mod clients;
pub mod cluster;
pub mod collector;
pub mod command;
pub mod cpu;
pub mod disk;
pub mod figures;
pub mod fleet;
pub mod helm;
pub mod leftovers;
pub mod load;
pub mod mail;
pub mod memory;
pub mod network;
pub mod pgbench;
pub mod population;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod rows;
pub mod scrape;
pub mod server;
pub mod simulated_agent;
pub mod simulated_fleet;
pub mod simulation;
pub mod site;
pub mod tls;
pub mod wire;

use std::{future::Future, path::PathBuf, time::Duration};

use tokio::time::{Instant, sleep};

pub use self::{
    api::{Api, Session},
    chrome::Chrome,
    command::User,
    proxy::Proxy,
    server::{Server, program},
    site::Site,
};

/// How long a condition may take when a test has no narrower bound.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a condition holds, for at most `within`, and answers what it found.
///
/// # Panics
///
/// When it does not hold in time.
pub async fn eventually<T, F>(what: &str, within: Duration, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let end = Instant::now() + within;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// The folder of this crate.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
