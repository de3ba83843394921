//! All SQL on `master_keys`.

use crate::db::{Tx, on};

const REGISTER: &str = "INSERT INTO master_keys (id, created_us) VALUES ($1, $2) \
     ON CONFLICT (id) DO NOTHING";

/// Lets a key wrap: what it wraps refers to this row.
pub async fn register(tx: &mut Tx, id: &str) -> sqlx::Result<()> {
    let now = tx.now_us().await?;
    on!(tx, |db| sqlx::query(REGISTER).bind(id).bind(now).execute(db).await.map(drop))
}

const KEEP_ONLY: &str = "DELETE FROM master_keys WHERE id <> $1";

/// Forgets every other key. Fails while one of them still wraps something.
pub async fn keep_only(tx: &mut Tx, id: &str) -> sqlx::Result<()> {
    on!(tx, |db| sqlx::query(KEEP_ONLY).bind(id).execute(db).await.map(drop))
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[REGISTER, KEEP_ONLY];
