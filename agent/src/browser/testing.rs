//! For tests on real browsers.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use super::{Browser, Isolation, Launcher, proc_table};
use crate::{cdp::Endpoint, gateway::Policy};

/// The full browser.
pub const CHROMIUM: &str = "/usr/lib/chromium/chromium";
/// Its smaller sister.
pub const HEADLESS_SHELL: &str = "/usr/lib/chromium/chromium-headless-shell";

/// A directory that browsers' users can pass through, removed at the end.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(0o711)).unwrap();
        Self(place)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn root(&self) -> PathBuf {
        self.0.path().join("browsers")
    }

    /// A launcher below this place.
    pub async fn launcher(&self, binary: impl AsRef<Path>) -> Arc<Launcher> {
        let (binary, isolation) = (binary.as_ref(), Isolation::probe(binary.as_ref(), false));
        let policy = Policy::with_loopback();
        Arc::new(Launcher::open(binary, &self.root(), isolation, policy).await.unwrap())
    }

    /// A program in the place of a browser.
    pub fn script(&self, script: &str) -> PathBuf {
        let path = self.path().join("program");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Directories of browsers that are there.
    pub fn directories(&self) -> usize {
        fs::read_dir(self.root()).map_or(0, Iterator::count)
    }

    /// Fails unless nothing of any browser is left.
    pub fn assert_clear(&self) {
        assert_eq!(self.directories(), 0, "directories are left");
        let processes = self.processes();
        assert!(processes.is_empty(), "processes are left: {processes:?}");
    }

    /// Live processes of browsers that were started below this place.
    pub fn processes(&self) -> Vec<i32> {
        let root = self.root();
        let named = proc_table::all(|found| found.works_below(&root));
        let belongs = |found: &proc_table::Found| {
            !found.zombie
                && named.iter().any(|other| {
                    other.group == found.group
                        || rustix::process::geteuid().is_root() && other.user == found.user
                })
        };
        proc_table::all(belongs).iter().map(|found| found.pid.as_raw_pid()).collect()
    }
}

/// Waits for a condition.
pub async fn until(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Descriptors that this process has open.
pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// One command to a page, as a client gives it.
pub async fn on_page(browser: &Browser, target: &str, method: &str, params: Value) -> Value {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let seat = browser.mux.join(&Endpoint::Page(target.to_owned())).await.unwrap();
    let serving = tokio::spawn(seat.serve(server, Bytes::new()));
    let mut socket = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    let command = json!({ "id": 1, "method": method, "params": params });
    socket.send(Message::text(command.to_string())).await.unwrap();
    let answer = loop {
        let message = socket.next().await.unwrap().unwrap();
        let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        if message["id"] == 1 {
            break message["result"].clone();
        }
    };
    drop(socket);
    serving.await.unwrap();
    answer
}

/// What an expression comes to on a page; a promise is waited for.
pub async fn evaluate(browser: &Browser, target: &str, expression: &str) -> Value {
    let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
    on_page(browser, target, "Runtime.evaluate", params).await["result"]["value"].clone()
}

/// The target of the page that a browser starts with.
pub async fn first_page_of(browser: &Browser) -> String {
    let targets = browser.mux.command("Target.getTargets", json!({})).await.unwrap();
    let infos = targets["targetInfos"].as_array().unwrap();
    let page = infos.iter().find(|info| info["type"] == "page").unwrap();
    page["targetId"].as_str().unwrap().to_owned()
}
