//! All SQL on `session_files` and `file_chunks`.

use proto::id::{FileId, SessionId, WorkspaceId};
use sqlx::types::Json;

use super::{FileRow, Held, Kind};
use crate::{
    db::{Tx, dialect, from_row, on, parse, unsigned},
    paging::below,
    secrets::Wrapped,
};

macro_rules! columns {
    () => {
        "id, name, guid, size_bytes, in_objects, wrapped_key, created_us"
    };
}

from_row!(FileRow, |row| Self {
    id: parse(row.try_get("id")?)?,
    name: row.try_get("name")?,
    guid: row.try_get("guid")?,
    size_bytes: unsigned(row.try_get("size_bytes")?)?,
    in_objects: row.try_get::<i64, _>("in_objects")? == 1,
    wrapped_key: row.try_get::<Option<_>, _>("wrapped_key")?.unwrap_or_default(),
    created_us: row.try_get("created_us")?,
});

from_row!(Held, |row| Self {
    files: unsigned(row.try_get("files")?)?,
    bytes: unsigned(row.try_get("bytes")?)?,
    writing: unsigned(row.try_get("writing")?)?,
});

fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

const HELD: &str = "SELECT COUNT(*) AS files, \
     CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT) AS bytes, \
     CAST(COALESCE(SUM(CASE WHEN status = 'WRITING' THEN 1 ELSE 0 END), 0) AS BIGINT) AS writing \
     FROM session_files WHERE session_id = $1 AND kind = $2 AND status <> 'GONE' \
     AND id <> $3 AND NOT (status = 'STORED' AND name = $4)";

/// What a session holds of a kind beside this file, and beside one that it replaces.
pub async fn held(
    tx: &mut Tx,
    session: SessionId,
    kind: Kind,
    beside: FileId,
    replaced: &str,
) -> sqlx::Result<Held> {
    on!(tx, |db| {
        let held = sqlx::query_as(HELD).bind(session.to_string()).bind(kind.as_str());
        held.bind(beside.to_string()).bind(replaced).fetch_one(db).await
    })
}

/// A file that is yet to be written.
pub struct NewFile<'a> {
    /// Names its content.
    pub id: FileId,
    /// Whose it is.
    pub session: SessionId,
    /// Which way it goes.
    pub kind: Kind,
    /// What it is to be called.
    pub name: &'a str,
    /// What the browser calls it.
    pub guid: Option<&'a str>,
    /// As far as is known.
    pub size_bytes: u64,
    /// Its data key.
    pub key: &'a Wrapped,
}

const INSERT: &str = "INSERT INTO session_files (id, session_id, kind, name, guid, status, \
     size_bytes, in_objects, key_id, wrapped_key, created_us) \
     VALUES ($1, $2, $3, $4, $5, 'WRITING', $6, 0, $7, $8, $9)";

/// Records that a file comes into being.
pub async fn insert(tx: &mut Tx, new: &NewFile<'_>) -> sqlx::Result<()> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        sqlx::query(INSERT)
            .bind(new.id.to_string())
            .bind(new.session.to_string())
            .bind(new.kind.as_str())
            .bind(new.name)
            .bind(new.guid)
            .bind(signed(new.size_bytes))
            .bind(&new.key.key_id)
            .bind(&new.key.bytes)
            .bind(now)
            .execute(db)
            .await
            .map(drop)
    })
}

const TO_OBJECTS: &str = "UPDATE session_files SET in_objects = 1 WHERE id = $1";

/// From now on there may be an object of it.
pub async fn to_objects(tx: &mut Tx, id: FileId) -> sqlx::Result<()> {
    on!(tx, |db| sqlx::query(TO_OBJECTS).bind(id.to_string()).execute(db).await.map(drop))
}

const INSERT_CHUNK: &str = "INSERT INTO file_chunks (file_id, seq, content) \
     SELECT id, CAST($2 AS BIGINT), $3 FROM session_files WHERE id = $1 AND status = 'WRITING'";

/// Writes a chunk of a file that comes into being. `false`: it was given up.
pub async fn insert_chunk(tx: &mut Tx, id: FileId, seq: u64, content: &[u8]) -> sqlx::Result<bool> {
    let written = on!(tx, |db| {
        let insert = sqlx::query(INSERT_CHUNK).bind(id.to_string()).bind(signed(seq));
        insert.bind(content).execute(db).await.map(|done| done.rows_affected())
    })?;
    Ok(written == 1)
}

const CHUNK: &str = "SELECT content FROM file_chunks WHERE file_id = $1 AND seq = $2";

/// A chunk of a file, if it is there.
pub async fn chunk(tx: &mut Tx, id: FileId, seq: u64) -> sqlx::Result<Option<Vec<u8>>> {
    on!(tx, |db| {
        let chunk = sqlx::query_scalar(CHUNK).bind(id.to_string()).bind(signed(seq));
        chunk.fetch_optional(db).await
    })
}

const STORE: &str = concat!(
    "UPDATE session_files SET status = 'STORED', name = $2, size_bytes = $3 \
     WHERE id = $1 AND status = 'WRITING' RETURNING ",
    columns!()
);

/// A file is there from now on, under this name. `None`: it was given up.
pub async fn store(
    tx: &mut Tx,
    id: FileId,
    name: &str,
    size_bytes: u64,
) -> sqlx::Result<Option<FileRow>> {
    on!(tx, |db| {
        let store = sqlx::query_as(STORE).bind(id.to_string()).bind(name);
        store.bind(signed(size_bytes)).fetch_optional(db).await
    })
}

// Without its key nothing of it can be read any more.
const GIVE_UP: &str =
    "UPDATE session_files SET status = 'GONE', key_id = NULL, wrapped_key = NULL WHERE id = $1";

/// A file is not there any more.
pub async fn give_up(tx: &mut Tx, id: FileId) -> sqlx::Result<()> {
    on!(tx, |db| sqlx::query(GIVE_UP).bind(id.to_string()).execute(db).await.map(drop))
}

const GET: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM session_files WHERE session_id = $1 AND kind = $2 AND status = 'STORED' \
     AND (name = $3 OR guid = $3) ORDER BY CASE WHEN name = $3 THEN 0 ELSE 1 END LIMIT 1"
);

/// A file of a session, by its name or by what the browser calls it.
pub async fn get(
    tx: &mut Tx,
    session: SessionId,
    kind: Kind,
    name: &str,
) -> sqlx::Result<Option<FileRow>> {
    on!(tx, |db| {
        let get = sqlx::query_as(GET).bind(session.to_string()).bind(kind.as_str());
        get.bind(name).fetch_optional(db).await
    })
}

const PAGE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM session_files WHERE session_id = $1 AND kind = $2 AND status = 'STORED' \
     AND id < $3 ORDER BY id DESC LIMIT CAST($4 AS BIGINT)"
);

/// At most `limit` files of a session, newest first, from behind the one that a cursor names.
pub async fn page(
    tx: &mut Tx,
    session: SessionId,
    kind: Kind,
    after: Option<FileId>,
    limit: i64,
) -> sqlx::Result<Vec<FileRow>> {
    on!(tx, |db| {
        sqlx::query_as(PAGE)
            .bind(session.to_string())
            .bind(kind.as_str())
            .bind(below(after))
            .bind(limit)
            .fetch_all(db)
            .await
    })
}

const GIVE_UP_STALE: &str = "UPDATE session_files SET status = 'GONE', key_id = NULL, \
     wrapped_key = NULL WHERE status = 'WRITING' AND created_us < $1";

/// Files that have been coming into being for so long have nobody who writes them any more.
pub async fn give_up_stale(tx: &mut Tx, age_us: i64) -> sqlx::Result<()> {
    let before = tx.now_us().await? - age_us;
    on!(tx, |db| sqlx::query(GIVE_UP_STALE).bind(before).execute(db).await.map(drop))
}

const GIVE_UP_ALL: &str = "UPDATE session_files SET status = 'GONE', key_id = NULL, \
     wrapped_key = NULL WHERE status <> 'GONE' \
     AND session_id IN (SELECT id FROM sessions WHERE workspace_id = $1)";

/// All files of a workspace are not there any more.
pub async fn give_up_all(tx: &mut Tx, workspace: WorkspaceId) -> sqlx::Result<()> {
    on!(tx, |db| sqlx::query(GIVE_UP_ALL).bind(workspace.to_string()).execute(db).await.map(drop))
}

const A_GONE_ONE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM session_files WHERE status = 'GONE' ORDER BY created_us LIMIT 1"
);

/// One of those of which something may be left.
pub async fn a_gone_one(tx: &mut Tx) -> sqlx::Result<Option<FileRow>> {
    on!(tx, |db| sqlx::query_as(A_GONE_ONE).fetch_optional(db).await)
}

const LEFT_OBJECTS: &str =
    "UPDATE session_files SET in_objects = 0 WHERE id = $1 AND status = 'GONE'";

/// There is no object any more of a file that is gone.
pub async fn left_objects(tx: &mut Tx, id: FileId) -> sqlx::Result<()> {
    on!(tx, |db| sqlx::query(LEFT_OBJECTS).bind(id.to_string()).execute(db).await.map(drop))
}

macro_rules! take_gone {
    ($lock:literal) => {
        concat!(
            "SELECT id FROM session_files WHERE status = 'GONE' AND in_objects = 0 \
             ORDER BY created_us LIMIT 1",
            $lock
        )
    };
}
const TAKE_GONE: [&str; 2] = [take_gone!(""), take_gone!(" FOR UPDATE SKIP LOCKED")];

/// One of those of which nothing is left but chunks, held until the transaction ends.
pub async fn take_gone(tx: &mut Tx) -> sqlx::Result<Option<FileId>> {
    let take = dialect!(tx, TAKE_GONE[0], TAKE_GONE[1]);
    let id: Option<String> = on!(tx, |db| sqlx::query_scalar(take).fetch_optional(db).await)?;
    id.as_deref().map(parse).transpose()
}

macro_rules! of_sessions {
    ($ids:literal) => {
        [
            concat!(
                "UPDATE session_files SET status = 'GONE', key_id = NULL, wrapped_key = NULL \
                 WHERE status <> 'GONE' AND session_id IN ",
                $ids
            ),
            concat!("SELECT COUNT(*) FROM session_files WHERE session_id IN ", $ids),
        ]
    };
}
const GIVE_UP_OF: [[&str; 2]; 2] = [
    of_sessions!("(SELECT value FROM json_each($1))"),
    of_sessions!("(SELECT jsonb_array_elements_text($1))"),
];

/// All files of these sessions are not there any more. Whether anything is left of any.
pub async fn give_up_all_of(tx: &mut Tx, sessions: &[SessionId]) -> sqlx::Result<bool> {
    let ids: Vec<String> = sessions.iter().map(SessionId::to_string).collect();
    let [give_up, count] = dialect!(tx, GIVE_UP_OF[0], GIVE_UP_OF[1]);
    on!(tx, |db| sqlx::query(give_up).bind(Json(&ids)).execute(db).await.map(drop))?;
    let left: i64 = on!(tx, |db| sqlx::query_scalar(count).bind(Json(&ids)).fetch_one(db).await)?;
    Ok(left > 0)
}

const DELETE_CHUNKS: &str = "DELETE FROM file_chunks WHERE file_id = $1 AND seq IN \
     (SELECT seq FROM file_chunks WHERE file_id = $1 ORDER BY seq LIMIT 16)";

/// Deletes some chunks of a file; how many.
pub async fn delete_chunks(tx: &mut Tx, id: FileId) -> sqlx::Result<u64> {
    on!(tx, |db| {
        let delete = sqlx::query(DELETE_CHUNKS).bind(id.to_string()).execute(db).await;
        delete.map(|done| done.rows_affected())
    })
}

const DELETE: &str = "DELETE FROM session_files WHERE id = $1 AND status = 'GONE'";

/// Nothing is left of a file.
pub async fn delete(tx: &mut Tx, id: FileId) -> sqlx::Result<()> {
    on!(tx, |db| sqlx::query(DELETE).bind(id.to_string()).execute(db).await.map(drop))
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[
    HELD,
    INSERT,
    TO_OBJECTS,
    INSERT_CHUNK,
    CHUNK,
    STORE,
    GIVE_UP,
    GET,
    PAGE,
    GIVE_UP_STALE,
    GIVE_UP_ALL,
    A_GONE_ONE,
    LEFT_OBJECTS,
    DELETE_CHUNKS,
    DELETE,
];
/// The halves of the pairs of one database, 0 for SQLite and 1 for PostgreSQL.
#[cfg(test)]
pub(crate) fn halves(database: usize) -> Vec<&'static str> {
    [&GIVE_UP_OF[database][..], &[TAKE_GONE[database]]].concat()
}
