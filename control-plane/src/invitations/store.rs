//! All SQL on `invitations`.

use proto::id::{InvitationId, WorkspaceId};

use crate::{
    db::{Tx, from_row, on, parse},
    people::{Email, Role},
    retention::{Old, old},
};

/// An invitation. Times are Unix microseconds.
#[derive(Clone)]
#[expect(missing_docs, reason = "the columns explain themselves; see the migration")]
pub struct InvitationRow {
    pub id: InvitationId,
    pub workspace_id: WorkspaceId,
    pub email: String,
    pub role: Role,
    pub secret_hash: Vec<u8>,
    pub created_us: i64,
    pub expires_us: i64,
}

macro_rules! columns {
    () => {
        "id, workspace_id, email, role, secret_hash, created_us, expires_us"
    };
}

from_row!(InvitationRow, |row| {
    let role: String = row.try_get("role")?;
    Self {
        id: parse(row.try_get("id")?)?,
        workspace_id: parse(row.try_get("workspace_id")?)?,
        email: row.try_get("email")?,
        role: parse(&role)?,
        secret_hash: row.try_get("secret_hash")?,
        created_us: row.try_get("created_us")?,
        expires_us: row.try_get("expires_us")?,
    }
});

const PUT: &str = concat!(
    "INSERT INTO invitations \
     (id, workspace_id, email, email_key, role, secret_hash, created_us, expires_us) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (workspace_id, email_key) \
     DO UPDATE SET id = excluded.id, email = excluded.email, role = excluded.role, \
     secret_hash = excluded.secret_hash, created_us = excluded.created_us, \
     expires_us = excluded.expires_us RETURNING ",
    columns!()
);

/// An invitation to be recorded.
pub struct New<'a> {
    /// The part of its link that is no secret.
    pub id: InvitationId,
    /// Whom it is for.
    pub email: &'a Email,
    /// What they will be.
    pub role: Role,
    /// Of the part that is.
    pub secret_hash: &'a [u8],
    /// How long it is good, in microseconds.
    pub lasts_us: i64,
}

/// Records an invitation. An earlier one for the same address makes way for it.
pub async fn put(
    tx: &mut Tx,
    workspace: WorkspaceId,
    new: &New<'_>,
) -> sqlx::Result<InvitationRow> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        sqlx::query_as(PUT)
            .bind(new.id.to_string())
            .bind(workspace.to_string())
            .bind(new.email.as_str())
            .bind(new.email.key())
            .bind(new.role.as_str())
            .bind(new.secret_hash)
            .bind(now)
            .bind(now + new.lasts_us)
            .fetch_one(db)
            .await
    })
}

const GET: &str = concat!("SELECT ", columns!(), " FROM invitations WHERE id = $1");

/// One invitation, expired or not.
pub async fn get(tx: &mut Tx, id: InvitationId) -> sqlx::Result<Option<InvitationRow>> {
    on!(tx, |db| sqlx::query_as(GET).bind(id.to_string()).fetch_optional(db).await)
}

const OPEN: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM invitations WHERE workspace_id = $1 AND expires_us > $2 ORDER BY id DESC"
);

/// Those that are still good, newest first.
pub async fn open(tx: &mut Tx, workspace: WorkspaceId) -> sqlx::Result<Vec<InvitationRow>> {
    let now = tx.now_us().await?;
    on!(tx, |db| sqlx::query_as(OPEN).bind(workspace.to_string()).bind(now).fetch_all(db).await)
}

const TAKE: &str = "DELETE FROM invitations WHERE id = $1";

/// Uses an invitation up, or withdraws it. Whether it was still there: only one of several
/// who try hears so.
pub async fn take(tx: &mut Tx, id: InvitationId) -> sqlx::Result<bool> {
    on!(tx, |db| {
        let take = sqlx::query(TAKE).bind(id.to_string());
        take.execute(db).await.map(|done| done.rows_affected() == 1)
    })
}

/// Those that have expired.
pub const OLD: Old = Old { texts: old!("invitations", "expires_us <= $1"), kept_us: 0 };

const PURGE: &str = "DELETE FROM invitations WHERE workspace_id = $1";

/// Deletes those to a workspace that is deleted for good.
pub async fn purge(tx: &mut Tx, workspace: WorkspaceId) -> sqlx::Result<()> {
    on!(tx, |db| sqlx::query(PURGE).bind(workspace.to_string()).execute(db).await.map(drop))
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[PUT, GET, OPEN, TAKE, PURGE];
