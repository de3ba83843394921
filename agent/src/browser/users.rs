//! A user of its own for every browser, where the agent may change users (it is root).
//!
//! A number is claimed by a locked file, as other agents on the machine take theirs from
//! the same range; the kernel gives the claim up when its agent dies.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::proc_table;

/// The lowest of the numbers. They are those that systemd keeps for services without a
/// user of their own, so no account has them (systemd.io/UIDS-GIDS).
pub const FIRST_USER: u32 = 61_184;
/// The highest.
pub const LAST_USER: u32 = 65_519;

/// The numbers that this agent may take.
#[derive(Debug)]
pub struct Users {
    claims: PathBuf,
    free: Mutex<VecDeque<u32>>,
}

/// A number that no other browser has. Free again when dropped, which must come after the
/// last of its processes.
#[derive(Debug)]
pub struct User {
    /// User and group id.
    pub id: u32,
    claim: File,
    of: Arc<Users>,
}

impl Users {
    /// Claims are kept in `claims`, which only root can enter.
    pub fn new(claims: &Path) -> io::Result<Arc<Self>> {
        fs::create_dir_all(claims)?;
        fs::set_permissions(claims, fs::Permissions::from_mode(0o700))?;
        let free = Mutex::new((FIRST_USER..=LAST_USER).collect());
        Ok(Arc::new(Self { claims: claims.to_path_buf(), free }))
    }

    /// Claims a number. `None`: all are taken.
    ///
    /// # Errors
    ///
    /// When claims cannot be written.
    pub fn claim(self: &Arc<Self>) -> io::Result<Option<User>> {
        let candidates = self.free().len();
        for _ in 0..candidates {
            // The longest unused comes first.
            let Some(id) = self.free().pop_front() else { break };
            match lock(&self.path(id)) {
                // A service of the machine may have the number, unknown to us.
                Ok(Some(claim)) if proc_table::of_user(id).is_empty() => {
                    return Ok(Some(User { id, claim, of: self.clone() }));
                }
                Ok(Some(_)) => {
                    let _ = fs::remove_file(self.path(id));
                    self.free().push_back(id);
                }
                Ok(None) => self.free().push_back(id),
                Err(error) => {
                    self.free().push_back(id);
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    fn path(&self, id: u32) -> PathBuf {
        self.claims.join(id.to_string())
    }

    fn free(&self) -> std::sync::MutexGuard<'_, VecDeque<u32>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // While the lock is held, so that nobody loses a claim on the same path.
        let _ = fs::remove_file(self.of.path(self.id));
        let _ = self.claim.unlock();
        self.of.free().push_back(self.id);
    }
}

/// Makes and locks a file. `None`: another agent has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Its owner may have removed the file between our open and our lock.
    let is_there = fs::metadata(path).is_ok_and(|there| {
        file.metadata().is_ok_and(|ours| (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
    });
    Ok(is_there.then_some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_agents_never_have_the_same_number() {
        let claims = tempfile::tempdir().unwrap();
        let agents = [Users::new(claims.path()).unwrap(), Users::new(claims.path()).unwrap()];
        let claimed: Vec<User> = (0..20).map(|i| agents[i % 2].claim().unwrap().unwrap()).collect();
        let mut ids: Vec<u32> = claimed.iter().map(|user| user.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 20);
    }

    #[test]
    fn a_number_given_back_can_be_had_again_and_leaves_no_file() {
        let claims = tempfile::tempdir().unwrap();
        let users = Users::new(claims.path()).unwrap();
        let id = users.claim().unwrap().unwrap().id;
        assert_eq!(fs::read_dir(claims.path()).unwrap().count(), 0);
        assert!(users.free().contains(&id));
        assert_ne!(users.claim().unwrap().unwrap().id, id, "not at once");
    }
}
