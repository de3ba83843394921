//! CPU time that processes have used, as `/proc` tells it.

use std::{fs, time::Duration};

use sqlx::{Connection, PgConnection};

/// `USER_HZ`: what `/proc` counts in is the same on every architecture we run on.
const TICKS_PER_SECOND: u64 = 100;

/// What one process is in `/proc/<pid>/stat` (proc_pid_stat(5)).
struct Stat {
    parent: u32,
    own: Duration,
    /// Of its children that have ended.
    ended: Duration,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in brackets, may hold anything.
        let (_, fields) = text.rsplit_once(") ")?;
        let fields: Vec<_> = fields.split(' ').collect();
        let ticks = |from: usize| {
            let ticks = fields.get(from..from + 2)?.iter().map(|ticks| ticks.parse::<u64>());
            let ticks: u64 = ticks.collect::<Result<Vec<_>, _>>().ok()?.iter().sum();
            Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
        };
        Some(Self { parent: fields.get(1)?.parse().ok()?, own: ticks(11)?, ended: ticks(13)? })
    }
}

/// Of one process with all its threads, to 10 ms. Zero if it is not there.
pub fn of(pid: u32) -> Duration {
    Stat::of(pid).map_or(Duration::ZERO, |stat| stat.own)
}

/// Of this process.
pub fn of_this() -> Duration {
    of(std::process::id())
}

/// A PostgreSQL server on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Postgres {
    postmaster: u32,
}

impl Postgres {
    /// The one that has this database.
    ///
    /// # Panics
    ///
    /// When it does not answer, or runs elsewhere.
    pub async fn of(database: &str) -> Self {
        let mut connection = PgConnection::connect(database).await.expect("it listens");
        let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&mut connection)
            .await
            .expect("it says so");
        let backend = Stat::of(backend.cast_unsigned()).expect("a server on this machine");
        Self { postmaster: backend.parent }
    }

    /// Of the server with all that it ever started.
    pub fn used(self) -> Duration {
        let Some(postmaster) = Stat::of(self.postmaster) else { return Duration::ZERO };
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let children = pids.filter_map(Stat::of).filter(|stat| stat.parent == self.postmaster);
        postmaster.own + postmaster.ended + children.map(|stat| stat.own).sum::<Duration>()
    }
}
