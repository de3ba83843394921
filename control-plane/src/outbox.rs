//! What others are to be told: a row for each piece of news, written in the transaction in
//! which it happened, so that none is lost and none is told of what did not happen. Whoever
//! tells it deletes the row.

use proto::id::WorkspaceId;
use serde_json::Value;
use sqlx::types::Json;
use ulid::Ulid;

use crate::db::{Tx, on};

const INSERT: &str = "INSERT INTO outbox \
     (id, workspace_id, kind, subject_id, payload, created_us) VALUES ($1, $2, $3, $4, $5, $6)";

/// Adds a piece of news. `kind` is a dotted name, `subject` the id of what it is about.
pub async fn add(
    tx: &mut Tx,
    workspace: WorkspaceId,
    kind: &'static str,
    subject: &str,
    payload: &Value,
) -> sqlx::Result<()> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        sqlx::query(INSERT)
            .bind(Ulid::generate().to_string())
            .bind(workspace.to_string())
            .bind(kind)
            .bind(subject)
            .bind(Json(payload))
            .bind(now)
            .execute(db)
            .await
            .map(drop)
    })
}

/// How long news that nobody took is kept, in microseconds: 7 days.
const KEPT_US: i64 = 7 * 24 * 3_600 * 1_000_000;
const FORGET: &str = "DELETE FROM outbox WHERE id IN \
     (SELECT id FROM outbox WHERE created_us < $1 ORDER BY created_us LIMIT 500)";

/// Deletes some of the news that is too old to be told.
pub async fn forget_old(tx: &mut Tx) -> sqlx::Result<()> {
    let before = tx.now_us().await? - KEPT_US;
    on!(tx, |db| sqlx::query(FORGET).bind(before).execute(db).await.map(drop))
}

const PURGE: &str = "DELETE FROM outbox WHERE id IN \
     (SELECT id FROM outbox WHERE workspace_id = $1 LIMIT 500)";

/// Deletes some of a workspace's news. Says how many; 0: none was left.
pub async fn purge(tx: &mut Tx, workspace: WorkspaceId) -> sqlx::Result<u64> {
    on!(tx, |db| {
        let purge = sqlx::query(PURGE).bind(workspace.to_string());
        purge.execute(db).await.map(|done| done.rows_affected())
    })
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[INSERT, FORGET, PURGE];
