//! What one session may take of the machine, and what happens when it takes more.
//!
//! Where the agent was given a cgroup v2 of its own, every browser gets a group below it and
//! the kernel holds it to memory, tasks and processor time. Elsewhere a watchdog measures
//! twice a second, and resource limits of the process (setrlimit(2)) stand behind it. Disk is
//! measured either way; bandwidth is the gateway's; who goes first at the processor is
//! [`order`]'s.
//!
//! Kept true: a session over a limit ends as `resource_limit` with the figures, and its
//! neighbours go on.

mod cgroup;
mod disk;
mod memory;
mod order;
mod processes;
mod watchdog;

use std::{fmt, path::PathBuf, sync::Arc};

use rustix::process::Pid;
use tokio::sync::watch;
use tracing::{info, warn};

use self::{
    cgroup::{Cgroups, Given, Leaf},
    watchdog::Watchdog,
};
pub use self::{memory::available, order::before_others};

/// Memory that must be free for a browser to be started, in bytes: what an ordinary session
/// takes.
const STARTING_BYTES: u64 = 512 << 20;

/// What one session may take. 0 is no bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Memory of its own, in MiB; what it shares with others of the machine does not count.
    pub memory_mb: u32,
    /// Processes and their threads, as the kernel counts them (`pids.max`).
    pub processes: u32,
    /// Processor time, in per cent of a core. With a cgroup it is a hard bound (`cpu.max`);
    /// without, who takes more steps behind the others.
    pub cpu_percent: u32,
    /// What its directory takes of the disk, in MiB. A file counts at least 4 KiB.
    pub disk_mb: u32,
    /// What passes between it and the network, both directions together, in Mbit/s.
    pub bandwidth_mbit: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mb: 2048,
            processes: 2000,
            cpu_percent: 400,
            disk_mb: 2048,
            bandwidth_mbit: 1000,
        }
    }
}

impl Limits {
    /// No bound on anything.
    pub const NONE: Self =
        Self { memory_mb: 0, processes: 0, cpu_percent: 0, disk_mb: 0, bandwidth_mbit: 0 };

    /// What may pass to and from the network, in bytes a second.
    pub fn bandwidth_bytes(&self) -> Option<u64> {
        bound(self.bandwidth_mbit).map(|mbit| mbit * 1_000_000 / 8)
    }

    /// The longest file that the kernel lets a process of a browser write, at once and not
    /// only when the watchdog looks. Shared memory is a file, too.
    pub(crate) fn file_bytes(&self) -> Option<u64> {
        Some(mebibytes(self.memory_mb)?.max(mebibytes(self.disk_mb)?))
    }

    /// The same for the tasks of a user. Wider than the limit, so that who goes over it hears
    /// that, and does not just crash.
    pub(crate) fn tasks_of_a_user(&self) -> Option<u64> {
        bound(self.processes).map(|tasks| 4 * tasks)
    }

    /// Memory that must be free before another browser is started, in bytes.
    pub fn starting_bytes(&self) -> u64 {
        mebibytes(self.memory_mb).map_or(STARTING_BYTES, |most| most.min(STARTING_BYTES))
    }
}

fn bound(number: u32) -> Option<u64> {
    (number > 0).then_some(u64::from(number))
}

fn mebibytes(number: u32) -> Option<u64> {
    bound(number).map(|number| number << 20)
}

/// What a session took too much of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Excess {
    /// Bytes used, and the limit in bytes.
    Memory(u64, u64),
    /// Tasks there were, and the limit.
    Processes(u64, u64),
    /// Bytes on disk, and the limit in bytes.
    Disk(u64, u64),
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: u64| bytes.div_ceil(1 << 20);
        match *self {
            Self::Memory(used, limit) => write!(f, "memory: {} MB of {} MB", mb(used), mb(limit)),
            Self::Processes(used, limit) => {
                write!(f, "processes and threads: {used} of {limit}")
            }
            Self::Disk(used, limit) => write!(f, "disk: {} MB of {} MB", mb(used), mb(limit)),
        }
    }
}

/// How browsers would be held to their limits here, for an operator. Changes nothing.
pub fn outlook() -> String {
    described(&Given::find().map(|given| given.has_cpu()))
}

/// `cgroups`: whether they divide the processor, or why there are none.
fn described(cgroups: &Result<bool, String>) -> String {
    let cpu = if order::is_kept_by_kernel() {
        "the kernel's autogroups for processor time"
    } else {
        "priorities for processor time"
    };
    match cgroups {
        Ok(true) => {
            "cgroups for memory, processes and processor time; a watchdog for disk".to_owned()
        }
        Ok(false) => format!("cgroups for memory and processes; {cpu}; a watchdog for disk"),
        Err(reason) => format!("{cpu}; a watchdog for the rest, no cgroups: {reason}"),
    }
}

/// Holds the browsers of one agent to their limits.
pub struct Limiter {
    limits: Limits,
    cgroups: Result<Cgroups, String>,
    watchdog: Arc<Watchdog>,
}

/// One browser, as it is held to its limits. Dropped when nothing of it is left.
#[derive(Debug)]
pub struct Limited {
    leaf: Option<Leaf>,
    excess: watch::Receiver<Option<Excess>>,
    limits: Limits,
}

/// Whose limits they are.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its name in the log and of its group.
    pub name: String,
    /// The main process, which leads a group of its own.
    pub leader: Pid,
    /// The user that only this browser has.
    pub user: Option<u32>,
    /// What counts as its disk.
    pub directory: PathBuf,
}

impl Limiter {
    /// Takes up the agent's own cgroup, if it may. Must be called in a runtime, where the
    /// watchdog runs until the limiter is dropped.
    pub fn start(limits: Limits) -> Self {
        let limiter = Self { limits, cgroups: Cgroups::claim(), watchdog: Watchdog::start(limits) };
        info!(by = limiter.reach(), "what holds browsers to their limits");
        limiter
    }

    /// How browsers are held to their limits, for an operator.
    pub fn reach(&self) -> String {
        described(&self.cgroups.as_ref().map(Cgroups::cpu).map_err(Clone::clone))
    }

    /// What one session may take.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Holds a browser that was just spawned to its limits: its later processes inherit them.
    pub fn hold(&self, subject: Subject) -> Limited {
        order::behind_the_agent(subject.leader);
        let leaf = self.cgroups.as_ref().ok().and_then(|cgroups| {
            cgroups
                .leaf(&subject.name, &self.limits)
                .and_then(|leaf| leaf.take(subject.leader).map(|()| leaf))
                .inspect_err(|error| warn!(%error, browser = subject.name, "no cgroup"))
                .ok()
        });
        let excess = self.watchdog.watch(subject, leaf.clone());
        Limited { leaf, excess, limits: self.limits }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Limited {
    /// Held to nothing: for programs in tests that are no browsers.
    #[cfg(test)]
    pub(crate) fn free() -> Self {
        Self { leaf: None, excess: watch::channel(None).1, limits: Limits::NONE }
    }

    /// Waits until it takes too much. Pending forever when it never does.
    pub fn exceeded(&self) -> impl Future<Output = Excess> + Send + use<> {
        let mut excess = self.excess.clone();
        async move {
            match excess.wait_for(Option::is_some).await.map(|excess| *excess) {
                Ok(Some(excess)) => excess,
                _ => std::future::pending().await,
            }
        }
    }

    /// What it took too much of, if that is why its processes have ended.
    pub fn cause_of_end(&self) -> Option<Excess> {
        let seen = *self.excess.borrow();
        seen.or_else(|| self.leaf.as_ref()?.excess(&self.limits))
    }

    /// Kills all that is in its group at once, whatever it has become. Does nothing without one.
    pub fn kill(&self) {
        if let Some(leaf) = &self.leaf {
            leaf.kill();
        }
    }
}

#[cfg(test)]
mod tests;
