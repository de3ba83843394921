//! All SQL on `api_keys`.

use proto::id::{KeyId, WorkspaceId};

use crate::db::{Tx, from_row, on, parse};

/// A key's record.
pub struct KeyRow {
    /// Whose it is.
    pub workspace_id: WorkspaceId,
    /// SHA-256 of the secret.
    pub secret_hash: Vec<u8>,
    /// What it allows, separated by spaces.
    pub scopes: String,
    /// Its workspace's plan, which sets its rate limits.
    pub plan: String,
    /// When it was revoked, Unix microseconds.
    pub revoked_us: Option<i64>,
}

from_row!(KeyRow, |row| Self {
    workspace_id: parse(row.try_get("workspace_id")?)?,
    secret_hash: row.try_get("secret_hash")?,
    scopes: row.try_get("scopes")?,
    plan: row.try_get("plan")?,
    revoked_us: row.try_get("revoked_us")?,
});

const INSERT: &str = "INSERT INTO api_keys \
     (id, workspace_id, label, secret_hash, scopes, created_us) VALUES ($1, $2, $3, $4, $5, $6)";

/// Records a key.
pub async fn insert(
    tx: &mut Tx,
    id: KeyId,
    workspace: WorkspaceId,
    label: &str,
    secret_hash: &[u8],
    scopes: &str,
) -> sqlx::Result<()> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        sqlx::query(INSERT)
            .bind(id.to_string())
            .bind(workspace.to_string())
            .bind(label)
            .bind(secret_hash)
            .bind(scopes)
            .bind(now)
            .execute(db)
            .await
            .map(drop)
    })
}

const FIND: &str = "SELECT workspace_id, secret_hash, scopes, 'enterprise' AS plan, revoked_us \
     FROM api_keys WHERE id = $1";

/// A key's record, revoked or not.
pub async fn find(tx: &mut Tx, id: KeyId) -> sqlx::Result<Option<KeyRow>> {
    on!(tx, |db| sqlx::query_as(FIND).bind(id.to_string()).fetch_optional(db).await)
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[INSERT, FIND];
