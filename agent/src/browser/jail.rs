//! What a browser's process may be and see: set on its command, in force from its first
//! instruction on. Further walls between fork and exec belong here.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::fd::{OwnedFd, RawFd},
    path::Path,
    process::Stdio,
};

use command_fds::{CommandFdExt, FdMapping};
use tokio::process::Command;

use super::directory::Directory;

/// The confinement of one browser.
#[derive(Debug)]
pub struct Jail<'a> {
    /// User and group to become; `None` stays who the agent is.
    pub user: Option<u32>,
    /// Home, working directory and place for temporary files.
    pub directory: &'a Directory,
}

impl Jail<'_> {
    /// A command for `program` that starts inside, with its ends of the two pipes as
    /// descriptors 3 and 4. The command holds them until it is dropped.
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
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .fd_mappings(descriptors)
            .map_err(io::Error::other)?;
        if let Some(user) = self.user {
            command.uid(user).gid(user); // drops supplementary groups as well
        }
        Ok(command)
    }

    fn environment(&self) -> impl Iterator<Item = (&'static str, Box<OsStr>)> {
        let home = self.directory.path();
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
