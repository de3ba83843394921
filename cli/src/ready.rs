//! The ready file: how scripts and tests learn that a server is up, and how to reach it.

use std::{
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
#[derive(Debug)]
pub struct ReadyFile {
    path: Option<PathBuf>,
}

impl ReadyFile {
    /// Removes what an earlier run has left there, so that nobody takes it for this one's.
    ///
    /// # Errors
    ///
    /// When the file could not be written later.
    pub fn prepare(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self { path: None }) };
        let path = std::path::absolute(path)?;
        let shown = path.display();
        if !path.parent().is_some_and(Path::is_dir) {
            return Err(usage(format!("--ready-file {shown}: its folder does not exist")));
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot replace {shown}"))
            }
            _ => Ok(Self { path: Some(path) }),
        }
    }

    /// Says that the server is ready.
    pub fn write(&self, base_url: &str, api_key: Option<&str>) -> anyhow::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let ready = Ready { base_url, api_key, pid: std::process::id() };
        write_secret(path, &format!("{}\n", serde_json::to_string(&ready)?))
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
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
