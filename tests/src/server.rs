//! Starts the real program, and makes sure that nothing of it is left.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use rustix::process::Signal;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::{
    api::Api,
    eventually,
    leftovers::{self, GRACE},
    network::Network,
    process, rows,
};

/// How long a start may take, with a first browser on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a server may take to come to rest after its last session.
const REST_LIMIT: Duration = Duration::from_secs(8);
/// How long an orderly stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(12);

/// How to start a server, or a half of one.
#[derive(Clone, Debug)]
pub struct Plan {
    command: &'static str,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    data: Arc<TempDir>,
    listen: String,
    database: Option<String>,
    key: Option<String>,
    hosts: Option<PathBuf>,
    /// What goes before it, to run it in a network of its own.
    network: Option<[String; 3]>,
}

/// What the ready file says.
#[derive(Debug, Deserialize)]
struct Ready {
    base_url: String,
    api_key: Option<String>,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// Its REST API.
    pub api: Api,
    plan: Plan,
    child: Option<Child>,
}

/// The program under test, beside what is being run now.
///
/// # Panics
///
/// When it has not been built.
pub fn program() -> PathBuf {
    let own = std::env::current_exe().expect("a path of this program");
    let found = own.ancestors().map(|folder| folder.join("ventus")).find(|path| path.is_file());
    found.expect("target/…/ventus: run `cargo build --package cli` first")
}

impl Plan {
    fn new(command: &'static str) -> Self {
        // Short: Chrome makes sockets below it. Others must be able to pass: it runs as another user.
        let data = tempfile::Builder::new().prefix("vt-").tempdir_in("/tmp").expect("a folder");
        fs::set_permissions(data.path(), fs::Permissions::from_mode(0o711)).expect("own folder");
        Self {
            command,
            arguments: Vec::new(),
            // Tests that wait for something ask often.
            environment: vec![("VENTUS_RATE_LIMIT_PER_MINUTE".into(), "1000000".into())],
            data: Arc::new(data),
            listen: "127.0.0.1:0".into(),
            database: None,
            key: None,
            hosts: None,
            network: None,
        }
    }

    /// Adds a flag.
    pub fn flag(mut self, name: &str, value: impl ToString) -> Self {
        self.arguments.extend([format!("--{name}"), value.to_string()]);
        self
    }

    /// Adds a variable of the environment.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.into(), value.to_string()));
        self
    }

    /// Sessions at once, and idle browsers.
    pub fn capacity(self, capacity: u32, warm: u32) -> Self {
        self.flag("capacity", capacity).flag("warm", warm)
    }

    /// Listens on this port of the machine's own.
    pub fn listen(mut self, port: u16) -> Self {
        self.listen = format!("127.0.0.1:{port}");
        self
    }

    /// Stores in this database instead of a SQLite file.
    pub fn database(mut self, url: &str) -> Self {
        self.database = Some(url.to_owned());
        self.env("VENTUS_DATABASE_URL", url)
    }

    /// Gives it a file of its own instead of `/etc/hosts`. Only root can.
    pub fn hosts(mut self, file: &Path) -> Self {
        self.hosts = Some(file.to_owned());
        self
    }

    /// Runs it in this network, and listens there.
    pub fn inside(mut self, network: &Network) -> Self {
        self.network = Some(network.enter());
        self.listen = format!("{}:0", network.inside());
        self
    }

    /// Uses this API key: another replica made it.
    pub fn key(mut self, key: Option<String>) -> Self {
        self.key = key;
        self
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Where its store is.
    pub fn store(&self) -> String {
        let file = || format!("sqlite://{}/ventus.db", self.data().display());
        self.database.clone().unwrap_or_else(file)
    }

    /// Starts it without waiting for anything.
    ///
    /// # Panics
    ///
    /// When it cannot be run.
    pub fn spawn(&self) -> Child {
        let file = |path| File::options().create(true).append(true).open(path).expect("a log");
        // Whatever goes before it becomes the same process.
        let mut command = match (&self.hosts, &self.network) {
            (None, None) => Command::new(program()),
            (None, Some([enter, network, end])) => {
                let mut command = Command::new(enter);
                command.args([network, end]).arg(program());
                command
            }
            // In a file system of its own.
            (Some(hosts), _) => {
                let mut command = Command::new("unshare");
                let program_with = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
                command.args(["--mount", "--", "sh", "-c", program_with]);
                command.arg(hosts).arg(program());
                command
            }
        };
        command.arg(self.command).args(["--listen", &self.listen]).arg("--data-dir");
        command.arg(self.data()).arg("--ready-file").arg(self.ready_file());
        command.args(&self.arguments).envs(self.environment.iter().map(|(n, v)| (n, v)));
        command.stdin(Stdio::null()).stdout(file(self.output())).stderr(file(self.log()));
        process::lead_a_session(&mut command).kill_on_drop(true).spawn().expect("ventus starts")
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    ///
    /// When it does not get ready; its log is shown.
    pub async fn start(mut self) -> Server {
        let mut child = self.spawn();
        let pid = child.id();
        let started = timeout(START_LIMIT, async {
            tokio::select! {
                ready = self.ready(pid) => Ok(ready),
                status = child.wait() => Err(status),
            }
        });
        let ready = match started.await {
            Ok(Ok(ready)) => ready,
            outcome => {
                self.show_log();
                panic!("ventus {} did not get ready: {outcome:?}", self.command);
            }
        };
        self.key = self.key.or(ready.api_key);
        // The same place again after a restart.
        self.listen = ready.base_url.trim_start_matches("http://").to_owned();
        let api = Api::new(&ready.base_url, self.key.as_deref());
        Server { api, plan: self, child: Some(child) }
    }

    /// Starts it and waits until its log says this, if it has not before, without getting ready;
    /// it is then stopped.
    ///
    /// # Panics
    ///
    /// When it does not say so in time, gets ready, or does not stop.
    pub async fn says(&self, text: &str) {
        let mut child = self.spawn();
        let pid = child.id();
        let said = || async { self.read_log().contains(text).then_some(()) };
        eventually(text, START_LIMIT, said).await;
        assert!(self.written_by(pid).is_none(), "it got ready");
        if let Some(pid) = pid {
            process::signal(pid.cast_signed(), Signal::TERM);
        }
        let status = timeout(STOP_LIMIT, child.wait()).await;
        assert!(matches!(status, Ok(Ok(_))), "it did not stop");
        leftovers::no_process(self.data(), None, GRACE).await;
    }

    /// What the ready file says once this process has written it.
    async fn ready(&self, pid: Option<u32>) -> Ready {
        eventually("the ready file", START_LIMIT, || async { self.written_by(pid) }).await
    }

    fn written_by(&self, pid: Option<u32>) -> Option<Ready> {
        let text = fs::read_to_string(self.ready_file()).ok()?;
        let found: serde_json::Value = serde_json::from_str(&text).ok()?;
        (found["pid"].as_u64() == pid.map(u64::from)).then(|| serde_json::from_value(found).ok())?
    }

    fn ready_file(&self) -> PathBuf {
        self.data().join("ready.json")
    }

    fn log(&self) -> PathBuf {
        self.data().join("ventus.log")
    }

    fn output(&self) -> PathBuf {
        self.data().join("ventus.out")
    }

    fn read_log(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn show_log(&self) {
        let log = self.read_log();
        let lines: Vec<_> = log.lines().collect();
        let from = lines.len().saturating_sub(60);
        eprintln!("--- ventus {} ---\n{}\n---", self.command, lines[from..].join("\n"));
    }
}

impl Server {
    /// `ventus up`: everything in one process.
    pub fn up() -> Plan {
        Plan::new("up")
    }

    /// `ventus control-plane`.
    pub fn control_plane() -> Plan {
        Plan::new("control-plane")
    }

    /// `ventus agent`, whose browsers may visit the sites of tests.
    pub fn agent() -> Plan {
        let plan = Plan::new("agent").env("VENTUS_EGRESS_ALLOW", "127.0.0.0/8,::1");
        // To be stopped with sessions that run, unless a test is about how they end.
        plan.env("VENTUS_DRAIN_SECONDS", 0)
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        self.plan.data()
    }

    /// Where its store is.
    pub fn store(&self) -> String {
        self.plan.store()
    }

    /// The API key it made, or was given.
    pub fn key(&self) -> Option<String> {
        self.plan.key.clone()
    }

    /// All that it has logged, in earlier runs on the same data as well.
    pub fn log(&self) -> String {
        self.plan.read_log()
    }

    /// All that it has printed, likewise: also what is for the eyes of its user alone.
    pub fn printed(&self) -> String {
        fs::read_to_string(self.plan.output()).unwrap_or_default()
    }

    /// Its process.
    ///
    /// # Panics
    ///
    /// When it was stopped.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("a running server")
    }

    /// What it has started and still runs.
    pub fn processes(&self) -> Vec<process::Process> {
        process::below(self.data(), self.child.as_ref().and_then(Child::id))
    }

    /// The browsers among them.
    pub fn browsers(&self) -> Vec<process::Process> {
        self.processes().into_iter().filter(process::Process::is_browser).collect()
    }

    /// `kill -9`. What it takes to start it again on the same data and address is left.
    ///
    /// # Panics
    ///
    /// When its browsers do not die with it in time.
    pub async fn kill(mut self, within: Duration) -> Plan {
        let mut child = self.child.take().expect("a running server");
        child.kill().await.expect("a process of ours");
        leftovers::no_process(self.data(), None, within).await;
        self.plan.clone()
    }

    /// Stops it in an orderly way.
    ///
    /// # Panics
    ///
    /// When anything of it is left, or its store has rows in a wrong state.
    pub async fn stop(self) {
        let store = self.store();
        let data = self.plan.data.clone();
        self.stop_process().await;
        let wrong = rows::wrong(&store, true).await;
        assert!(wrong.is_empty(), "wrong rows:\n{}", wrong.join("\n"));
        drop(data);
    }

    /// The same for a half whose rows are not yet at rest.
    ///
    /// # Panics
    ///
    /// When anything of it is left.
    pub async fn stop_process(mut self) -> Plan {
        let mut child = self.child.take().expect("a running server");
        if let Some(pid) = child.id() {
            process::signal(pid.cast_signed(), Signal::TERM);
        }
        let status = timeout(STOP_LIMIT, child.wait()).await;
        if !matches!(status, Ok(Ok(status)) if status.success()) {
            self.plan.show_log();
            panic!("ventus {} did not stop well: {status:?}", self.plan.command);
        }
        leftovers::no_process(self.data(), None, GRACE).await;
        let left = leftovers::directories(self.data());
        assert!(left.is_empty(), "directories of browsers are left: {left:?}");
        self.plan.clone()
    }

    /// Waits until it has ended by itself with this exit code.
    ///
    /// # Panics
    ///
    /// When it does not, or a process of it is left.
    pub async fn ended(mut self, code: i32, within: Duration) -> Plan {
        let mut child = self.child.take().expect("a running server");
        let status = timeout(within, child.wait()).await;
        if !matches!(status, Ok(Ok(status)) if status.code() == Some(code)) {
            self.plan.show_log();
            panic!("ventus {} did not end with {code}: {status:?}", self.plan.command);
        }
        leftovers::no_process(self.data(), None, GRACE).await;
        self.plan.clone()
    }

    /// Waits until it runs only its idle browsers and no slot is in use.
    ///
    /// # Panics
    ///
    /// When something else stays.
    pub async fn at_rest(&self, warm: usize) {
        let wanted = (0, warm, warm);
        let end = Instant::now() + REST_LIMIT;
        loop {
            let browsers = self.browsers().len();
            let found =
                (self.api.in_use().await, browsers, leftovers::directories(self.data()).len());
            if found == wanted {
                return;
            }
            let what = "slots in use, browsers and their directories";
            assert!(Instant::now() < end, "{what} are {found:?} instead of {wanted:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else { return };
        if std::thread::panicking() {
            self.plan.show_log();
            drop(child); // killed
            for process in process::below(self.data(), None) {
                process.kill();
            }
        } else {
            panic!("a server was dropped; stop() says what it leaves");
        }
    }
}
