//! All SQL on `workspaces`.

use proto::id::{UserId, WorkspaceId};

use super::{GRACE_US, Plan, WorkspaceRow};
use crate::{
    db::{Tx, dialect, from_row, on, parse, unsigned},
    people::Role,
};

macro_rules! columns {
    () => {
        "workspaces.id, slug, name, plan, session_limit, workspaces.created_us, suspended_us, \
         deleted_us, operator"
    };
}

from_row!(WorkspaceRow, |row| {
    let plan: String = row.try_get("plan")?;
    Self {
        id: parse(row.try_get("id")?)?,
        slug: row.try_get("slug")?,
        name: row.try_get("name")?,
        plan: parse::<Plan>(&plan)?,
        session_limit: row.try_get::<Option<i64>, _>("session_limit")?.map(unsigned).transpose()?,
        created_us: row.try_get("created_us")?,
        suspended_us: row.try_get("suspended_us")?,
        deleted_us: row.try_get("deleted_us")?,
        is_operator: row.try_get::<i64, _>("operator")? == 1,
    }
});

/// A workspace with somebody's role in it.
struct Belonging(WorkspaceRow, Role);

from_row!(Belonging, |row| {
    let role: String = row.try_get("role")?;
    Self(sqlx::FromRow::from_row(row)?, parse(&role)?)
});

const LOCK_ALL: &str = "LOCK TABLE workspaces IN SHARE ROW EXCLUSIVE MODE";

/// Holds all replicas off that would make a workspace, until the transaction ends.
pub async fn lock_all(tx: &mut Tx) -> sqlx::Result<()> {
    if let crate::db::Link::Postgres(db) = tx.link() {
        sqlx::query(LOCK_ALL).execute(db).await?;
    }
    Ok(())
}

const COUNT: &str = "SELECT COUNT(*) FROM workspaces";

/// How many there are, deleted ones included.
pub async fn count(tx: &mut Tx) -> sqlx::Result<i64> {
    on!(tx, |db| sqlx::query_scalar(COUNT).fetch_one(db).await)
}

const WITHOUT_OWNER: &str = "SELECT id FROM workspaces WHERE NOT EXISTS \
     (SELECT 1 FROM memberships WHERE workspace_id = workspaces.id AND role = 'owner')";

/// Those that nobody owns: made by a release that knew no owners.
pub async fn without_owner(tx: &mut Tx) -> sqlx::Result<Vec<WorkspaceId>> {
    let ids: Vec<String> = on!(tx, |db| sqlx::query_scalar(WITHOUT_OWNER).fetch_all(db).await)?;
    ids.iter().map(|id| parse(id)).collect()
}

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

const INSERT_NEW: &str = concat!(
    "INSERT INTO workspaces (id, slug, name, created_us) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (slug) DO NOTHING RETURNING ",
    columns!()
);

/// Records a workspace; `None` when another one has the slug.
pub async fn insert_new(tx: &mut Tx, slug: &str, name: &str) -> sqlx::Result<Option<WorkspaceRow>> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        sqlx::query_as(INSERT_NEW)
            .bind(WorkspaceId::generate().to_string())
            .bind(slug)
            .bind(name)
            .bind(now)
            .fetch_optional(db)
            .await
    })
}

const OF_MEMBER: &str = concat!(
    "SELECT ",
    columns!(),
    ", role FROM workspaces JOIN memberships ON workspace_id = workspaces.id \
     WHERE slug = $1 AND user_id = $2"
);

/// A workspace by its slug, if the person belongs to it.
pub async fn of_member(
    tx: &mut Tx,
    slug: &str,
    user: UserId,
) -> sqlx::Result<Option<(WorkspaceRow, Role)>> {
    let found: Option<Belonging> = on!(tx, |db| {
        sqlx::query_as(OF_MEMBER).bind(slug).bind(user.to_string()).fetch_optional(db).await
    })?;
    Ok(found.map(|Belonging(workspace, role)| (workspace, role)))
}

const ALL_OF: &str = concat!(
    "SELECT ",
    columns!(),
    ", role FROM workspaces JOIN memberships ON workspace_id = workspaces.id \
     WHERE user_id = $1 ORDER BY slug"
);

/// All that a person belongs to, by slug, deleted ones included.
pub async fn all_of(tx: &mut Tx, user: UserId) -> sqlx::Result<Vec<(WorkspaceRow, Role)>> {
    let all: Vec<Belonging> =
        on!(tx, |db| sqlx::query_as(ALL_OF).bind(user.to_string()).fetch_all(db).await)?;
    Ok(all.into_iter().map(|Belonging(workspace, role)| (workspace, role)).collect())
}

const LOCK_SQLITE: &str = concat!("SELECT ", columns!(), " FROM workspaces WHERE id = $1");
// Weaker than FOR UPDATE, which would hold up whoever only refers to the workspace.
const LOCK_POSTGRES: &str =
    concat!("SELECT ", columns!(), " FROM workspaces WHERE id = $1 FOR NO KEY UPDATE");

/// One workspace, held against other changes of it and of its members until the transaction
/// ends.
pub async fn lock(tx: &mut Tx, id: WorkspaceId) -> sqlx::Result<Option<WorkspaceRow>> {
    let lock = dialect!(tx, LOCK_SQLITE, LOCK_POSTGRES);
    on!(tx, |db| sqlx::query_as(lock).bind(id.to_string()).fetch_optional(db).await)
}

const BY_SLUG: &str = concat!("SELECT ", columns!(), " FROM workspaces WHERE slug = $1");

/// One workspace by its slug.
pub async fn by_slug(tx: &mut Tx, slug: &str) -> sqlx::Result<Option<WorkspaceRow>> {
    on!(tx, |db| sqlx::query_as(BY_SLUG).bind(slug).fetch_optional(db).await)
}

const ALL: &str = concat!("SELECT ", columns!(), " FROM workspaces ORDER BY slug");

/// All of them, by slug.
pub async fn all(tx: &mut Tx) -> sqlx::Result<Vec<WorkspaceRow>> {
    on!(tx, |db| sqlx::query_as(ALL).fetch_all(db).await)
}

const RENAME: &str =
    concat!("UPDATE workspaces SET name = $2 WHERE id = $1 RETURNING ", columns!());

/// Gives it another name.
pub async fn rename(tx: &mut Tx, id: WorkspaceId, name: &str) -> sqlx::Result<WorkspaceRow> {
    on!(tx, |db| sqlx::query_as(RENAME).bind(id.to_string()).bind(name).fetch_one(db).await)
}

const SET_DELETED: &str = concat!(
    "UPDATE workspaces SET deleted_us = CAST($2 AS BIGINT) WHERE id = $1 RETURNING ",
    columns!()
);

/// Says since when it is deleted; `None`: it is not.
pub async fn set_deleted(
    tx: &mut Tx,
    id: WorkspaceId,
    since_us: Option<i64>,
) -> sqlx::Result<WorkspaceRow> {
    on!(tx, |db| {
        sqlx::query_as(SET_DELETED).bind(id.to_string()).bind(since_us).fetch_one(db).await
    })
}

const SET_SUSPENDED: &str = concat!(
    "UPDATE workspaces SET suspended_us = CAST($2 AS BIGINT) WHERE id = $1 RETURNING ",
    columns!()
);

/// Says since when it is suspended; `None`: it is not.
pub async fn set_suspended(
    tx: &mut Tx,
    id: WorkspaceId,
    since_us: Option<i64>,
) -> sqlx::Result<WorkspaceRow> {
    on!(tx, |db| {
        sqlx::query_as(SET_SUSPENDED).bind(id.to_string()).bind(since_us).fetch_one(db).await
    })
}

const SET_PLAN: &str =
    concat!("UPDATE workspaces SET plan = $2 WHERE id = $1 RETURNING ", columns!());

/// Gives it another plan.
pub async fn set_plan(tx: &mut Tx, id: WorkspaceId, plan: Plan) -> sqlx::Result<WorkspaceRow> {
    on!(tx, |db| {
        sqlx::query_as(SET_PLAN).bind(id.to_string()).bind(plan.as_str()).fetch_one(db).await
    })
}

const NOT_OPERATOR: &str = "UPDATE workspaces SET operator = 0 WHERE operator = 1 AND id <> $1";
const OPERATOR: &str = "UPDATE workspaces SET operator = 1 WHERE id = $1";

/// Makes it the one whose administrators run the server, in place of another.
pub async fn set_operator(tx: &mut Tx, id: WorkspaceId) -> sqlx::Result<()> {
    // One after the other: at no moment are there two.
    for change in [NOT_OPERATOR, OPERATOR] {
        on!(tx, |db| sqlx::query(change).bind(id.to_string()).execute(db).await.map(drop))?;
    }
    Ok(())
}

const SET_SESSION_LIMIT: &str = concat!(
    "UPDATE workspaces SET session_limit = CAST($2 AS BIGINT) WHERE id = $1 RETURNING ",
    columns!()
);

/// Says how many sessions it may have at once; `None`: as its plan says.
pub async fn set_session_limit(
    tx: &mut Tx,
    id: WorkspaceId,
    limit: Option<u32>,
) -> sqlx::Result<WorkspaceRow> {
    on!(tx, |db| {
        let set = sqlx::query_as(SET_SESSION_LIMIT).bind(id.to_string());
        set.bind(limit.map(i64::from)).fetch_one(db).await
    })
}

// One whose agent has not yet said that the browser is gone waits for the next look: the row
// is what keeps the slot.
const TO_PURGE: &str = "SELECT id FROM workspaces WHERE deleted_us <= $1 AND NOT EXISTS \
     (SELECT 1 FROM sessions WHERE workspace_id = workspaces.id AND slot_held = 1) LIMIT 1";

/// One whose grace is over.
pub async fn to_purge(tx: &mut Tx) -> sqlx::Result<Option<WorkspaceId>> {
    let before = tx.now_us().await? - GRACE_US;
    let id: Option<String> =
        on!(tx, |db| sqlx::query_scalar(TO_PURGE).bind(before).fetch_optional(db).await)?;
    id.as_deref().map(parse).transpose()
}

const HOLD_DELETED: [&str; 2] = [
    "SELECT id FROM workspaces WHERE id = $1 AND deleted_us IS NOT NULL",
    "SELECT id FROM workspaces WHERE id = $1 AND deleted_us IS NOT NULL FOR UPDATE SKIP LOCKED",
];

/// Holds a deleted workspace until the transaction ends. False: another replica does.
pub async fn hold_deleted(tx: &mut Tx, id: WorkspaceId) -> sqlx::Result<bool> {
    let hold = dialect!(tx, HOLD_DELETED[0], HOLD_DELETED[1]);
    let held: Option<String> =
        on!(tx, |db| sqlx::query_scalar(hold).bind(id.to_string()).fetch_optional(db).await)?;
    Ok(held.is_some())
}

const DELETE: &str = "DELETE FROM workspaces WHERE id = $1";

/// Deletes the row of a workspace that has nothing left.
pub async fn delete(tx: &mut Tx, id: WorkspaceId) -> sqlx::Result<()> {
    on!(tx, |db| sqlx::query(DELETE).bind(id.to_string()).execute(db).await.map(drop))
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[
    COUNT,
    WITHOUT_OWNER,
    INSERT,
    INSERT_NEW,
    OF_MEMBER,
    ALL_OF,
    BY_SLUG,
    ALL,
    RENAME,
    SET_DELETED,
    SET_SUSPENDED,
    SET_PLAN,
    NOT_OPERATOR,
    OPERATOR,
    SET_SESSION_LIMIT,
    TO_PURGE,
    DELETE,
];
/// SQLite's half of the pairs.
#[cfg(test)]
pub(crate) const SQLITE_ONLY: &[&str] = &[LOCK_SQLITE, HOLD_DELETED[0]];
/// PostgreSQL's half of the pairs, and its own.
#[cfg(test)]
pub(crate) const POSTGRES_ONLY: &[&str] = &[LOCK_ALL, LOCK_POSTGRES, HOLD_DELETED[1]];
