//! How a process ends: the first signal stops it cleanly, the second at once.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Exit code after a second signal, as a shell reports an interrupt.
const INTERRUPTED: i32 = 130;

/// A token that the first SIGTERM or SIGINT cancels. The second ends the process where it
/// stands; its browsers go with it, as their pipes close.
///
/// # Errors
///
/// When the signals cannot be caught.
pub fn on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        for last in [false, true] {
            tokio::select! {
                _ = terminate.recv() => (),
                _ = interrupt.recv() => (),
            }
            if last {
                std::process::exit(INTERRUPTED);
            }
            info!("stopping; once more to stop at once");
            token.cancel();
        }
    });
    Ok(stop)
}

/// Waits for one part to end, but not for ever.
pub async fn within(limit: Duration, what: &str, part: impl Future<Output = ()>) {
    if timeout(limit, part).await.is_err() {
        warn!(seconds = limit.as_secs_f32(), "{what} did not end in time; going on without it");
    }
}

/// Lets this process open as many descriptors as the machine allows it: each client and
/// each browser takes a few, and the usual soft limit is 1024.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Refused is no fault: then the limit stays what it was.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}
