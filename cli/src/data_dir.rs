//! The data directory: where a server keeps what must outlive it.
//!
//! The directory itself can be passed through by others (0711), as browsers run as another
//! user in directories of their own below it. Secrets in it are files of mode 0600.

use std::{
    env,
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Args;
use rustix::{
    fs::{Access, Mode, access},
    process::{geteuid, umask},
};
use serde::{Deserialize, Serialize};

/// Where the data is.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Options {
    /// Where to keep data [default: /var/lib/ventus for root, else ~/.local/share/ventus]
    #[arg(long, env = "VENTUS_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// A data directory that exists.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// How to reach the server of a data directory: `credentials.json`. Kept because the store
/// has only the hash of a key.
#[derive(Debug, Serialize, Deserialize)]
pub struct Credentials {
    /// Where the server is reached.
    pub base_url: String,
    /// The API key that was made at the first start.
    pub api_key: String,
}

impl Options {
    /// This one, or the default where there is none.
    pub fn at(data_dir: Option<PathBuf>) -> Self {
        Self { data_dir }
    }

    /// The path, which may not exist yet.
    pub fn path(&self) -> anyhow::Result<PathBuf> {
        let path = match &self.data_dir {
            Some(path) => path.clone(),
            None => default_path()?,
        };
        Ok(std::path::absolute(path)?)
    }

    /// Opens the directory, and makes it where it is missing. Replicas of a control plane
    /// may share one; that no two agents do is for the agents to see to.
    ///
    /// # Errors
    ///
    /// When it cannot be used.
    pub fn open(&self) -> anyhow::Result<DataDir> {
        let path = self.path()?;
        make(&path).with_context(|| format!("cannot use the data directory {}", path.display()))?;
        // Whatever is made from here on is its owner's alone, unless it says otherwise: the
        // browsers' user can pass through the directory.
        umask(Mode::RWXG | Mode::RWXO);
        Ok(DataDir { path })
    }
}

impl DataDir {
    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The credentials, if there are any.
    pub fn credentials(&self) -> anyhow::Result<Option<Credentials>> {
        credentials_in(&self.path)
    }

    /// Keeps the credentials for `ventus try` and for later starts.
    pub fn keep(&self, credentials: &Credentials) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(credentials)?;
        text.push('\n');
        write_secret(&credentials_path(&self.path), &text)
    }

    /// The token that agents join with, made where there is none yet.
    pub fn join_token(&self) -> anyhow::Result<(String, PathBuf)> {
        let path = self.path.join("join-token");
        match fs::read_to_string(&path) {
            Ok(token) => Ok((token.trim().to_owned(), path)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let token = random_token()?;
                write_secret(&path, &format!("{token}\n"))?;
                Ok((token, path))
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

/// Where the credentials of a data directory are.
pub fn credentials_path(dir: &Path) -> PathBuf {
    dir.join("credentials.json")
}

/// The credentials in a data directory, if there are any.
pub fn credentials_in(dir: &Path) -> anyhow::Result<Option<Credentials>> {
    let path = credentials_path(dir);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    let credentials = serde_json::from_str(&text)
        .with_context(|| format!("{} is not what ventus wrote there", path.display()))?;
    Ok(Some(credentials))
}

/// A secret of 256 random bits, as text.
pub fn random_token() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("the system gives no randomness")?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Writes a file that only its owner can read, all of it or nothing.
pub fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("secret");
    let fresh = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let write = || {
        let _ = fs::remove_file(&fresh);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write()
        .inspect_err(|_| drop(fs::remove_file(&fresh)))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn default_path() -> anyhow::Result<PathBuf> {
    if geteuid().is_root() {
        return Ok("/var/lib/ventus".into());
    }
    // The XDG base directory specification: a relative path there is to be ignored.
    let xdg = env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::home_dir().map(|home| home.join(".local/share"));
    let base = xdg.or_else(home).context("there is no home directory: name a --data-dir")?;
    Ok(base.join("ventus"))
}

fn make(path: &Path) -> std::io::Result<()> {
    if !path.is_dir() {
        DirBuilder::new().recursive(true).create(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o711))?;
    }
    let mode = fs::metadata(path)?.permissions().mode();
    if geteuid().is_root() && mode & 0o011 != 0o011 {
        fs::set_permissions(path, Permissions::from_mode(mode | 0o011))?;
    }
    // Better to hear now than at the first session that it cannot be written to.
    access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(dir: &Path) -> Options {
        Options { data_dir: Some(dir.to_owned()) }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_new_directory_can_be_passed_but_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        let opened = options(&dir.path().join("a/b")).open().unwrap();
        assert_eq!(mode(opened.path()), 0o711);
    }

    #[test]
    fn credentials_are_kept_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let data = options(dir.path()).open().unwrap();
        assert!(data.credentials().unwrap().is_none());
        let kept = Credentials { base_url: "http://here".into(), api_key: "vs_x".into() };
        data.keep(&kept).unwrap();
        assert_eq!(mode(&credentials_path(dir.path())), 0o600);
        assert_eq!(data.credentials().unwrap().unwrap().api_key, "vs_x");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_join_token_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let data = options(dir.path()).open().unwrap();
        let (token, path) = data.join_token().unwrap();
        assert_eq!(data.join_token().unwrap().0, token);
        assert_eq!(mode(&path), 0o600);
    }
}
