//! What others are to be told: a row for each piece of news, written in the transaction in
//! which it happened, so that none is lost and none is told of what did not happen. Whoever
//! tells it deletes the row.

use proto::id::WorkspaceId;
use serde_json::{Value, json};
use sqlx::types::Json;
use ulid::Ulid;

use crate::{
    db::{Tx, dialect, on},
    retention::{Old, old},
};

macro_rules! insert {
    ($more:literal) => {
        concat!(
            "INSERT INTO outbox (id, workspace_id, kind, subject_id, payload, created_us) \
             VALUES ($1, $2, $3, $4, $5, $6)",
            $more
        )
    };
}
const INSERT: &str = insert!("");
const INSERT_TWO: &str = insert!(", ($7, $2, $3, $4, $8, $6)");

/// Adds a piece of news. `kind` is a dotted name, `subject` the id of what it is about.
pub async fn add(
    tx: &mut Tx,
    workspace: WorkspaceId,
    kind: &'static str,
    subject: &str,
    payload: Value,
) -> sqlx::Result<()> {
    let now = tx.now_us().await?;
    let (id, workspace) = (Ulid::generate().to_string(), workspace.to_string());
    let binds =
        [id.into(), workspace.into(), kind.into(), subject.into(), payload.into(), now.into()];
    tx.add(INSERT, binds).await
}

/// [`add`] for two that come together, in this order.
pub async fn add_two(
    tx: &mut Tx,
    workspace: WorkspaceId,
    kind: &'static str,
    subject: &str,
    [first, second]: [Value; 2],
) -> sqlx::Result<()> {
    let now = tx.now_us().await?;
    let id = Ulid::generate();
    // Also within a millisecond the second has the greater id.
    let next = id.increment().unwrap_or_else(|next| next);
    let binds = [
        id.to_string().into(),
        workspace.to_string().into(),
        kind.into(),
        subject.into(),
        first.into(),
        now.into(),
        next.to_string().into(),
        second.into(),
    ];
    tx.add(INSERT_TWO, binds).await
}

const INSERT_ALL: [&str; 2] = [
    "INSERT INTO outbox (id, workspace_id, kind, subject_id, payload, created_us) \
     SELECT value ->> 'id', value ->> 'workspace', $2, value ->> 'subject', $3, $4 \
     FROM json_each($1)",
    "INSERT INTO outbox (id, workspace_id, kind, subject_id, payload, created_us) \
     SELECT value ->> 'id', value ->> 'workspace', CAST($2 AS TEXT), value ->> 'subject', \
     CAST($3 AS JSONB), CAST($4 AS BIGINT) FROM jsonb_array_elements($1) AS value",
];

/// [`add`] for one piece of news about many subjects, each with its workspace.
pub async fn add_all(
    tx: &mut Tx,
    kind: &'static str,
    about: &[(WorkspaceId, String)],
    payload: &Value,
) -> sqlx::Result<()> {
    let now = tx.now_us().await?;
    let rows: Vec<_> = about
        .iter()
        .map(|(workspace, subject)| {
            let id = Ulid::generate().to_string();
            json!({"id": id, "workspace": workspace.to_string(), "subject": subject})
        })
        .collect();
    let insert = dialect!(tx, INSERT_ALL[0], INSERT_ALL[1]);
    on!(tx, |db| {
        let insert = sqlx::query(insert).bind(Json(rows)).bind(kind).bind(Json(payload)).bind(now);
        insert.execute(db).await.map(drop)
    })
}

/// How long news that nobody took is kept, in microseconds: 7 days.
const KEPT_US: i64 = 7 * 24 * 3_600 * 1_000_000;
/// News that is too old to be told.
pub const OLD: Old = Old { texts: old!("outbox", "created_us < $1"), kept_us: KEPT_US };

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
pub(crate) const COMMON: &[&str] = &[INSERT, INSERT_TWO, PURGE];
/// A text's half for one of the databases, 0 for SQLite and 1 for PostgreSQL.
#[cfg(test)]
pub(crate) fn halves(database: usize) -> Vec<&'static str> {
    vec![INSERT_ALL[database]]
}
