//! How a process ends: the first signal stops it cleanly, the last at once.

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
    let [stop] = on_signals()?;
    Ok(stop)
}

/// Tokens that SIGTERM or SIGINT cancel one after the other. One signal more ends the process
/// where it stands.
///
/// # Errors
///
/// When the signals cannot be caught.
pub fn on_signals<const N: usize>() -> anyhow::Result<[CancellationToken; N]> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let tokens = [(); N].map(|()| CancellationToken::new());
    let heard = tokens.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => (),
                _ = interrupt.recv() => (),
            }
        };
        for (index, token) in heard.iter().enumerate() {
            next().await;
            let left = N - index;
            info!("stopping; {left} more to stop where it stands");
            token.cancel();
        }
        next().await;
        std::process::exit(INTERRUPTED);
    });
    Ok(tokens)
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
