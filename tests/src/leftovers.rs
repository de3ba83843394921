//! What a server must not leave behind.

use std::{fs, path::Path, time::Duration};

use tokio::time::{Instant, sleep};

use crate::process;

/// How long what a server ran may outlive it.
pub const GRACE: Duration = Duration::from_secs(5);

/// Waits until no process of a data directory is left but the server itself.
///
/// # Panics
///
/// When one stays.
pub async fn no_process(data: &Path, server: Option<u32>, within: Duration) {
    let end = Instant::now() + within;
    loop {
        let left = process::below(data, server);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "processes are left after {within:?}: {left:#?}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Names of the browsers' directories that are there.
pub fn directories(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data.join("browsers")).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let names = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with('.') && name.len() == 8).collect()
}
