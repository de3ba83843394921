//! All SQL on `rate_limits`.

use proto::id::KeyId;

use super::Counts;
use crate::{
    db::{Tx, from_row, on},
    retention::{Old, old},
};

from_row!(Counts, |row| Self {
    minute: row.try_get("minute")?,
    in_minute: row.try_get("in_minute")?,
    day: row.try_get("day")?,
    in_day: row.try_get("in_day")?,
});

struct Taken {
    counts: Counts,
    passed: bool,
    now_seconds: i64,
}

from_row!(Taken, |row| Self {
    counts: sqlx::FromRow::from_row(row)?,
    passed: row.try_get("passed")?,
    now_seconds: row.try_get("now_seconds")?,
});

/// Counts a request and decides on it, on PostgreSQL: replicas queue for the key's row, and
/// each sees what the one before it has left. It commits by itself and without waiting for
/// the disk, in one round trip: a crash of the server may forget the last moment's requests.
/// A clock that lags behind the row's window counts in that window.
const TAKE: &str = "INSERT INTO rate_limits AS known \
     (key_id, minute, in_minute, day, in_day, passed) \
     SELECT $1, now_seconds / 60, 1, now_seconds / 86400, 1, TRUE FROM (SELECT \
     CAST(FLOOR(EXTRACT(EPOCH FROM clock_timestamp())) AS BIGINT) AS now_seconds) AS clock \
     WHERE set_config('synchronous_commit', 'off', TRUE) = 'off' \
     ON CONFLICT (key_id) DO UPDATE SET (minute, in_minute, day, in_day, passed) = \
     (SELECT minute, in_minute + n, day, in_day + n, n = 1 FROM \
     (SELECT *, CASE WHEN in_minute < $2 AND in_day < $3 THEN 1 ELSE 0 END AS n FROM \
     (SELECT GREATEST(known.minute, EXCLUDED.minute) AS minute, \
     CASE WHEN known.minute < EXCLUDED.minute THEN 0 ELSE known.in_minute END AS in_minute, \
     GREATEST(known.day, EXCLUDED.day) AS day, \
     CASE WHEN known.day < EXCLUDED.day THEN 0 ELSE known.in_day END AS in_day) \
     AS so_far) AS decided) \
     RETURNING minute, in_minute, day, in_day, passed, \
     CAST(FLOOR(EXTRACT(EPOCH FROM clock_timestamp())) AS BIGINT) AS now_seconds";

/// The counts with this request, whether it passed, and when that was, Unix seconds.
pub async fn take(
    tx: &mut Tx,
    key: KeyId,
    per_minute: i64,
    per_day: Option<i64>,
) -> sqlx::Result<(Counts, bool, i64)> {
    let taken: Taken = on!(tx, |db| {
        sqlx::query_as(TAKE)
            .bind(key.to_string())
            .bind(per_minute)
            .bind(per_day.unwrap_or(i64::MAX))
            .fetch_one(db)
            .await
    })?;
    Ok((taken.counts, taken.passed, taken.now_seconds))
}

const LOAD: &str = "SELECT minute, in_minute, day, in_day FROM rate_limits WHERE key_id = $1";

/// What was saved of a key.
pub async fn load(tx: &mut Tx, key: KeyId) -> sqlx::Result<Option<Counts>> {
    on!(tx, |db| sqlx::query_as(LOAD).bind(key.to_string()).fetch_optional(db).await)
}

const SAVE: &str = "INSERT INTO rate_limits (key_id, minute, in_minute, day, in_day) \
     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (key_id) DO UPDATE SET minute = excluded.minute, \
     in_minute = excluded.in_minute, day = excluded.day, in_day = excluded.in_day";

/// Saves the counts of a key, on SQLite.
pub async fn save(tx: &mut Tx, key: KeyId, counts: Counts) -> sqlx::Result<()> {
    on!(tx, |db| {
        sqlx::query(SAVE)
            .bind(key.to_string())
            .bind(counts.minute)
            .bind(counts.in_minute)
            .bind(counts.day)
            .bind(counts.in_day)
            .execute(db)
            .await
            .map(drop)
    })
}

/// Counts of keys that have made no request since yesterday.
pub const OLD: Old =
    Old { texts: old!("rate_limits", "day < CAST($1 AS BIGINT) / 86400000000"), kept_us: 0 };

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[LOAD];
/// SQLite's alone.
#[cfg(test)]
pub(crate) const SQLITE_ONLY: &[&str] = &[SAVE];
/// PostgreSQL's alone.
#[cfg(test)]
pub(crate) const POSTGRES_ONLY: &[&str] = &[TAKE];
