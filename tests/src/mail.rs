//! A real mail server on loopback, and the links in the mails that it takes.

use std::process::Stdio;

use serde::{Deserialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::{PATIENCE, clients, folder};

/// Who may send.
const USER: &str = "ventus";
/// What the server must be told by its environment.
pub const PASSWORD: &str = "p@ss word/of the:mail";

/// A mail server; killed when dropped.
#[derive(Debug)]
pub struct MailServer {
    /// Where mails go, without the password.
    pub url: String,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

/// A mail that was taken.
#[derive(Debug, Deserialize)]
pub struct Mail {
    /// Whom it says to be from.
    pub from: String,
    /// Whom it went to.
    pub to: Vec<String>,
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub text: String,
}

#[derive(Deserialize)]
struct Listening {
    port: u16,
}

impl MailServer {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start() -> Self {
        let mut command = Command::new(clients::of_python("python3"));
        command.args(["mail_server.py", USER, PASSWORD]).current_dir(folder().join("clients"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("Python");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let Listening { port } = next(&mut lines).await;
        Self { url: format!("smtp://{USER}@127.0.0.1:{port}"), lines, _child: child }
    }

    /// The next mail that it takes.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub async fn mail(&mut self) -> Mail {
        next(&mut self.lines).await
    }
}

async fn next<T: DeserializeOwned>(lines: &mut Lines<BufReader<ChildStdout>>) -> T {
    let line = timeout(PATIENCE, lines.next_line()).await.expect("a line in time");
    let line = line.expect("a pipe").expect("a mail server that lives");
    serde_json::from_str(&line).expect("a line as expected")
}

/// The token of the link in a mail.
///
/// # Panics
///
/// When there is none.
pub fn token_in(text: &str) -> &str {
    let (_, token) = text.split_once("/sign-in#token=").expect("a link");
    token.split_whitespace().next().expect("a token")
}
