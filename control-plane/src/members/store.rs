//! All SQL on `memberships`.

use proto::id::{UserId, WorkspaceId};

use crate::{
    db::{Tx, from_row, on, parse, parse_opt},
    people::{Email, Role},
};

/// A person in a workspace.
#[derive(Clone, Debug)]
pub struct MemberRow {
    /// Who.
    pub user_id: UserId,
    /// Their address.
    pub email: String,
    /// As what.
    pub role: Role,
    /// Since when, Unix microseconds.
    pub created_us: i64,
}

from_row!(MemberRow, |row| {
    let role: String = row.try_get("role")?;
    Self {
        user_id: parse(row.try_get("user_id")?)?,
        email: row.try_get("email")?,
        role: parse(&role)?,
        created_us: row.try_get("created_us")?,
    }
});

macro_rules! members {
    ($rest:literal) => {
        concat!(
            "SELECT user_id, email, role, memberships.created_us FROM memberships \
             JOIN users ON users.id = user_id WHERE workspace_id = $1 ",
            $rest
        )
    };
}

const SET: &str = "INSERT INTO memberships (workspace_id, user_id, role, created_us) \
     VALUES ($1, $2, $3, $4) \
     ON CONFLICT (workspace_id, user_id) DO UPDATE SET role = excluded.role";

/// Makes a person a member, or gives a member another role.
pub async fn set(
    tx: &mut Tx,
    workspace: WorkspaceId,
    user: UserId,
    role: Role,
) -> sqlx::Result<()> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        sqlx::query(SET)
            .bind(workspace.to_string())
            .bind(user.to_string())
            .bind(role.as_str())
            .bind(now)
            .execute(db)
            .await
            .map(drop)
    })
}

const ROLE: &str = "SELECT role FROM memberships WHERE workspace_id = $1 AND user_id = $2";

/// What a person is in a workspace; `None`: they do not belong to it.
pub async fn role(tx: &mut Tx, workspace: WorkspaceId, user: UserId) -> sqlx::Result<Option<Role>> {
    let role: Option<String> = on!(tx, |db| {
        let query = sqlx::query_scalar(ROLE).bind(workspace.to_string()).bind(user.to_string());
        query.fetch_optional(db).await
    })?;
    parse_opt(role.as_deref())
}

const GET: &str = members!("AND user_id = $2");

/// One member.
pub async fn get(
    tx: &mut Tx,
    workspace: WorkspaceId,
    user: UserId,
) -> sqlx::Result<Option<MemberRow>> {
    on!(tx, |db| {
        let get = sqlx::query_as(GET).bind(workspace.to_string()).bind(user.to_string());
        get.fetch_optional(db).await
    })
}

const ALL: &str = members!("ORDER BY email_key");

/// All members, by address.
pub async fn all(tx: &mut Tx, workspace: WorkspaceId) -> sqlx::Result<Vec<MemberRow>> {
    on!(tx, |db| sqlx::query_as(ALL).bind(workspace.to_string()).fetch_all(db).await)
}

const BY_EMAIL: &str = members!("AND email_key = $2");

/// The member with an address.
pub async fn by_email(
    tx: &mut Tx,
    workspace: WorkspaceId,
    email: &Email,
) -> sqlx::Result<Option<MemberRow>> {
    on!(tx, |db| {
        let get = sqlx::query_as(BY_EMAIL).bind(workspace.to_string()).bind(email.key());
        get.fetch_optional(db).await
    })
}

const OWNERS: &str = "SELECT COUNT(*) FROM memberships WHERE workspace_id = $1 AND role = 'owner'";

/// How many owners a workspace has. Certain only while the workspace is locked.
pub async fn owners(tx: &mut Tx, workspace: WorkspaceId) -> sqlx::Result<i64> {
    on!(tx, |db| sqlx::query_scalar(OWNERS).bind(workspace.to_string()).fetch_one(db).await)
}

const REMOVE: &str = "DELETE FROM memberships WHERE workspace_id = $1 AND user_id = $2";

/// Takes a person out of a workspace.
pub async fn remove(tx: &mut Tx, workspace: WorkspaceId, user: UserId) -> sqlx::Result<()> {
    on!(tx, |db| {
        let remove = sqlx::query(REMOVE).bind(workspace.to_string()).bind(user.to_string());
        remove.execute(db).await.map(drop)
    })
}

const PURGE: &str = "DELETE FROM memberships WHERE workspace_id = $1";

/// Takes everybody out of a workspace that is deleted for good.
pub async fn purge(tx: &mut Tx, workspace: WorkspaceId) -> sqlx::Result<()> {
    on!(tx, |db| sqlx::query(PURGE).bind(workspace.to_string()).execute(db).await.map(drop))
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[SET, ROLE, GET, ALL, BY_EMAIL, OWNERS, REMOVE, PURGE];
