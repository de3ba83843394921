//! Pages of sessions, and a session's past.

use proto::{
    id::{SessionId, WorkspaceId},
    session::SessionStatus,
};
use sqlx::types::Json;

use crate::{
    db::{Tx, dialect, from_row, on, parse, parse_opt},
    paging::below,
    sessions::{Reason, SessionRow, list::Filters},
};

/// A page of the sessions of some workspace and maybe of some state, as a part of a text.
macro_rules! some {
    ($columns:expr, $of:literal, $labels:expr) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM sessions WHERE workspace_id = $1 AND id < $2 ",
            $of,
            "AND ($3 = '' OR region = $3) \
             AND created_us > CAST($4 AS BIGINT) AND created_us < CAST($5 AS BIGINT) AND ",
            $labels,
            " ORDER BY id DESC LIMIT CAST($7 AS BIGINT)"
        )
    };
}
macro_rules! labelled_sqlite {
    () => {
        "NOT EXISTS (SELECT 1 FROM json_each($6) AS wanted WHERE NOT EXISTS \
         (SELECT 1 FROM json_each(sessions.labels) AS has \
         WHERE has.key = wanted.key AND has.value = wanted.value))"
    };
}
macro_rules! labelled_postgres {
    () => {
        "labels @> $6"
    };
}
/// Of any state.
pub(super) const PAGE: [&str; 2] =
    [some!(columns!(), "", labelled_sqlite!()), some!(columns!(), "", labelled_postgres!())];
/// Of some states: the page of each, of which the newest are the page of all. Each is read from
/// the index's end, however many sessions of other states there are.
pub(super) const PAGE_BY_STATUS: [&str; 2] = [
    concat!(
        "SELECT ",
        columns!(),
        " FROM (SELECT value AS wanted_status FROM json_each($8)) \
         CROSS JOIN sessions ON id IN (",
        some!("id", "AND status = wanted_status ", labelled_sqlite!()),
        ") ORDER BY id DESC LIMIT CAST($7 AS BIGINT)"
    ),
    concat!(
        "SELECT ",
        columns!(),
        " FROM jsonb_array_elements_text($8) AS wanted (wanted_status) CROSS JOIN LATERAL (",
        some!("*", "AND status = wanted_status ", labelled_postgres!()),
        ") AS sessions ORDER BY id DESC LIMIT CAST($7 AS BIGINT)"
    ),
];

/// At most `limit` sessions of a workspace that pass the filters, newest first, from behind
/// the one that a cursor names.
pub async fn page(
    tx: &mut Tx,
    workspace: WorkspaceId,
    filters: &Filters,
    after: Option<SessionId>,
    limit: i64,
) -> sqlx::Result<Vec<SessionRow>> {
    let text = if filters.statuses.is_empty() { PAGE } else { PAGE_BY_STATUS };
    let text = dialect!(tx, text[0], text[1]);
    let statuses: Vec<_> = filters.statuses.iter().map(|status| status.as_str()).collect();
    on!(tx, |db| {
        let mut page = sqlx::query_as(text)
            .bind(workspace.to_string())
            .bind(below(after))
            .bind(filters.region.as_ref().map_or("", |region| region.as_str()))
            .bind(filters.created_after_us.unwrap_or(i64::MIN))
            .bind(filters.created_before_us.unwrap_or(i64::MAX))
            .bind(Json(&filters.labels))
            .bind(limit);
        if !statuses.is_empty() {
            page = page.bind(Json(&statuses));
        }
        page.fetch_all(db).await
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
