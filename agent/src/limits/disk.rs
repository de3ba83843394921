//! What a directory takes of the disk.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// What an entry counts at least, in bytes: it has a name and an inode even when it is empty.
/// It also bounds the walk: a limit is reached after so many entries.
const ENTRY_BYTES: u64 = 4096;

/// Unit of `st_blocks`, in bytes (stat(3type)).
const BLOCK_BYTES: u64 = 512;

/// Bytes that a directory takes with all beneath it: blocks that are there, not lengths that
/// are claimed. Stops as soon as that is more than `limit`. Links are not followed. A
/// directory that cannot be read, to hide what is in it, counts as more than any limit.
pub fn used(directory: &Path, limit: u64) -> u64 {
    let mut sum = 0;
    let mut waiting: Vec<PathBuf> = vec![directory.to_path_buf()];
    while let Some(path) = waiting.pop() {
        match entries(&path, &mut waiting, &mut sum, limit) {
            Ok(()) if sum <= limit => {}
            Err(error) if !hides(&error) => {} // it has gone meanwhile
            Ok(()) => break,
            Err(_) => return u64::MAX,
        }
    }
    sum
}

fn entries(
    path: &Path,
    waiting: &mut Vec<PathBuf>,
    sum: &mut u64,
    limit: u64,
) -> Result<(), io::Error> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let Ok(about) = entry.metadata() else { continue };
        *sum += (about.blocks() * BLOCK_BYTES).max(ENTRY_BYTES);
        if *sum > limit {
            break;
        }
        if about.is_dir() {
            waiting.push(entry.path());
        }
    }
    Ok(())
}

fn hides(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidFilename)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn blocks_count_and_lengths_do_not() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("below")).unwrap();
        fs::write(root.path().join("below/full"), vec![1; 1 << 20]).unwrap();
        let sparse = fs::File::create(root.path().join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        let used = used(root.path(), u64::MAX);
        assert!((1 << 20..2 << 20).contains(&used), "{used}");
    }

    #[test]
    fn many_empty_files_count() {
        let root = tempfile::tempdir().unwrap();
        for n in 0..100 {
            fs::write(root.path().join(n.to_string()), "").unwrap();
        }
        assert_eq!(used(root.path(), u64::MAX), 100 * ENTRY_BYTES);
        assert_eq!(used(root.path(), 10 * ENTRY_BYTES), 11 * ENTRY_BYTES);
    }

    #[test]
    fn links_are_not_followed() {
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(other.path().join("large"), vec![1; 1 << 20]).unwrap();
        symlink(other.path(), root.path().join("link")).unwrap();
        assert_eq!(used(root.path(), u64::MAX), ENTRY_BYTES);
    }

    #[test]
    fn what_is_too_deep_to_be_read_is_too_much() {
        let root = tempfile::tempdir().unwrap();
        let mut inside = fs::File::open(root.path()).unwrap();
        let name = "d".repeat(250);
        for _ in 0..20 {
            rustix::fs::mkdirat(&inside, name.as_str(), rustix::fs::Mode::RWXU).unwrap();
            let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
            let next = rustix::fs::openat(&inside, name.as_str(), flags, rustix::fs::Mode::empty());
            inside = next.unwrap().into();
        }
        assert_eq!(used(root.path(), u64::MAX), u64::MAX);
    }

    #[test]
    fn what_is_gone_takes_nothing() {
        assert_eq!(used(Path::new("/nowhere/at/all"), u64::MAX), 0);
    }
}
