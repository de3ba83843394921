//! Pages of what was done.

use proto::id::WorkspaceId;
use serde_json::{Map, Value};
use sqlx::types::Json;
use ulid::Ulid;

use super::list::Filters;
use crate::{
    db::{Tx, from_row, on, parse},
    paging::below,
};

/// Something that was done; see the migration. `at_us` is Unix microseconds.
pub struct AuditRow {
    pub id: Ulid,
    pub at_us: i64,
    pub actor_kind: String,
    pub actor_id: String,
    pub actor_email: Option<String>,
    pub action: String,
    pub target_kind: String,
    pub target_id: String,
    pub detail: Map<String, Value>,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
}

from_row!(AuditRow, |row| {
    let Json(detail) = row.try_get("detail")?;
    Self {
        id: parse(row.try_get("id")?)?,
        at_us: row.try_get("at_us")?,
        actor_kind: row.try_get("actor_kind")?,
        actor_id: row.try_get("actor_id")?,
        actor_email: row.try_get("actor_email")?,
        action: row.try_get("action")?,
        target_kind: row.try_get("target_kind")?,
        target_id: row.try_get("target_id")?,
        detail,
        ip: row.try_get("ip")?,
        user_agent: row.try_get("user_agent")?,
    }
});

// Without the addition PostgreSQL goes by the index of times, which has those of all workspaces.
pub(super) const PAGE: &str = "SELECT id, at_us, actor_kind, actor_id, actor_email, action, \
     target_kind, target_id, detail, ip, user_agent FROM audit \
     WHERE workspace_id = $1 AND id < $2 AND ($3 = '' OR action = $3) \
     AND ($4 = '' OR actor_id = $4 OR LOWER(actor_email) = LOWER($4)) \
     AND at_us + 0 >= CAST($5 AS BIGINT) AND at_us + 0 < CAST($6 AS BIGINT) \
     ORDER BY id DESC LIMIT CAST($7 AS BIGINT)";

/// At most `limit` of what was done in a workspace, newest first, from behind what a cursor
/// names.
pub async fn page(
    tx: &mut Tx,
    workspace: WorkspaceId,
    filters: &Filters,
    after: Option<Ulid>,
    limit: i64,
) -> sqlx::Result<Vec<AuditRow>> {
    // Callers see whole milliseconds, so what they name is a whole one, and not included.
    let from = filters
        .after_us
        .map_or(i64::MIN, |us| us.div_euclid(1000).saturating_add(1).saturating_mul(1000));
    on!(tx, |db| {
        sqlx::query_as(PAGE)
            .bind(workspace.to_string())
            .bind(below(after))
            .bind(filters.action.as_deref().unwrap_or_default())
            .bind(filters.actor.as_deref().unwrap_or_default())
            .bind(from)
            .bind(filters.before_us.unwrap_or(i64::MAX))
            .bind(limit)
            .fetch_all(db)
            .await
    })
}
