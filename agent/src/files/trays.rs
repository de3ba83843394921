//! The two directories of a browser through which files come and go. They are held open from
//! before its start, and everything goes through these descriptors: whatever the browser puts
//! in their place, nothing else is reached.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, ResolveFlags, fchmod, open, openat, openat2, renameat, unlinkat},
    io::Errno,
};
use ulid::Ulid;

/// For a file that the browser reads.
const READABLE: u32 = 0o644;

/// A browser's uploads and downloads.
#[derive(Debug)]
pub(crate) struct Trays {
    uploads: OwnedFd,
    downloads: OwnedFd,
    downloads_path: PathBuf,
    /// Whose its downloads are.
    owner: u32,
}

/// An upload that comes into being.
pub(super) struct Incoming<'a> {
    trays: &'a Trays,
    /// No upload has such a name: they do not begin with a dot.
    temporary: String,
    /// What it is written to.
    pub file: tokio::fs::File,
    done: bool,
}

impl Trays {
    /// Of a browser whose directories these are, and which has not been started yet.
    pub fn open(uploads: &Path, downloads: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let [uploads, tray] = [uploads, downloads].map(|path| open(path, flags, Mode::empty()));
        let (uploads, tray) = (uploads?, File::from(tray?));
        let owner = tray.metadata()?.uid();
        Ok(Self { uploads, downloads: tray.into(), downloads_path: downloads.into(), owner })
    }

    /// Where the browser is to put its downloads.
    pub fn downloads(&self) -> &Path {
        &self.downloads_path
    }

    /// Begins an upload. Dropped before [`Incoming::put`] it leaves nothing.
    pub(super) fn begin(&self) -> io::Result<Incoming<'_>> {
        let temporary = format!(".{}", Ulid::generate());
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(&self.uploads, &temporary, flags, Mode::from_raw_mode(READABLE))?;
        fchmod(&file, Mode::from_raw_mode(READABLE))?; // whatever the agent's mask is
        let file = tokio::fs::File::from_std(file.into());
        Ok(Incoming { trays: self, temporary, file, done: false })
    }

    /// Removes an upload, if it is there.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        check(name)?;
        match unlinkat(&self.uploads, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens what the browser says that it has downloaded: a file of its own, right in its
    /// directory.
    pub(super) fn open_download(&self, path: &Path) -> io::Result<File> {
        let elsewhere = || io::Error::new(io::ErrorKind::NotFound, "it is not in downloads/");
        if path.parent() != Some(&self.downloads_path) {
            return Err(elsewhere());
        }
        let name = path.file_name().ok_or_else(elsewhere)?;
        // What is no file must not be waited for.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file = openat2(self.downloads.as_fd(), name, flags, Mode::empty(), resolve)?;
        let file = File::from(file);
        let about = file.metadata()?;
        // A link to another's file is not its own.
        if !about.is_file() || about.uid() != self.owner {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it is no file of its own",
            ));
        }
        Ok(file)
    }
}

impl Incoming<'_> {
    /// It is whole: from now on it is there, in the place of what had its name.
    pub fn put(mut self, name: &str) -> io::Result<()> {
        check(name)?;
        let directory = &self.trays.uploads;
        renameat(directory, &self.temporary, directory, name)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        if !self.done {
            let _ = unlinkat(&self.trays.uploads, &self.temporary, AtFlags::empty());
        }
    }
}

/// The hub has checked names; what matters here is that they are one part of a path.
fn check(name: &str) -> io::Result<()> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no name of a file"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use tokio::io::AsyncWriteExt;

    use super::*;

    fn trays() -> (tempfile::TempDir, Trays) {
        let place = tempfile::tempdir().unwrap();
        for name in ["uploads", "downloads"] {
            fs::create_dir(place.path().join(name)).unwrap();
        }
        let at = |name| place.path().join(name);
        let trays = Trays::open(&at("uploads"), &at("downloads")).unwrap();
        (place, trays)
    }

    async fn put(trays: &Trays, name: &str, content: &[u8]) -> io::Result<()> {
        let mut incoming = trays.begin()?;
        incoming.file.write_all(content).await?;
        incoming.file.flush().await?;
        incoming.put(name)
    }

    #[tokio::test]
    async fn an_upload_is_there_as_a_whole_or_not_at_all() {
        let (place, trays) = trays();
        let path = place.path().join("uploads/a b.txt");
        put(&trays, "a b.txt", b"first").await.unwrap();
        put(&trays, "a b.txt", b"second").await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, READABLE);
        drop(trays.begin().unwrap());
        assert_eq!(fs::read_dir(place.path().join("uploads")).unwrap().count(), 1);
        trays.remove("a b.txt").unwrap();
        trays.remove("a b.txt").unwrap(); // twice does no harm
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn no_name_leads_out_of_the_directory() {
        let (place, trays) = trays();
        for name in ["", ".", "..", "../x", "a/b", "/etc/x", ".x", "a\0"] {
            assert!(put(&trays, name, b"x").await.is_err(), "{name:?}");
            assert!(trays.remove(name).is_err(), "{name:?}");
        }
        assert_eq!(fs::read_dir(place.path().join("uploads")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_is_put_in_a_directorys_place_is_not_reached() {
        let (place, trays) = trays();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        for name in ["uploads", "downloads"] {
            fs::rename(place.path().join(name), place.path().join(format!("{name}-old"))).unwrap();
            symlink(outside.path(), place.path().join(name)).unwrap();
        }
        put(&trays, "x", b"x").await.unwrap();
        assert!(!outside.path().join("x").exists());
        assert!(place.path().join("uploads-old/x").exists());
        assert!(trays.open_download(&place.path().join("downloads/secret")).is_err());
    }

    #[test]
    fn only_files_of_the_browsers_own_are_taken() {
        let (place, trays) = trays();
        let downloads = place.path().join("downloads");
        let at = |name: &str| downloads.join(name);
        fs::write(at("good"), "good").unwrap();
        assert!(trays.open_download(&at("good")).is_ok());
        symlink("/etc/hostname", at("link")).unwrap();
        symlink(at("good"), at("inner")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), Mode::from_raw_mode(0o600)).unwrap();
        for bad in ["link", "inner", "directory", "pipe", "missing", "directory/../good", ".."] {
            assert!(trays.open_download(&at(bad)).is_err(), "{bad}");
        }
        assert!(trays.open_download(Path::new("/etc/hostname")).is_err());
    }

    #[test]
    fn anothers_file_that_is_linked_into_the_directory_is_not_taken() {
        if !rustix::process::geteuid().is_root() {
            return; // only root can give a file to somebody else
        }
        let (place, trays) = trays();
        let path = place.path().join("downloads/linked");
        fs::write(&path, "x").unwrap();
        std::os::unix::fs::chown(&path, Some(1), Some(1)).unwrap();
        assert!(trays.open_download(&path).is_err());
    }
}
