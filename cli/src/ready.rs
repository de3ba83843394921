//! The ready file: how scripts and tests learn that a server is up, and how to reach it.

use std::{
    cell::Cell,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::Serialize;

use crate::{data_dir::write_secret, usage};

/// What the file says.
#[derive(Debug, Serialize)]
pub struct Ready<'a> {
    /// Where the server is reached.
    pub base_url: &'a str,
    /// A key for its API; null where this process knows none.
    pub api_key: Option<&'a str>,
    /// The process that serves.
    pub pid: u32,
}

/// A ready file that exists only while the server does.
#[derive(Debug, Default)]
pub struct ReadyFile {
    path: Option<PathBuf>,
    written: Cell<bool>,
}

impl ReadyFile {
    /// Removes what an earlier run has left there, so that nobody takes it for this one's.
    /// Called once the address is ours, and so no other server's file can be there.
    ///
    /// # Errors
    ///
    /// When the file could not be written later.
    pub fn prepare(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let path = std::path::absolute(path)?;
        let shown = path.display();
        if !path.parent().is_some_and(Path::is_dir) {
            return Err(usage(format!("--ready-file {shown}: its folder does not exist")));
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot replace {shown}"))
            }
            _ => Ok(Self { path: Some(path), written: Cell::new(false) }),
        }
    }

    /// Says that the server is ready.
    pub fn write(&self, base_url: &str, api_key: Option<&str>) -> anyhow::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let ready = Ready { base_url, api_key, pid: std::process::id() };
        write_secret(path, &format!("{}\n", serde_json::to_string(&ready)?))?;
        self.written.set(true);
        Ok(())
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        // An unwritten one may by now be another server's.
        if let Some(path) = self.path.as_ref().filter(|_| self.written.get()) {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_file_lives_as_long_as_its_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ready.json");
        fs::write(&path, "stale").unwrap();
        let file = ReadyFile::prepare(Some(&path)).unwrap();
        assert!(!path.exists());
        file.write("http://here", None).unwrap();
        let text: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(text["base_url"], "http://here");
        assert_eq!(text["api_key"], serde_json::Value::Null);
        assert_eq!(text["pid"], std::process::id());
        drop(file);
        assert!(!path.exists());
    }
}
