//! How threads that carry messages are woken, when messages come in crowds.
//!
//! Who waits for a pipe or a socket is woken by each write to it, and takes the processor from the
//! writer, as it has hardly used its own share. With many commands in flight that is two switches
//! for each message, which cost more than all that is done for it. A thread of policy
//! `SCHED_BATCH` (sched(7)) takes the processor from nobody: it runs at once when one is free, and
//! else when the writer has had its turn, and then finds many messages. On two cores, with 64
//! commands in flight, an agent took 8 to 12 µs of processor time for each instead of 19, and 1.1 to
//! 1.4 times as many passed.
//!
//! Where each message is waited for, the same would cost up to a tick of latency on a busy
//! machine. So a thread is told by what it has just carried.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// How long messages are counted.
const WINDOW: Duration = Duration::from_millis(1);

/// Messages in it that are a crowd. One that waits for each answer gets no more than ten.
const MANY: u32 = 16;

/// The policy of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Ordinary,
    Batch,
}

thread_local! {
    /// As it was last set; a thread has its policy from its parent.
    static POLICY: Cell<Option<Policy>> = const { Cell::new(None) };
}

/// Counts what comes by one pipe or socket.
pub(crate) struct Crowd {
    since: Instant,
    messages: u32,
    policy: Policy,
}

impl Default for Crowd {
    fn default() -> Self {
        Self { since: Instant::now(), messages: 0, policy: Policy::Ordinary }
    }
}

impl Crowd {
    /// So many messages came, and this thread is about to wait for more.
    pub fn came(&mut self, messages: u32) {
        self.count(messages, Instant::now());
        self.policy.set();
    }

    fn count(&mut self, messages: u32, now: Instant) {
        self.messages += messages;
        let past = now - self.since;
        if past < WINDOW {
            return;
        }
        let is_crowd = self.messages >= MANY && past < 2 * WINDOW;
        *self = Self {
            since: now,
            messages: 0,
            policy: if is_crowd { Policy::Batch } else { Policy::Ordinary },
        };
    }
}

/// Makes this thread an ordinary one, whichever started it.
pub fn none_on_this_thread() {
    Policy::Ordinary.set();
}

impl Policy {
    /// Sets this thread's.
    fn set(self) {
        if POLICY.replace(Some(self)) == Some(self) {
            return;
        }
        let policy = match self {
            Self::Ordinary => libc::SCHED_OTHER,
            Self::Batch => libc::SCHED_BATCH,
        };
        let parameters = libc::sched_param { sched_priority: 0 };
        #[expect(unsafe_code, reason = "rustix does not have it")]
        // SAFETY: the kernel reads one structure, which is there. Where it refuses, all stays as
        // it is.
        unsafe {
            libc::sched_setscheduler(0, policy, &raw const parameters);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{fs, thread};

    use super::*;

    /// A thread's policy, by its directory in `/proc` (proc(5), field 41).
    pub(crate) fn policy_of(task: &str) -> i32 {
        let stat = fs::read_to_string(format!("/proc/{task}/stat")).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        fields.split_ascii_whitespace().nth(41 - 3).unwrap().parse().unwrap()
    }

    /// Makes this thread one that carries a crowd.
    pub(crate) fn crowd_on_this_thread() {
        Policy::Batch.set();
    }

    #[test]
    fn many_messages_within_a_millisecond_are_a_crowd_until_they_are_few() {
        let began = Instant::now();
        let at = |us| began + Duration::from_micros(us);
        let mut crowd = Crowd { since: began, ..Crowd::default() };
        let mut one_by_one = Crowd { since: began, ..Crowd::default() };
        for message in 1..=100 {
            crowd.count(1, at(message * 40));
            one_by_one.count(1, at(message * 100));
            assert_eq!(one_by_one.policy, Policy::Ordinary);
        }
        assert_eq!(crowd.policy, Policy::Batch);
        crowd.count(1, at(5_000));
        crowd.count(1, at(6_000));
        assert_eq!(crowd.policy, Policy::Ordinary);
        crowd.count(100, at(60_000));
        assert_eq!(crowd.policy, Policy::Ordinary, "nobody knows how long they took to come");
    }

    #[test]
    fn a_crowd_makes_its_thread_wait_its_turn_and_what_follows_takes_that_back() {
        let mut crowd = Crowd { policy: Policy::Batch, ..Crowd::default() };
        crowd.policy.set();
        assert_eq!(policy_of("thread-self"), libc::SCHED_BATCH);
        let of_another = thread::spawn(|| {
            let inherited = policy_of("thread-self");
            none_on_this_thread();
            (inherited, policy_of("thread-self"))
        });
        assert_eq!(of_another.join().unwrap(), (libc::SCHED_BATCH, libc::SCHED_OTHER));
        crowd.count(1, Instant::now() + 2 * WINDOW);
        crowd.policy.set();
        assert_eq!(policy_of("thread-self"), libc::SCHED_OTHER);
    }
}
