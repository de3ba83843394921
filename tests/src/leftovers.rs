//! What a server must not leave behind.

use std::{fs, path::Path, time::Duration};

use crate::{eventually, process};

/// How long what a server ran may outlive it.
pub const GRACE: Duration = Duration::from_secs(2);

/// Waits until no process of a data directory is left but the server itself.
///
/// # Panics
///
/// When one stays.
pub async fn no_process(data: &Path, server: Option<u32>, within: Duration) {
    let mut left = Vec::new();
    let gone = eventually("its processes are gone", within, || {
        left = process::below(data, server);
        let gone = left.is_empty();
        async move { gone.then_some(()) }
    });
    gone.await;
}

/// Names of the browsers' directories that are there.
pub fn directories(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data.join("browsers")).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let names = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with('.') && name.len() == 8).collect()
}
