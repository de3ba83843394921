//! All SQL on `magic_links` and `sign_ins`.

use proto::id::{SignInId, UserId};

use super::{Pair, SECOND_US};
use crate::{
    credential::Credential,
    db::{Tx, dialect, from_row, on, parse, parse_opt},
    retention::{Old, old},
};

/// Over how long links are counted, in microseconds: 1 h.
const COUNTED_US: i64 = 3_600 * SECOND_US;

const ADD_LINK: &str = "INSERT INTO magic_links \
     (id, user_id, secret_hash, created_us, expires_us) VALUES ($1, $2, $3, $4, $5)";

/// Records a link.
pub async fn add_link(
    tx: &mut Tx,
    id: SignInId,
    user: UserId,
    link: &Credential,
    lasts_us: i64,
) -> sqlx::Result<()> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        sqlx::query(ADD_LINK)
            .bind(id.to_string())
            .bind(user.to_string())
            .bind(&link.hash)
            .bind(now)
            .bind(now + lasts_us)
            .execute(db)
            .await
            .map(drop)
    })
}

const LINKS: &str = "SELECT COUNT(*) FROM magic_links WHERE user_id = $1 AND created_us > $2";

/// How many links a person was sent within the last hour.
pub async fn links_of(tx: &mut Tx, user: UserId) -> sqlx::Result<i64> {
    let since = tx.now_us().await? - COUNTED_US;
    on!(tx, |db| {
        sqlx::query_scalar(LINKS).bind(user.to_string()).bind(since).fetch_one(db).await
    })
}

/// A link's record.
pub struct LinkRow {
    /// Whose it is.
    pub user_id: UserId,
    /// SHA-256 of the secret.
    pub secret_hash: Vec<u8>,
}

from_row!(LinkRow, |row| Self {
    user_id: parse(row.try_get("user_id")?)?,
    secret_hash: row.try_get("secret_hash")?,
});

const FIND_LINK: &str = "SELECT user_id, secret_hash FROM magic_links WHERE id = $1";

/// A link's record, good or not.
pub async fn find_link(tx: &mut Tx, id: SignInId) -> sqlx::Result<Option<LinkRow>> {
    on!(tx, |db| sqlx::query_as(FIND_LINK).bind(id.to_string()).fetch_optional(db).await)
}

const USE_LINK: &str = "UPDATE magic_links SET used_us = $2 \
     WHERE id = $1 AND used_us IS NULL AND expires_us > $2";

/// Uses a link up. Whether it was good until now: only one of several who try hears so.
pub async fn use_link(tx: &mut Tx, id: SignInId) -> sqlx::Result<bool> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        let used = sqlx::query(USE_LINK).bind(id.to_string()).bind(now);
        used.execute(db).await.map(|done| done.rows_affected() == 1)
    })
}

/// A pair of tokens. Times are Unix microseconds.
#[derive(Clone)]
#[expect(missing_docs, reason = "the columns explain themselves; see the migration")]
pub struct PairRow {
    pub id: SignInId,
    pub family: SignInId,
    pub user_id: UserId,
    /// The person's address.
    pub email: String,
    pub access_hash: Vec<u8>,
    pub access_expires_us: i64,
    pub refresh_hash: Vec<u8>,
    pub refresh_expires_us: i64,
    pub exchanged_us: Option<i64>,
    pub successor: Option<SignInId>,
}

from_row!(PairRow, |row| {
    let successor: Option<String> = row.try_get("successor")?;
    Self {
        id: parse(row.try_get("id")?)?,
        family: parse(row.try_get("family")?)?,
        user_id: parse(row.try_get("user_id")?)?,
        email: row.try_get("email")?,
        access_hash: row.try_get("access_hash")?,
        access_expires_us: row.try_get("access_expires_us")?,
        refresh_hash: row.try_get("refresh_hash")?,
        refresh_expires_us: row.try_get("refresh_expires_us")?,
        exchanged_us: row.try_get("exchanged_us")?,
        successor: parse_opt(successor.as_deref())?,
    }
});

const INSERT: &str = "INSERT INTO sign_ins (id, family, user_id, access_hash, access_expires_us, \
     refresh_hash, refresh_expires_us) VALUES ($1, $2, $3, $4, $5, $6, $7)";

/// Records a pair.
pub(super) async fn insert(
    tx: &mut Tx,
    id: SignInId,
    family: SignInId,
    user: UserId,
    pair: &Pair,
) -> sqlx::Result<()> {
    on!(tx, |db| {
        sqlx::query(INSERT)
            .bind(id.to_string())
            .bind(family.to_string())
            .bind(user.to_string())
            .bind(&pair.access.hash)
            .bind(pair.access_expires_us)
            .bind(&pair.refresh.hash)
            .bind(pair.refresh_expires_us)
            .execute(db)
            .await
            .map(drop)
    })
}

macro_rules! find {
    ($lock:literal) => {
        concat!(
            "SELECT sign_ins.id, family, user_id, email, access_hash, access_expires_us, \
             refresh_hash, refresh_expires_us, exchanged_us, successor \
             FROM sign_ins JOIN users ON users.id = user_id WHERE sign_ins.id = $1",
            $lock
        )
    };
}

const FIND: &str = find!("");
const LOCK: &str = find!(" FOR UPDATE OF sign_ins");

/// A pair, good or not.
pub async fn find(tx: &mut Tx, id: SignInId) -> sqlx::Result<Option<PairRow>> {
    on!(tx, |db| sqlx::query_as(FIND).bind(id.to_string()).fetch_optional(db).await)
}

/// A pair, held against others until the transaction ends.
pub async fn lock(tx: &mut Tx, id: SignInId) -> sqlx::Result<Option<PairRow>> {
    let lock = dialect!(tx, FIND, LOCK);
    on!(tx, |db| sqlx::query_as(lock).bind(id.to_string()).fetch_optional(db).await)
}

const EXCHANGED: &str = "UPDATE sign_ins SET exchanged_us = $2, successor = $3 WHERE id = $1";

/// Records that a pair was exchanged for its successor.
pub async fn exchanged(tx: &mut Tx, id: SignInId, successor: SignInId) -> sqlx::Result<()> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        sqlx::query(EXCHANGED)
            .bind(id.to_string())
            .bind(now)
            .bind(successor.to_string())
            .execute(db)
            .await
            .map(drop)
    })
}

const REVOKE: &str = "DELETE FROM sign_ins WHERE family = $1";

/// Makes all tokens of a family worthless.
pub async fn revoke(tx: &mut Tx, family: SignInId) -> sqlx::Result<()> {
    on!(tx, |db| sqlx::query(REVOKE).bind(family.to_string()).execute(db).await.map(drop))
}

/// Links whose time is over, and that do not count any more.
pub const OLD_LINKS: Old =
    Old { texts: old!("magic_links", "created_us <= $1"), kept_us: COUNTED_US };
/// Pairs of tokens whose time is over.
pub const OLD_TOKENS: Old = Old { texts: old!("sign_ins", "refresh_expires_us <= $1"), kept_us: 0 };

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] =
    &[ADD_LINK, LINKS, FIND_LINK, USE_LINK, INSERT, FIND, EXCHANGED, REVOKE];
/// PostgreSQL's alone.
#[cfg(test)]
pub(crate) const POSTGRES_ONLY: &[&str] = &[LOCK];
