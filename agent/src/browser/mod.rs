//! Browsers: started, kept warm, watched, and cleared away.
//!
//! Kept true: a browser's only control channel is its pipe; it runs as a user of its own
//! (where the agent may choose one) in a directory of its own; when it ends, no process, no
//! file and no descriptor of it is left, and it is never lent twice.

mod directory;
mod error;
mod flags;
mod jail;
mod launch;
mod orphans;
mod pool;
mod proc_table;
mod process;
mod rehearsal;
mod stderr;
mod sweep;
#[cfg(test)]
pub(crate) mod testing;
mod users;

use std::{
    fmt,
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};

use self::process::Process;
pub(crate) use self::{directory::blocking_ancestor, launch::SHARED_MEMORY_MIN, users::FIRST_USER};
pub use self::{
    error::LaunchError,
    flags::Kind,
    jail::{Isolation, Layer, Strictness},
    launch::Launcher,
    pool::Pool,
};
use crate::{
    cdp::Mux,
    files::Trays,
    gateway::{Account, Gateway, Way},
    limits::Excess,
};

/// What a caller may choose about a browser.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LaunchOptions {
    /// Width and height of a page, in pixels.
    pub viewport: (u32, u32),
    /// Instead of the browser's own user agent.
    pub user_agent: Option<String>,
}

impl Default for LaunchOptions {
    fn default() -> Self {
        Self { viewport: (1280, 720), user_agent: None }
    }
}

/// A browser that answers. Dropping it ends it too, in the background.
pub struct Browser {
    /// Its pipe, shared by its clients.
    pub mux: Arc<Mux>,
    /// Product and version, as in `Chrome/156.0.8078.79`.
    pub version: String,
    /// From the start of the process until it answered and had its first page.
    pub start_time: Duration,
    born: Instant,
    process: Process,
    gateway: Gateway,
    trays: Arc<Trays>,
}

impl Browser {
    /// Its name in the log: that of its directory.
    pub fn name(&self) -> &str {
        self.process.name()
    }

    /// Opens its way to the network: until then it has none. The account counts what passes
    /// and what does not. To be called in the session's span.
    pub fn lend(&self, way: Way) -> Account {
        self.gateway.lend(way)
    }

    /// Where its files come and go.
    pub(crate) fn trays(&self) -> Arc<Trays> {
        self.trays.clone()
    }

    /// Waits until the browser's main process has ended. Cancel-safe.
    pub async fn exited(&mut self) -> ExitStatus {
        self.process.exited().await
    }

    /// Waits until it takes more of the machine than it may.
    pub fn exceeded(&self) -> BoxFuture<'static, Excess> {
        self.process.exceeded()
    }

    /// The limit that it was over, if that is why it has ended.
    pub fn cause_of_end(&self) -> Option<Excess> {
        self.process.cause_of_end()
    }

    /// Ends the browser: kills all of its processes, waits until they are gone, and removes
    /// its directory. Takes 5 s at most, and goes on when the future is dropped. Nothing is
    /// counted any more when it is done.
    pub async fn close(mut self) {
        self.process.end().await;
        self.gateway.close().await;
    }

    #[cfg(test)]
    pub(crate) fn gateway_port(&self) -> u16 {
        self.gateway.port()
    }

    fn is_running(&mut self) -> bool {
        self.process.is_running() && self.mux.closed().now_or_never().is_none()
    }
}

impl fmt::Debug for Browser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Browser")
            .field("name", &self.name())
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
