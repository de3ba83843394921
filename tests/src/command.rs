//! Runs the client commands as a user would: the real program, with a home of its own.

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
    time::timeout,
};

use crate::server::{Server, program};

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Somebody at a terminal.
#[derive(Debug)]
pub struct User {
    home: TempDir,
    environment: Vec<(String, String)>,
}

/// What a command did.
#[derive(Debug)]
pub struct Done {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to stdout.
    pub out: String,
    /// What it wrote to stderr.
    pub err: String,
}

impl User {
    /// Someone on the server's own machine, who may read its data directory.
    pub fn beside(server: &Server) -> Self {
        Self::nowhere().env("VENTUS_DATA_DIR", &server.data().display().to_string())
    }

    /// Someone who knows of no server.
    ///
    /// # Panics
    ///
    /// When there is no room for a home.
    pub fn nowhere() -> Self {
        Self { home: tempfile::tempdir().expect("a home"), environment: Vec::new() }
    }

    /// Sets a variable, in place of what it was.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Their folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Starts a command, with nothing of the test's own environment.
    ///
    /// # Panics
    ///
    /// When it cannot be run.
    pub fn start(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(program());
        command.args(arguments).env_clear().env("HOME", self.home()).current_dir(self.home());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true).spawn().expect("ventus starts")
    }

    /// Runs a command, and types this.
    pub async fn type_to(&self, arguments: &[&str], text: &str) -> Done {
        let mut child = self.start(arguments);
        let mut stdin = child.stdin.take().expect("a pipe");
        // It may end without having read it.
        let _ = stdin.write_all(text.as_bytes()).await;
        drop(stdin);
        Done::of(child).await
    }

    /// Runs a command.
    pub async fn run(&self, arguments: &[&str]) -> Done {
        self.type_to(arguments, "").await
    }

    /// Runs a command that succeeds, and answers what it wrote to stdout.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub async fn says(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments).await;
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
        done.out.trim_end().to_owned()
    }

    /// The same, as JSON.
    ///
    /// # Panics
    ///
    /// When it fails, or that is no JSON.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let text = self.says(&[arguments, &["--json"]].concat()).await;
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{arguments:?}: {text}"))
    }

    /// Runs a command that fails with this exit code, and answers what it wrote to stderr.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let done = self.run(arguments).await;
        assert_eq!((done.code, done.out.as_str()), (code, ""), "{arguments:?}: {done:?}");
        done.err
    }
}

impl Done {
    /// What a command did, once it is done.
    ///
    /// # Panics
    ///
    /// When it takes too long.
    pub async fn of(child: Child) -> Self {
        let output = timeout(LIMIT, child.wait_with_output()).await;
        let output = output.expect("the command ends").expect("its output");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        let code = output.status.code().expect("no signal");
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}
