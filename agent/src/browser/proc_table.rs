//! Which processes there are, read from `/proc` (proc(5)).

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

use memchr::memmem;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, pidfd_send_signal, waitpid,
};

/// A process as it was a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub pid: Pid,
    pub parent: Option<Pid>,
    pub group: Option<Pid>,
    pub user: u32,
    /// Ended, and waits for its parent to ask how.
    pub zombie: bool,
}

/// The processes of a user.
pub fn of_user(user: u32) -> Vec<Found> {
    pids().filter_map(|pid| read(pid, |owner| owner == user)).collect()
}

/// The processes for which `wanted` says yes.
pub fn all(wanted: impl Fn(&Found) -> bool) -> Vec<Found> {
    pids().filter_map(|pid| read(pid, |_| true)).filter(wanted).collect()
}

fn pids() -> impl Iterator<Item = Pid> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?))
}

fn read(pid: Pid, wanted: impl Fn(u32) -> bool) -> Option<Found> {
    let path = format!("/proc/{pid}");
    let user = fs::metadata(&path).ok()?.uid();
    if !wanted(user) {
        return None;
    }
    let stat = fs::read(format!("{path}/stat")).ok()?;
    // The name in brackets may hold anything, brackets and blanks too.
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&stat[after_name..]).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = Pid::from_raw(fields.next()?.parse().ok()?);
    let group = Pid::from_raw(fields.next()?.parse().ok()?);
    Some(Found { pid, parent, group, user, zombie: state == "Z" })
}

impl Found {
    /// Kills it if it is still the same process, and reaps it if it is our own zombie.
    pub fn end(&self) {
        if self.zombie {
            if self.parent == Some(getpid()) {
                let _ = waitpid(Some(self.pid), WaitOptions::NOHANG);
            }
            return;
        }
        let Ok(handle) = pidfd_open(self.pid, PidfdFlags::empty()) else { return };
        // The number may have gone to another process before the handle was taken.
        let same = |now: Found| now.user == self.user && now.group == self.group;
        if read(self.pid, |_| true).is_some_and(same) {
            let _ = pidfd_send_signal(handle, Signal::KILL);
        }
    }

    /// Whether it was started for a browser with its directory below `root`. Known of a
    /// browser's main process and its crash handlers, not of all the others; and only to
    /// root or to the same user.
    pub fn works_below(&self, root: &Path) -> bool {
        // Chrome writes its own title over both, so that they are no lists any more.
        let mentions = |file: &str, name: &str| {
            let mut wanted = name.as_bytes().to_vec();
            wanted.extend_from_slice(root.as_os_str().as_bytes());
            wanted.push(b'/');
            fs::read(format!("/proc/{}/{file}", self.pid))
                .is_ok_and(|content| memmem::find(&content, &wanted).is_some())
        };
        mentions("cmdline", "--user-data-dir=") || mentions("environ", "TMPDIR=")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        process::Command,
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    fn until(holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !holds() {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
    }

    #[test]
    fn a_process_is_found_by_what_it_is() {
        let mut child =
            Command::new("sleep").arg("1000").env("TMPDIR", "/some/where/tmp").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let found = all(|found| found.pid == pid)[0];
        assert_eq!(found.parent, Some(getpid()));
        assert!(!found.zombie);
        assert!(of_user(found.user).contains(&found));
        // Its start is over before the kernel shows its environment.
        until(|| found.works_below(Path::new("/some")));
        assert!(found.works_below(Path::new("/some/where")));
        assert!(!found.works_below(Path::new("/so")));
        found.end();
        until(|| all(|found| found.pid == pid)[0].zombie);
        child.wait().unwrap();
        assert!(all(|found| found.pid == pid).is_empty());
    }
}
