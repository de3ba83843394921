//! Why a browser did not start.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

use super::stderr::headline;
use crate::cdp::CommandError;

/// Why there is no browser. `stderr` is the end of what it said, a few lines.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No such file.
    #[error("there is no browser at {}", .0.display())]
    NotFound(PathBuf),
    /// There is a file, but it cannot be run.
    #[error("{} cannot be run", .binary.display())]
    NotExecutable {
        /// The file.
        binary: PathBuf,
        /// What the system said, if it was asked.
        source: Option<io::Error>,
    },
    /// All the users that browsers may have are taken, or none can be claimed.
    #[error("no user is free for the browser")]
    NoUser(#[source] Option<io::Error>),
    /// The browser's directory cannot be made.
    #[error("no directory can be made below {}", .root.display())]
    Directory {
        /// Where.
        root: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The machine has too little memory left for another one.
    #[error(
        "the machine has {} MB of memory left, too little for a browser",
        .available_bytes >> 20
    )]
    NoMemory {
        /// What is left.
        available_bytes: u64,
    },
    /// The system has no port left for its gateway.
    #[error("the browser's gateway cannot be opened: {0}")]
    Gateway(io::Error),
    /// The system starts no process.
    #[error("the browser's process cannot be started: {0}")]
    Spawn(io::Error),
    /// It ended before it answered.
    #[error("the browser ended while starting ({status}){}", said(.stderr))]
    Exited {
        /// How.
        status: ExitStatus,
        /// Its last lines.
        stderr: String,
    },
    /// It did not answer in time.
    #[error("the browser did not answer within {} s{}", .limit.as_secs_f32(), said(.stderr))]
    Timeout {
        /// How long it had.
        limit: Duration,
        /// Its last lines.
        stderr: String,
    },
    /// It answers, but not as Chrome does.
    #[error("the browser refuses a basic command: {0}")]
    Refused(#[source] CommandError),
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
}

fn said(stderr: &str) -> String {
    match headline(stderr) {
        "" => String::new(),
        line => format!(": {line}"),
    }
}
