//! What the operator of a server does to workspaces: from its command line, on its database,
//! while servers run or not. A running server notices within a second.

use anyhow::Context;

use super::{Plan, WorkspaceRow, make_owner, store};
use crate::{
    audit::{self, Actor, Deed},
    db::{Db, Tx},
    people::{self, Email},
};

/// All workspaces by slug, deleted ones included.
pub async fn list(db: &Db) -> anyhow::Result<Vec<WorkspaceRow>> {
    Ok(store::all(&mut db.read().await?).await?)
}

/// Closes a workspace: its keys stop working, its sessions end, its people may only look.
pub async fn suspend(db: &Db, slug: &str) -> anyhow::Result<WorkspaceRow> {
    let mut tx = db.begin().await?;
    let workspace = held(&mut tx, slug).await?;
    if workspace.suspended_us.is_some() {
        return Ok(workspace);
    }
    let now = tx.now_us().await?;
    let row = store::set_suspended(&mut tx, workspace.id, Some(now)).await?;
    record(&mut tx, &row, "workspace.suspend").await?;
    tx.commit().await?;
    Ok(row)
}

/// Opens a suspended workspace again. Its keys work as before; its sessions stay over.
pub async fn resume(db: &Db, slug: &str) -> anyhow::Result<WorkspaceRow> {
    let mut tx = db.begin().await?;
    let workspace = held(&mut tx, slug).await?;
    if workspace.suspended_us.is_none() {
        return Ok(workspace);
    }
    let row = store::set_suspended(&mut tx, workspace.id, None).await?;
    record(&mut tx, &row, "workspace.resume").await?;
    tx.commit().await?;
    Ok(row)
}

/// Gives a workspace another plan.
pub async fn set_plan(db: &Db, slug: &str, plan: Plan) -> anyhow::Result<WorkspaceRow> {
    let mut tx = db.begin().await?;
    let workspace = held(&mut tx, slug).await?;
    if workspace.plan == plan {
        return Ok(workspace);
    }
    let row = store::set_plan(&mut tx, workspace.id, plan).await?;
    record(&mut tx, &row, "workspace.plan").await?;
    tx.commit().await?;
    Ok(row)
}

/// Makes a workspace the operator's: its administrators see and drain agents, no others do.
pub async fn set_operator(db: &Db, slug: &str) -> anyhow::Result<WorkspaceRow> {
    let mut tx = db.begin().await?;
    store::lock_all(&mut tx).await?;
    let workspace = held(&mut tx, slug).await?;
    if workspace.is_operator {
        return Ok(workspace);
    }
    store::set_operator(&mut tx, workspace.id).await?;
    record(&mut tx, &workspace, "workspace.operator").await?;
    tx.commit().await?;
    Ok(WorkspaceRow { is_operator: true, ..workspace })
}

/// Says how many sessions a workspace may have at once; `None`: as its plan says.
pub async fn set_session_limit(
    db: &Db,
    slug: &str,
    limit: Option<u32>,
) -> anyhow::Result<WorkspaceRow> {
    let mut tx = db.begin().await?;
    let workspace = held(&mut tx, slug).await?;
    if workspace.session_limit == limit {
        return Ok(workspace);
    }
    let row = store::set_session_limit(&mut tx, workspace.id, limit).await?;
    record(&mut tx, &row, "workspace.limit").await?;
    tx.commit().await?;
    Ok(row)
}

/// Makes a person an owner of a workspace: one who is new is recorded, one who is a member
/// already is raised.
pub async fn add_owner(db: &Db, slug: &str, email: &Email) -> anyhow::Result<()> {
    let mut tx = db.begin().await?;
    let workspace = held(&mut tx, slug).await?;
    let owner = people::store::ensure(&mut tx, email).await?;
    make_owner(&mut tx, workspace.id, &owner).await?;
    tx.commit().await?;
    Ok(())
}

async fn held(tx: &mut Tx, slug: &str) -> anyhow::Result<WorkspaceRow> {
    let unknown = || format!("no workspace has the slug {slug:?}");
    let found = store::by_slug(tx, slug).await?.with_context(unknown)?;
    store::lock(tx, found.id).await?.with_context(unknown)
}

async fn record(tx: &mut Tx, row: &WorkspaceRow, action: &'static str) -> sqlx::Result<()> {
    let deed = Deed {
        action,
        target_kind: "workspace",
        target_id: &row.id.to_string(),
        detail: &[("plan", row.plan.as_str().into()), ("session_limit", row.session_limit.into())],
    };
    audit::record(tx, row.id, &Actor::system(), deed).await
}
