//! For tests on real browsers.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Launcher, proc_table};

/// The full browser.
pub const CHROMIUM: &str = "/usr/lib/chromium/chromium";
/// Its smaller sister.
pub const HEADLESS_SHELL: &str = "/usr/lib/chromium/chromium-headless-shell";

/// A directory that browsers' users can pass through, removed at the end.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(0o711)).unwrap();
        Self(place)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn root(&self) -> PathBuf {
        self.0.path().join("browsers")
    }

    /// A launcher below this place.
    pub async fn launcher(&self, binary: impl AsRef<Path>) -> Arc<Launcher> {
        Arc::new(Launcher::open(binary.as_ref(), &self.root(), false).await.unwrap())
    }

    /// A program in the place of a browser.
    pub fn script(&self, script: &str) -> PathBuf {
        let path = self.path().join("program");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Directories of browsers that are there.
    pub fn directories(&self) -> usize {
        fs::read_dir(self.root()).map_or(0, Iterator::count)
    }

    /// Fails unless nothing of any browser is left.
    pub fn assert_clear(&self) {
        assert_eq!(self.directories(), 0, "directories are left");
        let processes = self.processes();
        assert!(processes.is_empty(), "processes are left: {processes:?}");
    }

    /// Live processes of browsers that were started below this place.
    pub fn processes(&self) -> Vec<i32> {
        let root = self.root();
        let named = proc_table::all(|found| found.works_below(&root));
        let belongs = |found: &proc_table::Found| {
            !found.zombie
                && named.iter().any(|other| {
                    other.group == found.group
                        || rustix::process::geteuid().is_root() && other.user == found.user
                })
        };
        proc_table::all(belongs).iter().map(|found| found.pid.as_raw_pid()).collect()
    }
}

/// Waits for a condition.
pub async fn until(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Descriptors that this process has open.
pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}
