//! What a browser's process may be and see: in force from its first instruction on.
//!
//! The kernel confines whoever asks for it, and what that one starts; a browser does not ask,
//! and between fork and exec nothing of ours may run. So a thread that lives for this alone
//! confines itself, starts the browser, and ends. It costs a launch a millisecond.
//!
//! Kept true: a layer that [`Isolation`] calls active is on for every browser, or the browser
//! is not started.

#[cfg(test)]
mod attacks;
mod isolation;
mod landlock;
mod limits;
mod seccomp;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::fd::{OwnedFd, RawFd},
    path::Path,
    process::Stdio,
    thread,
};

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::Pid;
use tokio::{
    process::{Child, Command},
    runtime::Handle,
};

pub use self::isolation::{Isolation, Layer, Strictness};
use super::directory::Directory;
use crate::{crowd, limits::Limits};

/// The confinement of one browser.
#[derive(Debug)]
pub struct Jail<'a> {
    /// User and group to become; `None` stays who the agent is.
    pub user: Option<u32>,
    /// All that it may write.
    pub directory: &'a Directory,
    /// Port of its gateway on this machine: all that it may connect to.
    pub gateway: u16,
    /// What this machine can do.
    pub isolation: &'a Isolation,
    /// What the browser may take of it.
    pub limits: Limits,
}

impl Jail<'_> {
    /// A command for `program`, with its ends of the two pipes as descriptors 3 and 4. The
    /// command holds them until it is dropped. To be started by [`spawn`](Self::spawn).
    pub fn command(
        &self,
        program: &Path,
        commands: OwnedFd,
        answers: OwnedFd,
    ) -> io::Result<Command> {
        let mut descriptors = vec![
            FdMapping { parent_fd: commands, child_fd: 3 },
            FdMapping { parent_fd: answers, child_fd: 4 },
        ];
        for child_fd in inherited()? {
            descriptors.push(FdMapping { parent_fd: File::open("/dev/null")?.into(), child_fd });
        }
        let mut command = Command::new(program);
        command
            .env_clear() // nothing of the agent's environment: it may hold secrets
            .envs(self.environment())
            .current_dir(self.directory.home())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .fd_mappings(descriptors)
            .map_err(io::Error::other)?;
        // It leads a group, by which it is killed, and a session: apart from the agent's terminal,
        // and with processor time of its own (see `limits::order`).
        #[expect(unsafe_code, reason = "the standard library's own way to call it is unstable")]
        // SAFETY: between fork and exec it makes one system call, and allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?));
        }
        if let Some(user) = self.user {
            command.uid(user).gid(user); // drops supplementary groups as well
        }
        Ok(command)
    }

    /// Starts the command inside. `program` is what it runs. Blocks until it runs; to be
    /// called in a runtime.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or not with all layers that are active.
    pub fn spawn(&self, program: &Path, mut command: Command) -> io::Result<Child> {
        let runtime = Handle::current();
        thread::scope(|scope| {
            let confined =
                thread::Builder::new().name("jail".into()).spawn_scoped(scope, || {
                    let _runtime = runtime.enter();
                    // A thread's policy passes to what it starts.
                    crowd::none_on_this_thread();
                    self.isolation.confine_this_thread(program, self.directory, self.gateway)?;
                    let mut child = command.spawn()?;
                    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
                    let limited =
                        pid.map(|browser| limits::apply(browser, self.user, &self.limits));
                    limited.unwrap_or(Ok(())).inspect_err(|_| drop(child.start_kill()))?;
                    Ok(child)
                })?;
            confined.join().unwrap_or_else(|_| Err(io::Error::other("its jail broke")))
        })
    }

    fn environment(&self) -> impl Iterator<Item = (&'static str, Box<OsStr>)> {
        let home = self.directory.home();
        let tmp = self.directory.tmp();
        [
            ("HOME", home.as_os_str()),
            ("TMPDIR", tmp.as_os_str()),
            ("XDG_RUNTIME_DIR", tmp.as_os_str()),
            ("XDG_CONFIG_HOME", home.join("config").as_os_str()),
            ("XDG_CACHE_HOME", home.join("cache").as_os_str()),
            ("XDG_DATA_HOME", home.join("data").as_os_str()),
            ("PATH", OsStr::new("/usr/local/bin:/usr/bin:/bin")),
            ("LANG", OsStr::new("C.UTF-8")),
            // The machine's message buses are none of its business.
            ("DBUS_SESSION_BUS_ADDRESS", OsStr::new("disabled:")),
            ("DBUS_SYSTEM_BUS_ADDRESS", OsStr::new("disabled:")),
        ]
        .map(|(name, value)| (name, Box::from(value)))
        .into_iter()
    }
}

/// Descriptors that would pass through exec: whoever started the agent left them open. Its
/// own close by themselves.
fn inherited() -> io::Result<Vec<RawFd>> {
    const CLOEXEC: u32 = 0o2_000_000; // open(2) on Linux
    let mut inherited = Vec::new();
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let entry = entry?;
        let Some(fd @ 5..) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may be closed by now, as is the one that this list is read from.
        let Ok(about) = fs::read_to_string(entry.path()) else { continue };
        let flags = about.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        if flags.is_some_and(|flags| flags & CLOEXEC == 0) {
            inherited.push(fd);
        }
    }
    Ok(inherited)
}
