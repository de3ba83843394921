//! Where people are signed in: `$XDG_CONFIG_HOME/ventus/sign-ins.json`, for its owner alone.
//!
//! A refresh token is good once, and using it twice ends the sign-in: so whoever changes the
//! file holds a lock on it from before it reads until after it has written, also while it
//! asks the server. Readers need none: the file is replaced whole.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, DirBuilder, File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::data_dir::write_secret;

/// The folder of a user's sign-ins.
#[derive(Clone)]
pub struct SignIns {
    dir: PathBuf,
}

/// What the file holds.
#[derive(Default, Serialize, Deserialize)]
pub struct Kept {
    /// The server that was signed in to last.
    pub current: Option<String>,
    /// By base URL.
    pub servers: BTreeMap<String, SignIn>,
}

/// One person at one server.
#[derive(Clone, Serialize, Deserialize)]
pub struct SignIn {
    /// Who.
    pub email: String,
    /// The workspace that commands are about when they name none.
    pub workspace: Option<String>,
    /// What shows it.
    pub tokens: Tokens,
}

/// What a sign-in answers with. Secrets: never shown.
#[derive(Clone, Serialize, Deserialize)]
pub struct Tokens {
    /// Goes with each request.
    pub access_token: String,
    /// RFC 3339.
    pub access_expires_at: String,
    /// Good once, for the next pair.
    pub refresh_token: String,
}

/// The right to change the file, until it is dropped.
pub struct Locked<'a> {
    sign_ins: &'a SignIns,
    _lock: File,
}

impl SignIns {
    /// This user's.
    ///
    /// # Errors
    ///
    /// When there is no home directory.
    pub fn of_user() -> anyhow::Result<Self> {
        // The XDG base directory specification: a relative path there is to be ignored.
        let xdg = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        let home = || env::home_dir().map(|home| home.join(".config"));
        let base = xdg.filter(|path| path.is_absolute()).or_else(home);
        Ok(Self::at(
            base.context("there is no home directory: set XDG_CONFIG_HOME")?.join("ventus"),
        ))
    }

    /// Those in a folder, which need not exist.
    pub fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// All that is kept.
    pub fn read(&self) -> anyhow::Result<Kept> {
        let path = self.path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Kept::default()),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        // Serde would quote what it stumbled over, and this file is full of secrets.
        serde_json::from_str(&text).map_err(|_| {
            anyhow::anyhow!("{} is not what ventus wrote there: remove it", path.display())
        })
    }

    /// Waits for its turn to change something.
    pub async fn lock(&self) -> anyhow::Result<Locked<'_>> {
        let dir = self.dir.clone();
        let locking = tokio::task::spawn_blocking(move || {
            DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
            let mut options = OpenOptions::new();
            options.create(true).write(true).truncate(false).mode(0o600);
            let file = options.open(dir.join("sign-ins.lock"))?;
            file.lock()?;
            Ok::<_, std::io::Error>(file)
        });
        let lock = locking.await?.with_context(|| format!("cannot use {}", self.dir.display()))?;
        Ok(Locked { sign_ins: self, _lock: lock })
    }

    fn path(&self) -> PathBuf {
        self.dir.join("sign-ins.json")
    }
}

impl Locked<'_> {
    /// All that is kept, and stays so while this lives.
    pub fn read(&self) -> anyhow::Result<Kept> {
        self.sign_ins.read()
    }

    /// Puts this in its place.
    pub fn write(&self, kept: &Kept) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(kept)?;
        text.push('\n');
        write_secret(&self.sign_ins.path(), &text)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn sign_in(email: &str) -> SignIn {
        let tokens = Tokens {
            access_token: "vd_secret".into(),
            access_expires_at: "2026-11-22T12:00:00.000Z".into(),
            refresh_token: "vr_secret".into(),
        };
        SignIn { email: email.into(), workspace: None, tokens }
    }

    #[tokio::test]
    async fn tokens_are_their_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let sign_ins = SignIns::at(dir.path().join("a/ventus"));
        assert!(sign_ins.read().unwrap().servers.is_empty());
        let locked = sign_ins.lock().await.unwrap();
        let mut kept = locked.read().unwrap();
        kept.servers.insert("http://x".into(), sign_in("a@x"));
        locked.write(&kept).unwrap();
        assert_eq!(sign_ins.read().unwrap().servers["http://x"].email, "a@x");
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(sign_ins.path()), 0o600);
        assert_eq!(mode(dir.path().join("a/ventus")), 0o700);
    }

    #[tokio::test]
    async fn changes_take_turns() {
        let dir = tempfile::tempdir().unwrap();
        let sign_ins = SignIns::at(dir.path().to_owned());
        let mut changes = tokio::task::JoinSet::new();
        for n in 0..20 {
            let sign_ins = sign_ins.clone();
            changes.spawn(async move {
                let locked = sign_ins.lock().await.unwrap();
                let mut kept = locked.read().unwrap();
                tokio::task::yield_now().await;
                kept.servers.insert(format!("http://{n}"), sign_in("a@x"));
                locked.write(&kept).unwrap();
            });
        }
        changes.join_all().await;
        assert_eq!(sign_ins.read().unwrap().servers.len(), 20);
    }

    #[test]
    fn a_damaged_file_is_named_and_not_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let sign_ins = SignIns::at(dir.path().to_owned());
        fs::write(sign_ins.path(), r#"{"servers": "vr_secret"}"#).unwrap();
        let error = format!("{:#}", sign_ins.read().err().unwrap());
        assert!(error.contains("sign-ins.json") && !error.contains("vr_secret"), "{error}");
    }
}
