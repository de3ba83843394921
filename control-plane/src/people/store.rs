//! All SQL on `users`.

use proto::id::UserId;

use super::Email;
use crate::db::{Tx, dialect, from_row, on, parse};

/// A person.
#[derive(Clone, Debug)]
pub struct UserRow {
    /// Who.
    pub id: UserId,
    /// Their address, as it was first given.
    pub email: String,
}

from_row!(UserRow, |row| Self { id: parse(row.try_get("id")?)?, email: row.try_get("email")? });

// The update changes nothing: it makes the row that is there be returned, and holds it.
const ENSURE: &str = "INSERT INTO users (id, email, email_key, created_us) \
     VALUES ($1, $2, $3, $4) ON CONFLICT (email_key) DO UPDATE SET email_key = $3 \
     RETURNING id, email";

/// The person with an address, who is recorded if they are new.
pub async fn ensure(tx: &mut Tx, email: &Email) -> sqlx::Result<UserRow> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        sqlx::query_as(ENSURE)
            .bind(UserId::generate().to_string())
            .bind(email.as_str())
            .bind(email.key())
            .bind(now)
            .fetch_one(db)
            .await
    })
}

const LOCK_SQLITE: &str = "SELECT id, email FROM users WHERE email_key = $1";
const LOCK_POSTGRES: &str = "SELECT id, email FROM users WHERE email_key = $1 FOR UPDATE";

/// The person with an address, held against others until the transaction ends.
pub async fn lock_by_email(tx: &mut Tx, email: &Email) -> sqlx::Result<Option<UserRow>> {
    let lock = dialect!(tx, LOCK_SQLITE, LOCK_POSTGRES);
    on!(tx, |db| sqlx::query_as(lock).bind(email.key()).fetch_optional(db).await)
}

const GET: &str = "SELECT id, email FROM users WHERE id = $1";

/// One person.
pub async fn get(tx: &mut Tx, id: UserId) -> sqlx::Result<Option<UserRow>> {
    on!(tx, |db| sqlx::query_as(GET).bind(id.to_string()).fetch_optional(db).await)
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[ENSURE, GET];
/// SQLite's half of the pairs.
#[cfg(test)]
pub(crate) const SQLITE_ONLY: &[&str] = &[LOCK_SQLITE];
/// PostgreSQL's half of the pairs.
#[cfg(test)]
pub(crate) const POSTGRES_ONLY: &[&str] = &[LOCK_POSTGRES];
