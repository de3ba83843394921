//! The processes of one browser, from its start until nothing of it is left.
//!
//! Chrome's helpers stay in its process group. Its crash handlers leave it, but still have
//! the browser's user, or, where all browsers share the agent's, its directory in their
//! environment.

use std::{
    process::ExitStatus,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{process::Child, task::spawn_blocking, time};
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use super::{
    directory::Directory,
    proc_table::{self, Found},
    stderr::Tail,
    users::User,
};
use crate::limits::{self, Excess, Limited};

/// How long the end of a browser may take.
const END_LIMIT: Duration = Duration::from_secs(5);

/// The processes of one browser. Dropping it ends them in the background.
#[derive(Debug)]
pub struct Process {
    name: String,
    /// `None` once the end has begun.
    remains: Option<Remains>,
    clearings: TaskTracker,
}

/// What must be cleared away at the end.
#[derive(Debug)]
struct Remains {
    child: Child,
    group: Pid,
    stderr: Tail,
    directory: Directory,
    user: Option<User>,
    limited: Limited,
}

impl Process {
    /// Takes over a browser that was just spawned with its standard error piped.
    /// `clearings` takes the task that clears it away.
    ///
    /// `None`: it has no process id any more.
    pub fn new(
        mut child: Child,
        directory: Directory,
        user: Option<User>,
        limited: Limited,
        clearings: TaskTracker,
    ) -> Option<Self> {
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?))?;
        let name = directory.name().to_owned();
        let stderr = Tail::start(child.stderr.take()?, name.clone());
        let remains = Remains { child, group, stderr, directory, user, limited };
        Some(Self { name, remains: Some(remains), clearings })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of its own user; `None`: it has the agent's.
    pub fn user(&self) -> Option<u32> {
        self.remains.as_ref()?.user.as_ref().map(|user| user.id)
    }

    /// Waits until the main process has ended. Cancel-safe.
    pub async fn exited(&mut self) -> ExitStatus {
        match &mut self.remains {
            // Waiting for a child of ours cannot fail.
            Some(remains) => remains.child.wait().await.unwrap_or_default(),
            None => ExitStatus::default(),
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.remains.as_mut().is_some_and(|remains| matches!(remains.child.try_wait(), Ok(None)))
    }

    /// Waits until it takes more than it may.
    pub fn exceeded(&self) -> BoxFuture<'static, Excess> {
        match &self.remains {
            Some(remains) => remains.limited.exceeded().boxed(),
            None => std::future::pending().boxed(),
        }
    }

    /// The limit that it was over, if that is why it has ended.
    pub fn cause_of_end(&self) -> Option<Excess> {
        self.remains.as_ref()?.limited.cause_of_end()
    }

    /// The last lines of its standard error. Kills it first.
    pub async fn last_words(&mut self) -> String {
        let Some(remains) = &mut self.remains else { return String::new() };
        remains.kill();
        remains.stderr.last_words().await
    }

    /// Ends it, and waits until nothing of it is left, for 5 s at most. Once begun, the end
    /// comes also when the future is dropped.
    pub async fn end(&mut self) {
        let Some(remains) = self.remains.take() else { return };
        let name = self.name.clone();
        let clearing = self.clearings.spawn(remains.clear(name));
        let _ = clearing.await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(mut remains) = self.remains.take() else { return };
        remains.kill();
        let name = self.name.clone();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                self.clearings.spawn_on(remains.clear(name), &runtime);
            }
            Err(_) => {
                let _ = remains.directory.remove();
            }
        }
    }
}

impl Remains {
    fn kill(&mut self) {
        // Once the leader is reaped its number may be another's.
        let lives = matches!(self.child.try_wait(), Ok(None));
        if lives {
            limits::before_others(self.group, self.user.as_ref().map(|user| user.id));
        }
        self.limited.kill();
        if lives {
            let _ = kill_process_group(self.group, Signal::KILL);
        }
    }

    async fn clear(mut self, name: String) {
        let deadline = Instant::now() + END_LIMIT;
        self.kill();
        let _ = time::timeout(END_LIMIT, self.child.wait()).await;
        let mut pause = Duration::from_millis(2);
        loop {
            let left;
            (self, left) = self.end_the_rest().await;
            if left.is_empty() {
                break;
            }
            if Instant::now() + pause >= deadline {
                let pids: Vec<_> = left.iter().map(|found| found.pid.as_raw_pid()).collect();
                error!(browser = name, ?pids, "processes of a browser cannot be killed");
                std::mem::forget(self.user.take()); // its user must not be given to another
                break;
            }
            time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        let directory = self.directory;
        let removed = spawn_blocking(move || directory.remove()).await;
        if let Ok(Err(error)) = removed {
            warn!(browser = name, %error, "the directory of a browser cannot be removed");
        }
    }

    /// Kills what is still there, reaps what became our own, and says what it found.
    async fn end_the_rest(self) -> (Self, Vec<Found>) {
        let group = self.group;
        let user = self.user.as_ref().map(|user| user.id);
        let path = self.directory.path().to_path_buf();
        let own = rustix::process::geteuid().as_raw();
        let left = spawn_blocking(move || {
            let left = match user {
                Some(user) => proc_table::of_user(user),
                None => proc_table::all(|found| {
                    found.user == own && (found.group == Some(group) || found.works_below(&path))
                }),
            };
            left.iter().for_each(Found::end);
            left
        });
        (self, left.await.unwrap_or_default())
    }
}
