//! A disk that is small enough to be filled. Only root can have one.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
};

/// Mounted on a folder until it is dropped, with all that is on it.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one with so many MiB over an empty folder.
    ///
    /// # Panics
    ///
    /// When we may not.
    pub fn over(folder: &Path, size_mib: u32) -> Self {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size_mib}m,mode=0711"), "tmpfs"]);
        assert!(mount.arg(folder).status().is_ok_and(|ended| ended.success()), "{mount:?}");
        Self(folder.to_owned())
    }

    /// Leaves no room on it.
    ///
    /// # Panics
    ///
    /// When it cannot be filled.
    pub fn fill(&self) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast());
        let ballast = ballast.as_mut().expect("a file of ours");
        // In ever smaller pieces, to the last byte.
        for size in [1 << 20, 1 << 12, 1] {
            let piece = vec![0; size];
            loop {
                match ballast.write_all(&piece) {
                    Ok(()) => (),
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    /// The end of [`Self::fill`].
    ///
    /// # Panics
    ///
    /// When it was not filled.
    pub fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("it was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: after a panic something may still be open on it.
        let ended = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(ended.is_ok_and(|ended| ended.success()) || std::thread::panicking());
    }
}
