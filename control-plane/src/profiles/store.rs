//! All SQL on `profiles`.

use proto::id::{ProfileId, WorkspaceId};

use super::ProfileRow;
use crate::{
    db::{Tx, from_row, on, parse, unsigned},
    paging::below,
    secrets::Wrapped,
};

macro_rules! columns {
    () => {
        "id, name, size_bytes, created_us, updated_us"
    };
}

from_row!(ProfileRow, |row| Self {
    id: parse(row.try_get("id")?)?,
    name: row.try_get("name")?,
    size_bytes: unsigned(row.try_get("size_bytes")?)?,
    created_us: row.try_get("created_us")?,
    updated_us: row.try_get("updated_us")?,
});

/// A profile's content, encrypted.
pub struct ContentRow {
    /// Names it; new with each content.
    pub version: String,
    /// Its data key.
    pub wrapped_key: Vec<u8>,
    /// `None`: it is in the object store.
    pub content: Option<Vec<u8>>,
}

from_row!(ContentRow, |row| Self {
    version: row.try_get("version")?,
    wrapped_key: row.try_get("wrapped_key")?,
    content: row.try_get("content")?,
});

/// A content to be written.
pub struct NewContent<'a> {
    /// Names it.
    pub version: &'a str,
    /// Of the content in clear.
    pub size_bytes: usize,
    /// Its data key.
    pub key: &'a Wrapped,
    /// `None`: it is in the object store.
    pub content: Option<&'a [u8]>,
}

const INSERT: &str = concat!(
    "INSERT INTO profiles (id, workspace_id, name, size_bytes, version, key_id, wrapped_key, \
     content, created_us, updated_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9) RETURNING ",
    columns!()
);

/// Records a profile.
pub async fn insert(
    tx: &mut Tx,
    workspace: WorkspaceId,
    id: ProfileId,
    name: &str,
    new: &NewContent<'_>,
) -> sqlx::Result<ProfileRow> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        sqlx::query_as(INSERT)
            .bind(id.to_string())
            .bind(workspace.to_string())
            .bind(name)
            .bind(size(new))
            .bind(new.version)
            .bind(&new.key.key_id)
            .bind(&new.key.bytes)
            .bind(new.content)
            .bind(now)
            .fetch_one(db)
            .await
    })
}

// Changes nothing: on both databases it holds the row and reads it, in one text.
const LOCK: &str = "UPDATE profiles SET name = name WHERE id = $1 AND workspace_id = $2 \
     RETURNING version, wrapped_key, content";

/// Holds a profile until the transaction ends, and reads its content.
pub async fn lock(
    tx: &mut Tx,
    workspace: WorkspaceId,
    id: ProfileId,
) -> sqlx::Result<Option<ContentRow>> {
    on!(tx, |db| {
        let lock = sqlx::query_as(LOCK).bind(id.to_string()).bind(workspace.to_string());
        lock.fetch_optional(db).await
    })
}

const REPLACE: &str = concat!(
    "UPDATE profiles SET size_bytes = $2, version = $3, key_id = $4, wrapped_key = $5, \
     content = $6, updated_us = $7 WHERE id = $1 RETURNING ",
    columns!()
);

/// Gives a profile another content. It must be locked.
pub async fn replace(tx: &mut Tx, id: ProfileId, new: &NewContent<'_>) -> sqlx::Result<ProfileRow> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        sqlx::query_as(REPLACE)
            .bind(id.to_string())
            .bind(size(new))
            .bind(new.version)
            .bind(&new.key.key_id)
            .bind(&new.key.bytes)
            .bind(new.content)
            .bind(now)
            .fetch_one(db)
            .await
    })
}

fn size(new: &NewContent<'_>) -> i64 {
    i64::try_from(new.size_bytes).unwrap_or(i64::MAX)
}

const RENAME: &str = concat!(
    "UPDATE profiles SET name = $3, updated_us = $4 WHERE id = $1 AND workspace_id = $2 RETURNING ",
    columns!()
);

/// Gives a profile another name.
pub async fn rename(
    tx: &mut Tx,
    workspace: WorkspaceId,
    id: ProfileId,
    name: &str,
) -> sqlx::Result<Option<ProfileRow>> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        sqlx::query_as(RENAME)
            .bind(id.to_string())
            .bind(workspace.to_string())
            .bind(name)
            .bind(now)
            .fetch_optional(db)
            .await
    })
}

const SCRUB: &str = "UPDATE profiles SET wrapped_key = $2, content = $3 WHERE id = $1";

/// Overwrites what a profile holds, of which this is what is there.
pub async fn scrub(tx: &mut Tx, id: ProfileId, held: &ContentRow) -> sqlx::Result<()> {
    let content = held.content.as_ref().map(|content| vec![0_u8; content.len()]);
    on!(tx, |db| {
        let scrub =
            sqlx::query(SCRUB).bind(id.to_string()).bind(vec![0_u8; held.wrapped_key.len()]);
        scrub.bind(content).execute(db).await.map(drop)
    })
}

const DELETE: &str = "DELETE FROM profiles WHERE id = $1";

/// Overwrites what a profile holds, then deletes it. It must be locked.
pub async fn delete(tx: &mut Tx, id: ProfileId, held: &ContentRow) -> sqlx::Result<()> {
    scrub(tx, id, held).await?;
    on!(tx, |db| sqlx::query(DELETE).bind(id.to_string()).execute(db).await.map(drop))
}

const GET: &str =
    concat!("SELECT ", columns!(), " FROM profiles WHERE id = $1 AND workspace_id = $2");

/// One profile of a workspace.
pub async fn get(
    tx: &mut Tx,
    workspace: WorkspaceId,
    id: ProfileId,
) -> sqlx::Result<Option<ProfileRow>> {
    on!(tx, |db| {
        let get = sqlx::query_as(GET).bind(id.to_string()).bind(workspace.to_string());
        get.fetch_optional(db).await
    })
}

const CONTENT: &str = "SELECT version, wrapped_key, content FROM profiles \
     WHERE id = $1 AND workspace_id = $2";

/// What a profile of a workspace holds.
pub async fn content(
    tx: &mut Tx,
    workspace: WorkspaceId,
    id: ProfileId,
) -> sqlx::Result<Option<ContentRow>> {
    on!(tx, |db| {
        let content = sqlx::query_as(CONTENT).bind(id.to_string()).bind(workspace.to_string());
        content.fetch_optional(db).await
    })
}

const PAGE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM profiles WHERE workspace_id = $1 AND id < $2 \
     ORDER BY id DESC LIMIT CAST($3 AS BIGINT)"
);

/// At most `limit` profiles of a workspace, newest first, from behind the one that a cursor
/// names.
pub async fn page(
    tx: &mut Tx,
    workspace: WorkspaceId,
    after: Option<ProfileId>,
    limit: i64,
) -> sqlx::Result<Vec<ProfileRow>> {
    on!(tx, |db| {
        sqlx::query_as(PAGE)
            .bind(workspace.to_string())
            .bind(below(after))
            .bind(limit)
            .fetch_all(db)
            .await
    })
}

const IS_CURRENT: &str = "SELECT COUNT(*) FROM profiles WHERE id = $1 AND version = $2";

/// Whether a profile has this very content.
pub async fn is_current(tx: &mut Tx, id: ProfileId, version: &str) -> sqlx::Result<bool> {
    let count: i64 = on!(tx, |db| {
        sqlx::query_scalar(IS_CURRENT).bind(id.to_string()).bind(version).fetch_one(db).await
    })?;
    Ok(count > 0)
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] =
    &[INSERT, LOCK, REPLACE, RENAME, SCRUB, DELETE, GET, CONTENT, PAGE, IS_CURRENT];
