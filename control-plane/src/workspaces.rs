//! Workspaces: whom sessions and keys belong to.

use proto::id::WorkspaceId;

use crate::{
    db::{Db, Link, Tx, on},
    keys,
};

/// The workspace that the very first start makes.
const FIRST: &str = "default";

/// At the very first start of all replicas: a workspace, and a key to it, which is returned.
pub async fn bootstrap(db: &Db) -> anyhow::Result<Option<String>> {
    let mut tx = db.begin().await?;
    if let Link::Postgres(db) = tx.link() {
        sqlx::query(LOCK).execute(db).await?;
    }
    let known: i64 = on!(tx, |db| sqlx::query_scalar(COUNT).fetch_one(db).await)?;
    if known > 0 {
        return Ok(None);
    }
    let workspace = insert(&mut tx, FIRST, "Default").await?;
    let key = keys::create(&mut tx, workspace, "first key", &[keys::READ, keys::WRITE]).await?;
    tx.commit().await?;
    Ok(Some(key))
}

const LOCK: &str = "LOCK TABLE workspaces IN SHARE ROW EXCLUSIVE MODE";
const COUNT: &str = "SELECT COUNT(*) FROM workspaces";
const INSERT: &str = "INSERT INTO workspaces (id, slug, name, created_us) VALUES ($1, $2, $3, $4)";

/// Records a workspace. The slug must be new.
pub async fn insert(tx: &mut Tx, slug: &str, name: &str) -> sqlx::Result<WorkspaceId> {
    let now = tx.now_us().await?;
    let id = WorkspaceId::generate();
    on!(tx, |db| {
        let insert = sqlx::query(INSERT).bind(id.to_string()).bind(slug).bind(name).bind(now);
        insert.execute(db).await.map(drop)
    })?;
    Ok(id)
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[COUNT, INSERT];
/// PostgreSQL's alone.
#[cfg(test)]
pub(crate) const POSTGRES_ONLY: &[&str] = &[LOCK];
