//! Limits of the system on each process of a browser (setrlimit(2)): inherited by all that it
//! starts.
//!
//! Limiting a process of another user takes CAP_SYS_RESOURCE, which containers seldom give.
//! So what the agent can do without, too, it gives up for itself, and so for its browsers; and
//! for the rest a thread becomes that user first.

use std::io;

use rustix::{
    process::{Gid, Pid, Resource, Rlimit, Uid, getrlimit, prlimit, setrlimit},
    thread::{set_thread_res_gid, set_thread_res_uid},
};

use crate::limits::Limits;

/// Descriptors that one process may have. Chrome's own aim is 8192.
const DESCRIPTORS: u64 = 16_384;
/// Memory that one process may lock, in bytes: the default of most systems.
const LOCKED_MEMORY: u64 = 8 << 20;

/// Lowers the agent's own limits, for good.
pub fn lower_own() {
    // A crash leaves no core file behind, wherever the machine would put it: it would hold
    // what pages, or the agent, keep secret. And no queues, no priority, no locked memory at
    // the cost of others. To lower a limit is always allowed.
    let limits = [
        (Resource::Core, 0),
        (Resource::Msgqueue, 0),
        (Resource::Rtprio, 0),
        (Resource::Memlock, LOCKED_MEMORY),
    ];
    for (resource, limit) in limits {
        let _ = setrlimit(resource, at_most(&getrlimit(resource), limit));
    }
}

/// Limits a browser that was just started, where the agent cannot do without. The calling
/// thread is the browser's user from then on, and must end.
pub fn apply(browser: Pid, user: Option<u32>, limits: &Limits) -> io::Result<()> {
    if let Some(user) = user {
        let (group, user) = (Gid::from_raw(user), Uid::from_raw(user));
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)?;
    }
    let all = [
        (Resource::Nofile, Some(DESCRIPTORS)),
        (Resource::Fsize, limits.file_bytes()),
        (Resource::Nproc, user.and_then(|_| limits.tasks_of_a_user())),
    ];
    for (resource, limit) in all {
        let Some(limit) = limit else { continue };
        prlimit(Some(browser), resource, at_most(&getrlimit(resource), limit))?;
    }
    Ok(())
}

/// A limit that raises nothing: an agent without rights could not.
fn at_most(now: &Rlimit, limit: u64) -> Rlimit {
    let lower = |now: Option<u64>| Some(now.map_or(limit, |now| now.min(limit)));
    Rlimit { current: lower(now.current), maximum: lower(now.maximum) }
}
