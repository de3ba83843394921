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
    time::Instant,
};

use crate::{PATIENCE, eventually, process};

/// The user that Chrome runs as when the tests run as root: `nobody`.
const NOBODY: u32 = 65_534;

/// A Chrome with a port of its own; killed when dropped.
#[derive(Debug)]
pub struct Chrome {
    /// `ws://127.0.0.1:port/devtools/browser/…`
    pub url: String,
    /// From the start of its process to the first answer on its port.
    pub start_time: Duration,
    folder: TempDir,
    _child: Child,
}

impl Chrome {
    /// Starts one with the very flags of a server's browser, but for port and profile.
    ///
    /// # Panics
    ///
    /// When the server has no browser, or Chrome does not start.
    pub async fn like(server_folder: &Path) -> Self {
        let like = eventually("the server has a browser", PATIENCE, || async {
            process::below(server_folder, None).into_iter().find(process::Process::is_browser)
        })
        .await;
        let mut arguments = like.arguments.into_iter();
        let program = PathBuf::from(arguments.next().expect("a program"));
        Self::start(&program, arguments.collect()).await
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
            flag.starts_with("--remote-debugging") || flag.starts_with("--user-data-dir")
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
        let url = eventually("Chrome opens its port", PATIENCE, || async {
            let text = fs::read_to_string(&active).ok()?;
            let (port, path) = text.split_once('\n')?;
            Some(format!("ws://127.0.0.1:{port}{}", path.trim()))
        })
        .await;
        Self { url, start_time: begun.elapsed(), folder, _child: child }
    }
}

impl Drop for Chrome {
    fn drop(&mut self) {
        for process in process::below(self.folder.path(), None) {
            process.kill();
        }
    }
}
