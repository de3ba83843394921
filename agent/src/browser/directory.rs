//! A browser's own directory, and the root that holds them all.
//!
//! ```text
//! <data dir>/browsers/        0711, the agent's: can be passed through, not listed
//!   3FQ8ZK2M/                 0750, the agent's; its group is the browser's
//!     home/                   0700, the browser's: HOME and working directory
//!     profile/                0700, the browser's: what Chrome keeps
//!     tmp/                    0700, the browser's: TMPDIR and XDG_RUNTIME_DIR
//!     downloads/              0700, the browser's
//!     uploads/                0750, the agent's; its group is the browser's
//! ```
//!
//! So a browser cannot put anything in the place of these, nor change what was uploaded.
//! Where it runs as the agent's own user, that is the jail's alone to enforce.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use ulid::Ulid;

/// Longest path of the root, in bytes: Chrome makes a socket at
/// `<root>/3FQ8ZK2M/tmp/org.chromium.Chromium.XXXXXX/SingletonSocket` and gives up when
/// that is longer than a socket's address may be (107 bytes, unix(7)).
pub const ROOT_MAX: usize =
    107 - NAME_LEN - "//tmp/org.chromium.Chromium.XXXXXX/SingletonSocket".len();

const NAME_LEN: usize = 8;

/// One browser's directory.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    name: String,
}

impl Directory {
    /// Makes a new one below `root`, owned by `user`.
    pub fn create(root: &Path, user: Option<u32>) -> io::Result<Self> {
        let (path, name) = loop {
            let name = Ulid::generate().to_string().split_off(26 - NAME_LEN);
            let path = root.join(&name);
            match make(&path, user) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => break made.map(|()| (path, name))?,
            }
        };
        let directory = Self { path, name };
        make(&directory.uploads(), user)?;
        for path in directory.writable() {
            DirBuilder::new().mode(0o700).create(&path)?;
            user.map_or(Ok(()), |user| chown(path, Some(user), Some(user)))?;
        }
        Ok(directory)
    }

    /// All that the browser may write.
    pub fn writable(&self) -> [PathBuf; 4] {
        [self.home(), self.profile(), self.tmp(), self.downloads()]
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn home(&self) -> PathBuf {
        self.path.join("home")
    }

    /// What the browser downloaded.
    pub fn downloads(&self) -> PathBuf {
        self.path.join("downloads")
    }

    /// What callers put there for the browser to read.
    pub fn uploads(&self) -> PathBuf {
        self.path.join("uploads")
    }

    pub fn profile(&self) -> PathBuf {
        self.path.join("profile")
    }

    pub fn tmp(&self) -> PathBuf {
        self.path.join("tmp")
    }

    /// Removes it and all beneath it; links are removed, never followed.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Makes one that is the agent's, and that `user` may read.
fn make(path: &Path, user: Option<u32>) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    let Some(user) = user else { return Ok(()) };
    chown(path, None, Some(user))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o750)) // whatever the agent's umask
}

/// Makes the root for browsers, or corrects its mode.
pub fn make_root(root: &Path) -> io::Result<()> {
    fs::create_dir_all(root)?;
    fs::set_permissions(root, fs::Permissions::from_mode(0o711))
}

/// The first directory on the way to `path` that a user without rights of its own cannot
/// pass through.
pub fn blocking_ancestor(path: &Path) -> io::Result<Option<PathBuf>> {
    let path = path.canonicalize()?;
    let mut ancestors: Vec<_> = path.ancestors().collect();
    ancestors.reverse();
    for ancestor in ancestors {
        if fs::metadata(ancestor)?.mode() & 0o001 == 0 {
            return Ok(Some(ancestor.to_path_buf()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_user_can_enter_it() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::create(root.path(), None).unwrap();
        for path in [directory.path(), &directory.tmp(), &directory.uploads()] {
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o700);
        }
        assert_eq!(directory.name().len(), NAME_LEN);
    }

    #[test]
    fn removing_it_does_not_follow_links() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "").unwrap();
        let directory = Directory::create(root.path(), None).unwrap();
        std::os::unix::fs::symlink(outside.path(), directory.path().join("link")).unwrap();
        directory.remove().unwrap();
        assert!(outside.path().join("kept").exists());
        assert!(!directory.path().exists());
        directory.remove().unwrap(); // twice does no harm
    }

    #[test]
    fn the_directory_that_bars_the_way_is_named() {
        let root = tempfile::tempdir().unwrap();
        let barred = root.path().join("barred");
        let path = barred.join("browsers");
        fs::create_dir_all(&path).unwrap();
        for (path, mode) in [(root.path(), 0o755), (barred.as_path(), 0o750)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        assert_eq!(blocking_ancestor(&path).unwrap(), Some(barred.canonicalize().unwrap()));
        fs::set_permissions(&barred, fs::Permissions::from_mode(0o711)).unwrap();
        assert_eq!(blocking_ancestor(&path).unwrap(), None);
    }
}
