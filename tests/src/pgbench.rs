//! PostgreSQL's own benchmark, writing the rows that creates write: what the database could do
//! if nothing else had to be done.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{Connection, PgConnection};
use tokio::process::Command;

use crate::{fleet, folder};

/// A database with the tables of a control plane, in which only `pgbench` writes.
pub struct Pgbench {
    program: PathBuf,
    database: String,
    workspace: String,
    runs: u32,
}

// Many, so that connections seldom wait for each other.
const AGENTS: &str = "INSERT INTO agents (id, region, instance, epoch, capacity, warm, \
     data_plane_url, browser_version, lease_expires_us, connected_us) \
     SELECT lpad(CAST(n AS TEXT), 26, '0'), 'local', '', 1, 10000, 0, '', '', 0, 0 \
     FROM generate_series(1, 1000) AS n";

impl Pgbench {
    /// Lets a control plane make the tables.
    ///
    /// # Panics
    ///
    /// When `pgbench` is not installed, or the database fails.
    pub async fn start() -> Self {
        let database = fleet::database().await;
        let server = fleet::control_plane(&database, fleet::free_port()).start().await;
        server.stop_process().await;
        let mut store = PgConnection::connect(&database).await.expect("it listens");
        let workspace = sqlx::query_scalar("SELECT id FROM workspaces");
        let workspace = workspace.fetch_one(&mut store).await.expect("a workspace");
        sqlx::query(AGENTS).execute(&mut store).await.expect("agents");
        Self { program: program(), database, workspace, runs: 0 }
    }

    /// Runs for so long over so many connections; returns how many creates' worth of rows it
    /// wrote each second.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub async fn run(&mut self, connections: usize, span: Duration) -> f64 {
        let said = self.said(connections, span, &[]).await;
        let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next());
        rate.and_then(|rate| rate.parse().ok()).unwrap_or_else(|| panic!("{said}"))
    }

    /// Writes so many creates' worth of rows a second, each at its moment; returns how long each
    /// took from then on.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub async fn on_schedule(
        &mut self,
        connections: usize,
        per_second: f64,
        span: Duration,
    ) -> Vec<Duration> {
        let folder = tempfile::tempdir().expect("a folder");
        let prefix = folder.path().join("log").display().to_string();
        let rate = per_second.to_string();
        let flags = ["--rate", &rate, "--log", "--log-prefix", &prefix];
        self.said(connections, span, &flags).await;
        let logs = std::fs::read_dir(folder.path()).expect("a folder").flatten();
        let logs = logs.map(|log| std::fs::read_to_string(log.path()).expect("a log"));
        // pgbench(1), "Per-Transaction Logging": client, number, microseconds, and more.
        let time = |line: &str| line.split(' ').nth(2)?.parse().ok().map(Duration::from_micros);
        logs.flat_map(|log| log.lines().filter_map(time).collect::<Vec<_>>()).collect()
    }

    /// What it says after a run.
    async fn said(&mut self, connections: usize, span: Duration, flags: &[&str]) -> String {
        self.runs += 1;
        let mut command = Command::new(&self.program);
        command.args(flags);
        command.args(["--no-vacuum", "--protocol=prepared", "--jobs=2"]);
        command.arg(format!("--client={connections}"));
        command.arg(format!("--time={}", span.as_secs().max(1)));
        command.arg("--file").arg(folder().join("src/pgbench/create.sql"));
        command.args(["-D", &format!("run={}", self.runs), "-D", "n=0"]);
        command.args(["-D", &format!("workspace={}", self.workspace)]);
        command.args(["-D", "key=pgbench"]);
        let done = command.arg(&self.database).output().await.expect("pgbench starts");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stderr));
        said
    }
}

/// Debian keeps it off the PATH. The newest, as `tests/with-postgres` starts the newest server.
fn program() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin/pgbench"));
    let version = |path: &PathBuf| -> Option<u32> {
        path.parent()?.parent()?.file_name()?.to_str()?.parse().ok()
    };
    let newest = found.filter(|path| Path::is_file(path)).max_by_key(version);
    newest.unwrap_or_else(|| PathBuf::from("pgbench"))
}
