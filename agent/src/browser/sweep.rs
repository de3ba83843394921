//! Clears away what an earlier, killed run left below the root for browsers.

use std::{
    collections::HashSet,
    fs, io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::process::geteuid;
use tracing::info;

use super::{
    proc_table::{self, Found},
    users::{FIRST_USER, LAST_USER},
};

const LIMIT: Duration = Duration::from_secs(5);

/// Ends processes and removes directories that are left. Blocks. The caller alone uses
/// `root`.
///
/// # Errors
///
/// When something cannot be removed.
pub fn sweep(root: &Path) -> io::Result<()> {
    let deadline = Instant::now() + LIMIT;
    let mut users = HashSet::new();
    let mut groups = HashSet::new();
    let as_root = geteuid().is_root();
    // Nobody else's, whatever they mention.
    let may_be_ours = |found: &Found| {
        if as_root {
            (FIRST_USER..=LAST_USER).contains(&found.user)
        } else {
            found.user == geteuid().as_raw()
        }
    };
    loop {
        for found in proc_table::all(|found| may_be_ours(found) && found.works_below(root)) {
            users.insert(found.user);
            groups.extend(found.group);
        }
        // Helpers do not name the directory; they share the user, or else the group.
        let is_left = |found: &Found| {
            let shares = if as_root {
                users.contains(&found.user)
            } else {
                found.group.is_some_and(|group| groups.contains(&group))
            };
            shares && may_be_ours(found) && !found.zombie
        };
        let left = proc_table::all(is_left);
        if left.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            return Err(io::Error::other("processes of an earlier run cannot be killed"));
        }
        info!(processes = left.len(), "ending browsers that an earlier run left");
        left.iter().for_each(Found::end);
        thread::sleep(Duration::from_millis(20));
    }
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        info!(directory = %entry.path().display(), "removing what an earlier run left");
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
