//! A real proxy with credentials: what a session's traffic can be sent through.

use std::{
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::{PATIENCE, clients::of_python, folder, tls::Certificate};

/// A running proxy; it ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    /// `scheme://localhost:port`
    pub url: String,
    seen: Arc<Mutex<Vec<String>>>,
    _child: Child,
}

impl Proxy {
    /// The user name that it knows.
    pub const USERNAME: &str = "wanderer";
    /// The password that goes with it: planted, to be looked for where it must not be.
    pub const PASSWORD: &str = "planted-9f2c-password";

    /// Starts one that is spoken to by `http`, `https` or `socks5`.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start(scheme: &str, certificate: &Certificate) -> Self {
        // Not as arguments: those of every process are looked through.
        let told = json!({
            "scheme": scheme,
            "username": Self::USERNAME,
            "password": Self::PASSWORD,
            "certificate": certificate.certificate(),
            "key": certificate.key(),
        });
        Self::told(scheme, &told).await
    }

    /// Starts one that serves anybody.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn for_anybody(scheme: &str) -> Self {
        Self::told(scheme, &json!({ "scheme": scheme })).await
    }

    async fn told(scheme: &str, told: &Value) -> Self {
        let mut command = Command::new(of_python("python3"));
        command.arg(folder().join("clients/proxy.py")).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(format!("{told}\n").as_bytes()).await.expect("a proxy that listens");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let port = timeout(PATIENCE, lines.next_line()).await.expect("a port in time");
        let port = port.expect("text").expect("run scripts/python-clients first");
        let seen = Arc::default();
        tokio::spawn(remember(lines, Arc::clone(&seen)));
        Self { url: format!("{scheme}://localhost:{port}"), seen, _child: child }
    }

    /// How a caller names it, with its credentials.
    pub fn named(&self) -> Value {
        json!({ "url": self.url, "username": Self::USERNAME, "password": Self::PASSWORD })
    }

    /// Whether it has opened a connection to a host.
    pub fn went_to(&self, host: &str) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().any(|line| line.contains(&format!("-> {host}")))
    }
}

async fn remember(mut lines: Lines<BufReader<ChildStdout>>, seen: Arc<Mutex<Vec<String>>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}
