//! Chrome itself with a debugging port: what a connect URL is compared with.

use std::{
    ffi::OsString,
    fs,
    os::{
        fd::OwnedFd,
        unix::fs::{PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use command_fds::{CommandFdExt, FdMapping};
use rustix::{
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
    process::geteuid,
};
use tempfile::TempDir;
use tokio::{
    net::unix::pipe,
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::{PATIENCE, eventually, process};

/// How long a start may take, with many others at once.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The user that Chrome runs as when the tests run as root: `nobody`.
const NOBODY: u32 = 65_534;

/// A Chrome with a port of its own; killed when dropped.
#[derive(Debug)]
pub struct Chrome {
    /// `ws://127.0.0.1:port/devtools/browser/…`
    pub url: String,
    /// When its process was started.
    pub begun: Instant,
    folder: Option<TempDir>,
    _child: Child,
}

impl Chrome {
    /// Starts one with the very flags of a server's browser, but for port, profile and the
    /// gateway, which is that browser's own: this one goes to the network by itself.
    ///
    /// # Panics
    ///
    /// When the server has no browser, or Chrome does not start.
    pub async fn like(server_folder: &Path) -> Self {
        let (program, flags) = Self::command_of(server_folder).await;
        Self::start(&program, flags).await
    }

    /// The program and the flags of a server's browser.
    ///
    /// # Panics
    ///
    /// When the server has none.
    pub async fn command_of(server_folder: &Path) -> (PathBuf, Vec<OsString>) {
        let like = eventually("the server has a browser", PATIENCE, || async {
            process::below(server_folder, None).into_iter().find(process::Process::is_browser)
        })
        .await;
        let mut arguments = like.arguments.into_iter();
        (PathBuf::from(arguments.next().expect("a program")), arguments.collect())
    }

    /// Kills it. Its folder is left to the caller, who may wait until nothing runs there.
    ///
    /// # Panics
    ///
    /// Never: the folder is there until now.
    pub fn end(mut self) -> TempDir {
        let folder = self.folder.take().expect("a folder until the end");
        kill_below(folder.path());
        folder
    }

    /// Starts one.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start(program: &Path, flags: Vec<OsString>) -> Self {
        let (mut command, folder) = prepared(program, flags, "--remote-debugging-port=0");
        let begun = Instant::now();
        let child = command.spawn().expect("Chrome starts");
        let active = profile_in(folder.path()).join("DevToolsActivePort");
        let end = begun + START_LIMIT;
        // As finely as its start is to be measured.
        let url = loop {
            let text = fs::read_to_string(&active).unwrap_or_default();
            if let Some((port, path)) = text.split_once('\n') {
                break format!("ws://127.0.0.1:{port}{}", path.trim());
            }
            assert!(Instant::now() < end, "Chrome has not opened its port in {START_LIMIT:?}");
            sleep(Duration::from_millis(1)).await;
        };
        Self { url, begun, folder: Some(folder), _child: child }
    }
}

/// The same with a pipe instead of a port: nothing can be faster. Killed when dropped.
#[derive(Debug)]
pub struct Piped {
    pipe: Option<(pipe::Sender, pipe::Receiver)>,
    folder: TempDir,
    _child: Child,
}

impl Piped {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start(program: &Path, flags: Vec<OsString>) -> Self {
        let (commands, answers) = (pipe_of_1_mib(), pipe_of_1_mib());
        let (mut command, folder) = prepared(program, flags, "--remote-debugging-pipe");
        let ends = [
            FdMapping { parent_fd: commands.0, child_fd: 3 },
            FdMapping { parent_fd: answers.1, child_fd: 4 },
        ];
        command.fd_mappings(ends.into()).expect("two free numbers");
        let child = command.spawn().expect("Chrome starts");
        let sender = pipe::Sender::from_owned_fd(commands.1).expect("a pipe");
        let receiver = pipe::Receiver::from_owned_fd(answers.0).expect("a pipe");
        Self { pipe: Some((sender, receiver)), folder, _child: child }
    }

    /// Both ends: for commands, for answers. Messages end with NUL.
    ///
    /// # Panics
    ///
    /// When they were taken before.
    pub fn take_pipe(&mut self) -> (pipe::Sender, pipe::Receiver) {
        self.pipe.take().expect("a pipe that nobody has taken")
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        kill_below(self.folder.path());
    }
}

/// As large as those of an agent: the most that Linux lets anybody have.
fn pipe_of_1_mib() -> (OwnedFd, OwnedFd) {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    let _ = fcntl_setpipe_size(&write, 1 << 20);
    (read, write)
}

fn profile_in(folder: &Path) -> PathBuf {
    folder.join("profile")
}

/// A command with these flags but for those that are this browser's own, and its folder.
fn prepared(program: &Path, flags: Vec<OsString>, channel: &str) -> (Command, TempDir) {
    let folder = tempfile::Builder::new().prefix("vt-").tempdir_in("/tmp").expect("a folder");
    let mut command = Command::new(program);
    command.arg(format!("--user-data-dir={}", profile_in(folder.path()).display()));
    command.arg(channel).args(shared(flags));
    command.env_clear().envs([("HOME", folder.path()), ("TMPDIR", folder.path())]);
    process::lead_a_session(&mut command).current_dir(folder.path()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if geteuid().is_root() {
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("root may change owners");
        command.uid(NOBODY).gid(NOBODY);
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("own folder");
    (command, folder)
}

/// The flags that any other browser can have as well.
pub fn shared(flags: Vec<OsString>) -> impl Iterator<Item = OsString> {
    let own = |flag: &OsString| {
        let flag = flag.to_string_lossy();
        ["--remote-debugging", "--user-data-dir", "--proxy-"]
            .iter()
            .any(|own| flag.starts_with(own))
    };
    flags.into_iter().filter(move |flag| !own(flag))
}

impl Drop for Chrome {
    fn drop(&mut self) {
        self.folder.as_ref().inspect(|folder| kill_below(folder.path()));
    }
}

fn kill_below(folder: &Path) {
    process::below(folder, None).iter().for_each(process::Process::kill);
}
