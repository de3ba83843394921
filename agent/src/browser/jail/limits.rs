//! Limits of the system on each process of a browser (setrlimit(2)): inherited by all that it
//! starts.
//!
//! Limiting a process of another user takes CAP_SYS_RESOURCE, which containers seldom give:
//! what the agent can do without, too, it gives up for itself, and so for its browsers.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

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

/// Limits a browser that was just started where the agent cannot do without: as far as it may.
pub fn apply(browser: Pid) {
    let limit = at_most(&getrlimit(Resource::Nofile), DESCRIPTORS);
    let _ = prlimit(Some(browser), Resource::Nofile, limit);
}

/// A limit that raises nothing: an agent without rights could not.
fn at_most(now: &Rlimit, limit: u64) -> Rlimit {
    let lower = |now: Option<u64>| Some(now.map_or(limit, |now| now.min(limit)));
    Rlimit { current: lower(now.current), maximum: lower(now.maximum) }
}
