//! Chrome itself with a debugging port: what a connect URL is compared with.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::geteuid;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::{PATIENCE, eventually, process};

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
        let folder = tempfile::Builder::new().prefix("vt-").tempdir_in("/tmp").expect("a folder");
        let profile = folder.path().join("profile");
        let ours = |flag: &OsString| {
            let flag = flag.to_string_lossy();
            ["--remote-debugging", "--user-data-dir", "--proxy-"]
                .iter()
                .any(|start| flag.starts_with(start))
        };
        let mut command = Command::new(program);
        command.arg(format!("--user-data-dir={}", profile.display()));
        command.arg("--remote-debugging-port=0").args(flags.into_iter().filter(|flag| !ours(flag)));
        command.env_clear().envs([("HOME", folder.path()), ("TMPDIR", folder.path())]);
        command.current_dir(folder.path()).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if geteuid().is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("root may change owners");
            command.uid(NOBODY).gid(NOBODY);
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("own folder");
        let begun = Instant::now();
        let child = command.spawn().expect("Chrome starts");
        let active = profile.join("DevToolsActivePort");
        let end = begun + PATIENCE;
        // As finely as its start is to be measured.
        let url = loop {
            let text = fs::read_to_string(&active).unwrap_or_default();
            if let Some((port, path)) = text.split_once('\n') {
                break format!("ws://127.0.0.1:{port}{}", path.trim());
            }
            assert!(Instant::now() < end, "Chrome has not opened its port in {PATIENCE:?}");
            sleep(Duration::from_millis(1)).await;
        };
        Self { url, begun, folder: Some(folder), _child: child }
    }
}

impl Drop for Chrome {
    fn drop(&mut self) {
        self.folder.as_ref().inspect(|folder| kill_below(folder.path()));
    }
}

fn kill_below(folder: &Path) {
    process::below(folder, None).iter().for_each(process::Process::kill);
}
