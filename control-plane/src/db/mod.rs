//! The store: one set of SQL over SQLite (one machine) and PostgreSQL (many).
//!
//! A domain's `store.rs` holds its SQL as constants, each valid on both databases or paired
//! with its twin, and runs it through [`on!`]. What it keeps true:
//!
//! - An operation is one [`Tx`]. It is never held over network I/O, and an operation never
//!   begins a second one: SQLite has a single writer.
//! - Times are `i64` Unix microseconds by the database's clock: [`Tx::now_us`].
//! - What a `Tx` read is only certain once it is committed: on SQLite it may share its
//!   commit with others (see `writer`). So an operation commits before it answers.

mod migrations;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use sqlx::{
    PgConnection, Postgres, Sqlite, SqliteConnection, Transaction,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
    },
};

/// Runs one expression on whichever database the transaction is on.
///
/// ```ignore
/// on!(tx, |db| sqlx::query(FREE).bind(id).execute(db).await.map(|done| done.rows_affected()))
/// ```
macro_rules! on {
    ($tx:expr, |$db:ident| $body:expr) => {
        match $tx.link() {
            $crate::db::Link::Sqlite($db) => $body,
            $crate::db::Link::Postgres($db) => $body,
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
/// How long a statement waits for another process's lock, or a caller for a connection.
const BUSY: Duration = Duration::from_secs(10);

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
            .connect_with(PgConnectOptions::from_str(url)?.application_name("ventus"))
            .await?;
        migrations::run_postgres(&pool).await?;
        Ok(Self::Postgres(pool))
    }

    /// Begins an operation. Dropped without [`Tx::commit`] it leaves nothing.
    pub async fn begin(&self) -> sqlx::Result<Tx> {
        let link = match self {
            Self::Sqlite { writer, .. } => Owned::Writer(writer.begin().await?),
            Self::Postgres(pool) => Owned::Transaction(pool.begin().await?),
        };
        Ok(Tx { link, now_us: None })
    }

    /// For reads alone: sees what is committed, and never waits for a writer. On PostgreSQL a
    /// statement on it commits by itself, which the rate limits use.
    pub async fn read(&self) -> sqlx::Result<Tx> {
        let link = match self {
            Self::Sqlite { reader, .. } => Owned::Reader(reader.acquire().await?),
            Self::Postgres(pool) => Owned::Connection(pool.acquire().await?),
        };
        Ok(Tx { link, now_us: None })
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
            Link::Postgres(db) => sqlx::query_scalar(POSTGRES_NOW).fetch_one(db).await?,
        };
        self.now_us = Some(now);
        Ok(now)
    }

    /// Makes the operation durable; returns when it is.
    pub async fn commit(self) -> sqlx::Result<()> {
        match self.link {
            Owned::Writer(lease) => lease.commit().await,
            Owned::Transaction(transaction) => transaction.commit().await,
            Owned::Reader(_) | Owned::Connection(_) => Ok(()),
        }
    }
}

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
pub(crate) const POSTGRES_ONLY: &[&str] = &[POSTGRES_NOW];
