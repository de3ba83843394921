//! A PostgreSQL of a test's own: to be killed, frozen and started again.

use std::{
    env, fs,
    net::TcpStream,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Signal, geteuid};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{eventually, fleet::free_port, process, wire::Wire};

/// How long it may take to come up, also after a crash.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a process of it that was missed may take to see that the others are gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A server with one database. Killed when it is dropped.
pub struct Postgres {
    directory: TempDir,
    programs: PathBuf,
    /// It refuses to run as root; `None`: we are not root.
    user: Option<u32>,
    port: u16,
    child: Option<Child>,
}

impl Postgres {
    /// Makes one and waits until it takes connections.
    ///
    /// # Panics
    ///
    /// When PostgreSQL is not installed, or does not start.
    pub async fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("vt-pg-").tempdir_in("/tmp");
        let directory = directory.expect("a folder");
        let user = geteuid().is_root().then(|| id_of("postgres"));
        chown(directory.path(), user, None).expect("a folder of ours");
        let mut made =
            Self { directory, programs: programs(), user, port: free_port(), child: None };
        let flags = ["--username=postgres", "--auth=trust", "--locale=C", "--no-sync"];
        let mut initdb = made.command("initdb");
        let initdb = initdb.args(flags).arg("--encoding=UTF8").output().await.expect("initdb runs");
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
        made.restart().await;
        made
    }

    /// Where clients reach it.
    pub fn url(&self) -> String {
        Self::url_at(self.port)
    }

    /// Where clients reach it by a wire.
    pub fn url_by(&self, wire: &Wire) -> String {
        Self::url_at(wire.port())
    }

    fn url_at(port: u16) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/postgres")
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it on what it stored, and waits until it takes connections.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn restart(&mut self) {
        let log = self.directory.path().join("log");
        let log = || fs::File::options().create(true).append(true).open(&log).expect("a log");
        let mut command = self.command("postgres");
        // What is killed has handed all that it wrote to the kernel, which lives on.
        for setting in ["fsync=off", "shared_buffers=32MB", "listen_addresses=127.0.0.1"] {
            command.args(["-c", setting]);
        }
        command.arg("-p").arg(self.port.to_string()).arg("-k").arg(self.directory.path());
        let command = command.stdout(log()).stderr(log()).kill_on_drop(true);
        self.child = Some(command.spawn().expect("postgres runs"));
        eventually("PostgreSQL takes connections", START_LIMIT, || async {
            PgConnection::connect(&self.url()).await.ok()?.close().await.ok()
        })
        .await;
    }

    /// `kill -9` of all its processes: connections break, and nobody listens.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub async fn kill(&mut self) {
        // Stopped first, so that it does not react to the end of its children.
        self.signal(Signal::STOP);
        self.signal(Signal::KILL);
        let mut child = self.child.take().expect("a running PostgreSQL");
        child.wait().await.expect("a child of ours");
        // One that it had begun in the last moment ends by itself.
        eventually("nobody listens", KILL_LIMIT, || async {
            TcpStream::connect(("127.0.0.1", self.port)).is_err().then_some(())
        })
        .await;
    }

    /// Stops all its processes where they are: connections stay, and nobody answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// The end of [`Self::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let Some(pid) = self.child.as_ref().and_then(Child::id) else { return };
        let children = process::children(pid);
        process::signal(pid.cast_signed(), signal);
        for child in children {
            process::signal(child, signal);
        }
        // Those that it has begun meanwhile.
        for child in process::children(pid) {
            process::signal(child, signal);
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.arg("-D").arg(self.directory.path().join("data"));
        command.current_dir(self.directory.path()).stdin(Stdio::null()).process_group(0);
        if let Some(user) = self.user {
            command.uid(user);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.signal(Signal::STOP);
        self.signal(Signal::KILL);
    }
}

/// Where the server's programs are: Debian keeps them off the PATH.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(|path| number(path));
    let on_path = || {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).find(|folder| folder.join("initdb").is_file())
    };
    let found = newest.map(|version| version.join("bin")).or_else(on_path);
    found.expect("PostgreSQL's server is installed (apt-get install postgresql)")
}

/// The number of a user of this machine.
fn id_of(user: &str) -> u32 {
    let users = fs::read_to_string("/etc/passwd").expect("users");
    let mut users = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = users.find(|fields| fields[0] == user).and_then(|fields| fields[2].parse().ok());
    found.unwrap_or_else(|| panic!("no user is named {user}"))
}
