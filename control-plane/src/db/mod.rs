//! The store: one set of SQL over SQLite (one machine) and PostgreSQL (many).
//!
//! A domain's `store.rs` holds its SQL as constants, each valid on both databases or paired
//! with its twin, and runs it through [`on!`]. One that depends on what is asked for is put together
//! from constants alone; all values are bound. What it keeps true:
//!
//! - An operation is one [`Tx`]. It is never held over network I/O, and an operation never
//!   begins a second one: SQLite has a single writer.
//! - Times are `i64` Unix microseconds by the database's clock: [`Tx::now_us`].
//! - What a `Tx` read is only certain once it is committed: on SQLite it may share its
//!   commit with others (see `writer`). So an operation commits before it answers.

mod added;
mod migrations;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use prometheus_client::metrics::counter::Counter;
use sqlx::{
    Connection as _, PgConnection, Postgres, Sqlite, SqliteConnection, Transaction,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
    },
};
use tokio::time::timeout;

use self::added::Addition;
pub use self::added::Bind;

/// Runs one expression on whichever database the transaction is on.
///
/// ```ignore
/// on!(tx, |db| sqlx::query(FREE).bind(id).execute(db).await.map(|done| done.rows_affected()))
/// ```
macro_rules! on {
    ($tx:expr, |$db:ident| $body:expr) => {
        match $tx.link() {
            $crate::db::Link::Sqlite($db) => $crate::db::noted($body),
            $crate::db::Link::Postgres($db) => $crate::db::answered(async { $body }).await,
        }
    };
}

/// Runs one of two texts where the databases have no common one: SQLite's, then PostgreSQL's.
macro_rules! dialect {
    ($tx:expr, $sqlite:expr, $postgres:expr) => {
        match $tx.link() {
            $crate::db::Link::Sqlite(_) => $sqlite,
            $crate::db::Link::Postgres(_) => $postgres,
        }
    };
}

/// Reads a struct from a row of either database.
macro_rules! from_row {
    ($kind:ty, |$row:ident| $body:expr) => {
        impl sqlx::FromRow<'_, sqlx::sqlite::SqliteRow> for $kind {
            fn from_row($row: &sqlx::sqlite::SqliteRow) -> sqlx::Result<Self> {
                use sqlx::Row as _;
                Ok($body)
            }
        }
        impl sqlx::FromRow<'_, sqlx::postgres::PgRow> for $kind {
            fn from_row($row: &sqlx::postgres::PgRow) -> sqlx::Result<Self> {
                use sqlx::Row as _;
                Ok($body)
            }
        }
    };
}

pub(crate) use {dialect, from_row, on};

/// Connections that read beside SQLite's one writer.
const READERS: u32 = 4;
/// Connections to PostgreSQL of one replica.
const POSTGRES_CONNECTIONS: u32 = 20;
/// A connection that was in use this recently is taken to be alive. A pool asks each one when
/// it comes back, so to ask again when it goes out only doubles the round trips.
const FRESH: Duration = Duration::from_secs(1);
/// How long a statement waits for another process's lock, a caller for a connection, and anyone
/// for an answer of PostgreSQL.
const BUSY: Duration = Duration::from_secs(10);

/// What PostgreSQL says, unless it takes too long: a machine that is gone does not say so.
pub(crate) async fn answered<T>(asked: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    noted(timeout(BUSY, asked).await.unwrap_or(Err(sqlx::Error::PoolTimedOut)))
}

/// What was wanted of the database and did not come: of the process, which has one.
static FAILURES: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Counts what failed. That there is no row is an answer.
pub(crate) fn noted<T>(outcome: sqlx::Result<T>) -> sqlx::Result<T> {
    outcome.inspect_err(|error| {
        if !matches!(error, sqlx::Error::RowNotFound) {
            FAILURES.inc();
        }
    })
}

/// Statements that failed so far, and how often there was no connection.
pub(crate) fn failures() -> &'static Counter {
    &FAILURES
}

/// An open, migrated database.
#[derive(Clone)]
pub enum Db {
    /// One machine.
    Sqlite {
        /// All changes go through here, one after the other.
        writer: writer::Writer,
        /// Reads see the last commit and wait for nobody.
        reader: SqlitePool,
    },
    /// Any number of replicas.
    Postgres(PgPool),
}

impl Db {
    /// Opens `sqlite:///path` or `postgres://…` and brings its schema up to date. Processes
    /// that start together take turns.
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        if let Some(path) = url.strip_prefix("sqlite://") {
            Self::open_sqlite(Path::new(path)).await.context("could not open the SQLite database")
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Self::open_postgres(url).await.context("could not open the PostgreSQL database")
        } else {
            bail!("the database URL must begin with sqlite:/// or postgres://")
        }
    }

    async fn open_sqlite(path: &Path) -> anyhow::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // What is deleted is overwritten: it may have been a profile.
            .pragma("secure_delete", "ON")
            .busy_timeout(BUSY)
            .create_if_missing(true);
        let lock = lock_file(path).await?;
        migrations::run_sqlite(&options).await?;
        drop(lock);
        let writer = writer::Writer::start(options.clone()).await?;
        let reader = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(BUSY)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.create_if_missing(false).read_only(true))
            .await?;
        Ok(Self::Sqlite { writer, reader })
    }

    async fn open_postgres(url: &str) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS)
            .acquire_timeout(BUSY)
            .test_before_acquire(false)
            .before_acquire(|connection, last| {
                Box::pin(async move {
                    if last.idle_for > FRESH {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_with(PgConnectOptions::from_str(url)?.application_name("ventus"))
            .await?;
        migrations::run_postgres(&pool).await?;
        Ok(Self::Postgres(pool))
    }

    /// Whether other replicas may be on it as well.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Begins an operation. Dropped without [`Tx::commit`] it leaves nothing.
    pub async fn begin(&self) -> sqlx::Result<Tx> {
        let link = match self {
            Self::Sqlite { writer, .. } => Owned::Writer(noted(writer.begin().await)?),
            Self::Postgres(pool) => {
                // In a task of its own, which nobody cuts short: sqlx 0.9.0 forgets a BEGIN that
                // is on its way, and gives the connection to the next one in that transaction.
                let begin = tokio::spawn(Transaction::begin(noted(pool.acquire().await)?, None));
                let begun = async { begin.await.map_err(|_| sqlx::Error::WorkerCrashed)? };
                Owned::Transaction(answered(begun).await?)
            }
        };
        Ok(Tx::on(link))
    }

    /// [`Db::begin`] for an operation that changes something by one statement, and reads nothing
    /// that must not change meanwhile: PostgreSQL then needs no transaction around it.
    pub async fn begin_single(&self) -> sqlx::Result<Tx> {
        match self {
            Self::Sqlite { .. } => self.begin().await,
            Self::Postgres(_) => self.read().await,
        }
    }

    /// For reads alone: sees what is committed, and never waits for a writer. On PostgreSQL a
    /// statement on it commits by itself, which the rate limits use.
    pub async fn read(&self) -> sqlx::Result<Tx> {
        let link = match self {
            Self::Sqlite { reader, .. } => Owned::Reader(noted(reader.acquire().await)?),
            Self::Postgres(pool) => Owned::Connection(noted(pool.acquire().await)?),
        };
        Ok(Tx::on(link))
    }

    /// Whether the database answers at all.
    pub async fn ping(&self) -> sqlx::Result<()> {
        let mut tx = self.read().await?;
        on!(tx, |db| sqlx::query(PING).execute(db).await.map(drop))
    }

    /// How many connections wait to be used, and how many are. Of SQLite those that read.
    pub fn connections(&self) -> (u32, u32) {
        let (open, idle) = match self {
            Self::Sqlite { reader, .. } => (reader.size(), reader.num_idle()),
            Self::Postgres(pool) => (pool.size(), pool.num_idle()),
        };
        // Read one after the other: one may be taken or given back in between.
        let idle = u32::try_from(idle).unwrap_or(u32::MAX).min(open);
        (idle, open - idle)
    }

    /// Waits for what is under way, then closes every connection.
    pub async fn close(&self) {
        match self {
            // The writer last: as the last connection it folds the log into the database.
            Self::Sqlite { writer, reader } => {
                reader.close().await;
                writer.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// Holds other processes off while the schema changes, until it is dropped.
async fn lock_file(database: &Path) -> anyhow::Result<std::fs::File> {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let locked = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::create(path)?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    });
    locked.await?.context("could not lock the database's directory")
}

/// An operation under way, or a connection to read with.
pub struct Tx {
    link: Owned,
    now_us: Option<i64>,
    /// Rows to be added at the commit.
    added: Vec<Addition>,
}

enum Owned {
    Writer(writer::Lease),
    Reader(PoolConnection<Sqlite>),
    Transaction(Transaction<'static, Postgres>),
    Connection(PoolConnection<Postgres>),
}

/// The connection itself, for [`on!`].
pub enum Link<'c> {
    /// SQLite.
    Sqlite(&'c mut SqliteConnection),
    /// PostgreSQL.
    Postgres(&'c mut PgConnection),
}

impl Tx {
    fn on(link: Owned) -> Self {
        Self { link, now_us: None, added: Vec::new() }
    }

    /// The connection.
    pub fn link(&mut self) -> Link<'_> {
        match &mut self.link {
            Owned::Writer(lease) => Link::Sqlite(lease),
            Owned::Reader(connection) => Link::Sqlite(connection),
            Owned::Transaction(transaction) => Link::Postgres(transaction),
            Owned::Connection(connection) => Link::Postgres(connection),
        }
    }

    /// Now by the database's clock, the same for the whole operation, in Unix microseconds.
    /// SQLite lives in this process, so its clock is ours.
    pub async fn now_us(&mut self) -> sqlx::Result<i64> {
        if let Some(now) = self.now_us {
            return Ok(now);
        }
        let now = match self.link() {
            Link::Sqlite(_) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
            }
            Link::Postgres(db) => answered(sqlx::query_scalar(POSTGRES_NOW).fetch_one(db)).await?,
        };
        self.now_us = Some(now);
        Ok(now)
    }

    /// Adds rows that the operation does not read: by the commit at the latest they are there, so
    /// that is where it fails if they cannot be. `text` is an `INSERT` for both databases.
    pub async fn add<const N: usize>(
        &mut self,
        text: &'static str,
        binds: [Bind; N],
    ) -> sqlx::Result<()> {
        // It may look at what the one before it has added.
        if self.added.iter().any(|addition| addition.text == text) {
            self.add_all().await?;
        }
        let addition = Addition { text, binds: binds.into() };
        match &mut self.link {
            Owned::Transaction(_) => self.added.push(addition),
            Owned::Connection(db) => added::run_together(db, vec![addition]).await?,
            Owned::Writer(db) => addition.run(db).await?,
            Owned::Reader(db) => addition.run(db).await?,
        }
        Ok(())
    }

    async fn add_all(&mut self) -> sqlx::Result<()> {
        let added = std::mem::take(&mut self.added);
        match &mut self.link {
            Owned::Transaction(db) if !added.is_empty() => added::run_together(db, added).await,
            _ => Ok(()),
        }
    }

    /// Makes the operation durable; returns when it is.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        self.add_all().await?;
        match self.link {
            Owned::Writer(lease) => noted(lease.commit().await),
            Owned::Transaction(transaction) => answered(transaction.commit()).await,
            Owned::Reader(_) | Owned::Connection(_) => Ok(()),
        }
    }
}

const PING: &str = "SELECT 1";
const POSTGRES_NOW: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";

/// Reads a text column into a type of ours.
pub fn parse<T: FromStr>(text: &str) -> sqlx::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// [`parse`] for a column that may be NULL.
pub fn parse_opt<T: FromStr>(text: Option<&str>) -> sqlx::Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.map(parse).transpose()
}

/// Reads a count or a size, which the databases only have as signed.
pub fn unsigned<T: TryFrom<i64>>(number: i64) -> sqlx::Result<T>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    T::try_from(number).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[PING];
#[cfg(test)]
pub(crate) const POSTGRES_ONLY: &[&str] = &[POSTGRES_NOW];
