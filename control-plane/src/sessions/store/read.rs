//! Pages of sessions, and a session's past.

use proto::{
    id::{SessionId, WorkspaceId},
    session::SessionStatus,
};
use sqlx::types::Json;

use crate::{
    db::{Tx, dialect, from_row, on, parse, parse_opt},
    sessions::{Reason, SessionRow, list::Filters},
};

macro_rules! page {
    ($labels:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM sessions WHERE workspace_id = $1 AND ($2 = '' OR id < $2) \
             AND ($3 = '' OR region = $3) AND ($4 = '' OR $4 LIKE '%' || status || '%') \
             AND created_us > CAST($5 AS BIGINT) AND created_us < CAST($6 AS BIGINT) AND ",
            $labels,
            " ORDER BY id DESC LIMIT CAST($8 AS BIGINT)"
        )
    };
}
pub(super) const PAGE_SQLITE: &str = page!(
    "NOT EXISTS (SELECT 1 FROM json_each($7) AS wanted WHERE NOT EXISTS \
     (SELECT 1 FROM json_each(sessions.labels) AS has \
     WHERE has.key = wanted.key AND has.value = wanted.value))"
);
pub(super) const PAGE_POSTGRES: &str = page!("labels @> $7");

/// At most `limit` sessions of a workspace that pass the filters, newest first, from behind
/// the one that a cursor names.
pub async fn page(
    tx: &mut Tx,
    workspace: WorkspaceId,
    filters: &Filters,
    after: Option<SessionId>,
    limit: i64,
) -> sqlx::Result<Vec<SessionRow>> {
    let page = dialect!(tx, PAGE_SQLITE, PAGE_POSTGRES);
    let statuses: Vec<_> = filters.statuses.iter().map(|status| status.as_str()).collect();
    on!(tx, |db| {
        sqlx::query_as(page)
            .bind(workspace.to_string())
            .bind(after.map(|id| id.to_string()).unwrap_or_default())
            .bind(filters.region.as_ref().map_or("", |region| region.as_str()))
            .bind(statuses.join(" "))
            .bind(filters.created_after_us.unwrap_or(i64::MIN))
            .bind(filters.created_before_us.unwrap_or(i64::MAX))
            .bind(Json(&filters.labels))
            .bind(limit)
            .fetch_all(db)
            .await
    })
}

/// One transition.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// The state that it led to.
    pub status: SessionStatus,
    /// When, Unix microseconds.
    pub at_us: i64,
    /// Why, for final states, and for a launch that went to another agent.
    pub reason: Option<Reason>,
}

from_row!(EventRow, |row| {
    let code: Option<String> = row.try_get("reason_code")?;
    let message: Option<String> = row.try_get("reason_message")?;
    Self {
        status: parse(row.try_get("status")?)?,
        at_us: row.try_get("at_us")?,
        reason: parse_opt(code.as_deref())?
            .map(|code| Reason { code, message: message.unwrap_or_default() }),
    }
});

pub(super) const EVENTS: &str = "SELECT status, at_us, reason_code, reason_message FROM session_events \
     WHERE session_id = $1 ORDER BY seq";

/// A session's transitions, oldest first.
pub async fn events(tx: &mut Tx, id: SessionId) -> sqlx::Result<Vec<EventRow>> {
    on!(tx, |db| sqlx::query_as(EVENTS).bind(id.to_string()).fetch_all(db).await)
}
