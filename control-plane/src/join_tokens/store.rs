//! All SQL on `join_tokens`.

use proto::{id::JoinTokenId, region::Region};

use super::Refusal;
use crate::{
    db::{Tx, from_row, on, parse, unsigned},
    retention::{Old, old},
};

/// How exactly it is known when a token was last used, in microseconds: a minute. A region that
/// comes back all at once is not to queue for one row.
const USED_EVERY_US: i64 = 60_000_000;

/// A token's record. Times are Unix microseconds.
#[derive(Clone, Debug)]
pub struct JoinTokenRow {
    /// Its id.
    pub id: JoinTokenId,
    /// Whose agents may join with it.
    pub region: Region,
    /// Its name for people; may be empty.
    pub label: String,
    /// SHA-256 of the secret.
    pub secret_hash: Vec<u8>,
    /// When it was made.
    pub created_us: i64,
    /// When it stops to count; `None`: never.
    pub expires_us: Option<i64>,
    /// When it was revoked.
    pub revoked_us: Option<i64>,
    /// When an agent last joined with it, to the minute.
    pub last_used_us: Option<i64>,
}

from_row!(JoinTokenRow, |row| Self {
    id: parse(row.try_get("id")?)?,
    region: parse(row.try_get("region")?)?,
    label: row.try_get("label")?,
    secret_hash: row.try_get("secret_hash")?,
    created_us: row.try_get("created_us")?,
    expires_us: row.try_get("expires_us")?,
    revoked_us: row.try_get("revoked_us")?,
    last_used_us: row.try_get("last_used_us")?,
});

impl JoinTokenRow {
    /// Why it is no longer good at a time.
    pub fn refusal(&self, now_us: i64) -> Option<Refusal> {
        if self.revoked_us.is_some() {
            return Some(Refusal::Revoked);
        }
        self.expires_us.filter(|end| *end <= now_us).map(|_| Refusal::Expired)
    }
}

const INSERT: &str = "INSERT INTO join_tokens \
     (id, region, label, secret_hash, created_us, expires_us) VALUES ($1, $2, $3, $4, $5, $6)";

/// Records a token that is as yet unused.
pub async fn insert(tx: &mut Tx, new: &JoinTokenRow) -> sqlx::Result<()> {
    on!(tx, |db| {
        sqlx::query(INSERT)
            .bind(new.id.to_string())
            .bind(new.region.as_str())
            .bind(&new.label)
            .bind(&new.secret_hash)
            .bind(new.created_us)
            .bind(new.expires_us)
            .execute(db)
            .await
            .map(drop)
    })
}

macro_rules! tokens {
    ($which:literal) => {
        concat!(
            "SELECT id, region, label, secret_hash, created_us, expires_us, revoked_us, \
             last_used_us FROM join_tokens ",
            $which
        )
    };
}
const FIND: &str = tokens!("WHERE id = $1");

/// A token's record, good or not.
pub async fn find(tx: &mut Tx, id: JoinTokenId) -> sqlx::Result<Option<JoinTokenRow>> {
    on!(tx, |db| sqlx::query_as(FIND).bind(id.to_string()).fetch_optional(db).await)
}

const ALL: &str = tokens!("ORDER BY id DESC");

/// All tokens, newest first, those that are no longer good included.
pub async fn all(tx: &mut Tx) -> sqlx::Result<Vec<JoinTokenRow>> {
    on!(tx, |db| sqlx::query_as(ALL).fetch_all(db).await)
}

const GOOD: &str = "SELECT region, COUNT(*) AS tokens FROM join_tokens \
     WHERE revoked_us IS NULL AND (expires_us IS NULL OR expires_us > $1) \
     GROUP BY region ORDER BY region";

/// How many good tokens each region has, by its name. Regions without any are left out.
pub async fn good_by_region(tx: &mut Tx) -> sqlx::Result<Vec<(Region, u64)>> {
    let now = tx.now_us().await?;
    let rows: Vec<(String, i64)> =
        on!(tx, |db| sqlx::query_as(GOOD).bind(now).fetch_all(db).await)?;
    rows.into_iter().map(|(region, count)| Ok((parse(&region)?, unsigned(count)?))).collect()
}

const REVOKE: &str = "UPDATE join_tokens SET revoked_us = $2 WHERE id = $1 AND revoked_us IS NULL";

/// Revokes a token. Whether it was not revoked until now.
pub async fn revoke(tx: &mut Tx, id: JoinTokenId) -> sqlx::Result<bool> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        let revoke = sqlx::query(REVOKE).bind(id.to_string()).bind(now);
        revoke.execute(db).await.map(|done| done.rows_affected() == 1)
    })
}

const USED: &str = "UPDATE join_tokens SET last_used_us = $2 \
     WHERE id = $1 AND (last_used_us IS NULL OR last_used_us < $3)";

/// An agent joins with a token.
pub async fn used(tx: &mut Tx, id: JoinTokenId) -> sqlx::Result<()> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        let used = sqlx::query(USED).bind(id.to_string()).bind(now).bind(now - USED_EVERY_US);
        used.execute(db).await.map(drop)
    })
}

/// How long a token is listed that is no longer good, in microseconds: 90 days.
const LISTED_US: i64 = 90 * 24 * 3_600 * 1_000_000;
/// Tokens that have long been revoked or expired, and that no agent joined with last.
pub const OLD: Old = Old {
    texts: old!(
        "join_tokens",
        "COALESCE(revoked_us, expires_us) < $1 \
         AND NOT EXISTS (SELECT 1 FROM agents WHERE join_token = join_tokens.id)"
    ),
    kept_us: LISTED_US,
};

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[INSERT, FIND, ALL, GOOD, REVOKE, USED];
