//! Reaps what browsers leave behind.
//!
//! The agent adopts every process below it that loses its parent, as an init does. Chrome's
//! crash handlers are such processes from their start on: when they end nobody asks how, and
//! each would keep its number for good.

use std::io;

use rustix::process::{WaitOptions, getpid, set_child_subreaper, waitpid};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
};
use tokio_util::task::AbortOnDropHandle;

use super::proc_table::{self, Found};

/// Adopts orphans and reaps them, until it is dropped.
#[derive(Debug)]
pub struct Orphans {
    _reaping: AbortOnDropHandle<()>,
}

impl Orphans {
    /// Must be called in a runtime.
    ///
    /// # Errors
    ///
    /// When the kernel does not let the agent have them, or hear of their ends.
    pub fn adopt() -> io::Result<Self> {
        set_child_subreaper(Some(getpid()))?;
        // The kernel sends it when a child has ended, and when one that had ended is adopted.
        let mut ends = signal(SignalKind::child())?;
        let reaping = tokio::spawn(async move {
            while ends.recv().await.is_some() {
                let _ = spawn_blocking(reap).await;
            }
        });
        Ok(Self { _reaping: AbortOnDropHandle::new(reaping) })
    }
}

/// Leaves alone what this process has started, which somebody waits for: a browser leads a
/// group of its own, and anything else is in the group of this process.
fn reap() {
    let own = getpid();
    let found = proc_table::all(|found| found.pid == own || found.parent == Some(own));
    // From there, as `getpgrp` has no word for a group outside of this container.
    let Some(here) = found.iter().find(|found| found.pid == own) else { return };
    let is_orphan = |found: &&Found| {
        found.zombie && found.group != Some(found.pid) && found.group != here.group
    };
    for orphan in found.iter().filter(is_orphan) {
        let _ = waitpid(Some(orphan.pid), WaitOptions::NOHANG);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rustix::process::Pid;
    use tokio::{process::Command, time};

    use super::*;

    async fn is_reaped(pid: Pid) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !proc_table::all(|found| found.pid == pid).is_empty() {
            if Instant::now() > deadline {
                return false;
            }
            time::sleep(Duration::from_millis(5)).await;
        }
        true
    }

    #[tokio::test]
    async fn what_a_browser_leaves_behind_is_reaped_when_it_ends() {
        let _orphans = Orphans::adopt().unwrap();
        // As Chrome starts its crash handlers: by a process of another group that ends at once.
        let script = "sleep 0.1 >/dev/null & echo $!";
        let started = Command::new("setsid").args(["--wait", "sh", "-c", script]).output().await;
        let pid: i32 = String::from_utf8(started.unwrap().stdout).unwrap().trim().parse().unwrap();
        assert!(is_reaped(Pid::from_raw(pid).unwrap()).await, "{pid} is still there");
    }

    #[tokio::test]
    async fn what_was_started_here_is_left_to_who_waits_for_it() {
        let _orphans = Orphans::adopt().unwrap();
        let mut plain = std::process::Command::new("true").spawn().unwrap();
        let mut leader = std::process::Command::new("setsid").arg("true").spawn().unwrap();
        let ended = |pid: Pid| proc_table::all(|found| found.pid == pid && found.zombie).len() == 1;
        let deadline = Instant::now() + Duration::from_secs(10);
        for pid in [Pid::from_child(&plain), Pid::from_child(&leader)] {
            while !ended(pid) {
                assert!(Instant::now() < deadline, "{pid} has not ended, or was reaped");
                time::sleep(Duration::from_millis(5)).await;
            }
        }
        reap();
        assert!(plain.wait().unwrap().success());
        assert!(leader.wait().unwrap().success());
    }
}
