//! All SQL on `api_keys`.

use proto::id::{KeyId, UserId, WorkspaceId};

use super::{Bound, Scopes};
use crate::{
    db::{Tx, from_row, on, parse, parse_opt, unsigned},
    retention::{Old, old},
    workspaces::Plan,
};

/// How long a revoked key stays listed, in microseconds: 90 days.
const LISTED_US: i64 = 90 * 24 * 3_600 * 1_000_000;

/// A key's record. Times are Unix microseconds.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// Its id.
    pub id: KeyId,
    /// Whose it is.
    pub workspace_id: WorkspaceId,
    /// Its name for people.
    pub label: String,
    /// SHA-256 of the secret.
    pub secret_hash: Vec<u8>,
    /// What it allows.
    pub scopes: Scopes,
    /// Its workspace's plan, which sets its rate limits.
    pub plan: Plan,
    /// How many sessions its workspace may have at once; `None`: as many as there is room for.
    pub sessions_at_once: Option<u32>,
    /// When it was made.
    pub created_us: i64,
    /// Who made it; `None`: the server.
    pub created_by: Option<UserId>,
    /// When it was revoked.
    pub revoked_us: Option<i64>,
    /// Whether its workspace is neither suspended nor deleted.
    workspace_open: bool,
    /// Whether its workspace is the operator's.
    pub of_operator: bool,
}

impl KeyRow {
    /// Whether it can be used at all.
    pub fn is_good(&self) -> bool {
        self.revoked_us.is_none() && self.workspace_open
    }
}

from_row!(KeyRow, |row| {
    let created_by: Option<String> = row.try_get("created_by")?;
    let role: Option<String> = row.try_get("maker_role")?;
    let created_by = parse_opt(created_by.as_deref())?;
    let bound = match created_by {
        None => Bound::None,
        Some(_) => Bound::Maker(parse_opt(role.as_deref())?),
    };
    let plan: Plan = parse(row.try_get("plan")?)?;
    let limit = row.try_get::<Option<i64>, _>("session_limit")?.map(unsigned).transpose()?;
    let suspended_us: Option<i64> = row.try_get("suspended_us")?;
    let deleted_us: Option<i64> = row.try_get("deleted_us")?;
    Self {
        id: parse(row.try_get("id")?)?,
        workspace_id: parse(row.try_get("workspace_id")?)?,
        label: row.try_get("label")?,
        secret_hash: row.try_get("secret_hash")?,
        scopes: Scopes { given: row.try_get("scopes")?, bound },
        plan,
        sessions_at_once: limit.or(plan.sessions_at_once()),
        created_us: row.try_get("created_us")?,
        created_by,
        revoked_us: row.try_get("revoked_us")?,
        of_operator: row.try_get::<i64, _>("operator")? == 1,
        workspace_open: suspended_us.is_none() && deleted_us.is_none(),
    }
});

macro_rules! keys {
    ($which:literal) => {
        concat!(
            "SELECT api_keys.id, api_keys.workspace_id, label, secret_hash, scopes, \
             api_keys.created_us, created_by, revoked_us, role AS maker_role, plan, session_limit, \
             suspended_us, deleted_us, operator FROM api_keys \
             JOIN workspaces ON workspaces.id = api_keys.workspace_id \
             LEFT JOIN memberships ON memberships.workspace_id = api_keys.workspace_id \
             AND memberships.user_id = api_keys.created_by WHERE ",
            $which
        )
    };
}

const INSERT: &str = "INSERT INTO api_keys \
     (id, workspace_id, label, secret_hash, scopes, created_us, created_by) \
     VALUES ($1, $2, $3, $4, $5, $6, $7)";

/// A key to be recorded.
pub struct NewKey<'a> {
    /// Its id.
    pub id: KeyId,
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// Who makes it; `None`: the server.
    pub maker: Option<UserId>,
    /// Its name for people.
    pub label: &'a str,
    /// SHA-256 of the secret.
    pub hash: &'a [u8],
    /// What it is made for.
    pub scopes: &'a [&'a str],
}

/// Records a key.
pub async fn insert(tx: &mut Tx, new: &NewKey<'_>) -> sqlx::Result<()> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        sqlx::query(INSERT)
            .bind(new.id.to_string())
            .bind(new.workspace.to_string())
            .bind(new.label)
            .bind(new.hash)
            .bind(new.scopes.join(" "))
            .bind(now)
            .bind(new.maker.map(|id| id.to_string()))
            .execute(db)
            .await
            .map(drop)
    })
}

const FIND: &str = keys!("api_keys.id = $1");

/// A key's record, revoked or not.
pub async fn find(tx: &mut Tx, id: KeyId) -> sqlx::Result<Option<KeyRow>> {
    on!(tx, |db| sqlx::query_as(FIND).bind(id.to_string()).fetch_optional(db).await)
}

const LISTED: &str = keys!(
    "api_keys.workspace_id = $1 AND (revoked_us IS NULL OR revoked_us > $2) \
     ORDER BY api_keys.id DESC"
);

/// A workspace's keys, newest first, without those that were revoked long ago.
pub async fn listed(tx: &mut Tx, workspace: WorkspaceId) -> sqlx::Result<Vec<KeyRow>> {
    let since = tx.now_us().await? - LISTED_US;
    on!(tx, |db| {
        sqlx::query_as(LISTED).bind(workspace.to_string()).bind(since).fetch_all(db).await
    })
}

const REVOKE: &str = "UPDATE api_keys SET revoked_us = $2 WHERE id = $1 AND revoked_us IS NULL";

/// Revokes a key. Whether it was good until now.
pub async fn revoke(tx: &mut Tx, id: KeyId) -> sqlx::Result<bool> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        let revoke = sqlx::query(REVOKE).bind(id.to_string()).bind(now);
        revoke.execute(db).await.map(|done| done.rows_affected() == 1)
    })
}

const REVOKE_ALL_OF: &str = "UPDATE api_keys SET revoked_us = $3 \
     WHERE workspace_id = $1 AND created_by = $2 AND revoked_us IS NULL";

/// Revokes all that a person made in a workspace. Says how many.
pub async fn revoke_all_of(
    tx: &mut Tx,
    workspace: WorkspaceId,
    maker: UserId,
) -> sqlx::Result<u64> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        sqlx::query(REVOKE_ALL_OF)
            .bind(workspace.to_string())
            .bind(maker.to_string())
            .bind(now)
            .execute(db)
            .await
            .map(|done| done.rows_affected())
    })
}

/// Those that were revoked long ago.
pub const OLD: Old = Old { texts: old!("api_keys", "revoked_us <= $1"), kept_us: LISTED_US };

const PURGE: &str = "DELETE FROM api_keys WHERE workspace_id = $1";

/// Deletes the keys of a workspace that is deleted for good.
pub async fn purge(tx: &mut Tx, workspace: WorkspaceId) -> sqlx::Result<()> {
    on!(tx, |db| sqlx::query(PURGE).bind(workspace.to_string()).execute(db).await.map(drop))
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[INSERT, FIND, LISTED, REVOKE, REVOKE_ALL_OF, PURGE];
