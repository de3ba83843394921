//! Pages of sessions, and a session's past.

use proto::{
    id::{SessionId, WorkspaceId},
    session::SessionStatus,
};
use sqlx::{AssertSqlSafe, types::Json};

use crate::{
    db::{Tx, dialect, from_row, on, parse, parse_opt},
    paging::below,
    sessions::{Reason, SessionRow, list::Filters},
};

/// What stands before and behind the labels that a session is to have.
const LABELS: [[&str; 2]; 2] = [
    [
        "NOT EXISTS (SELECT 1 FROM json_each(",
        ") AS wanted WHERE NOT EXISTS (SELECT 1 FROM json_each(sessions.labels) AS has \
         WHERE has.key = wanted.key AND has.value = wanted.value))",
    ],
    ["labels @> ", ""],
];

/// The text of a page: `$1` to `$3` are the workspace, what its ids are less than, and how many are
/// wanted; behind them the filters that are given. It names the states, as a plan that is made for
/// any of them goes by the one that nearly all sessions have.
fn page_text(filters: &Filters, labels: [&str; 2]) -> String {
    let given = [
        (filters.region.is_some(), ["region = ", ""]),
        (filters.created_after_us.is_some(), ["created_us > ", ""]),
        (filters.created_before_us.is_some(), ["created_us < ", ""]),
        (!filters.labels.is_empty(), labels),
    ];
    let given = given.into_iter().filter(|(is_given, _)| *is_given).zip(4..);
    let given: String =
        given.map(|((_, [before, after]), n)| format!(" AND {before}${n}{after}")).collect();
    let newest = "ORDER BY id DESC LIMIT CAST($3 AS BIGINT)";
    let of = |status: &str| {
        let columns = columns!();
        format!(
            "SELECT {columns} FROM sessions WHERE workspace_id = $1 AND id < $2{status}{given} {newest}"
        )
    };
    if filters.statuses.is_empty() {
        return of("");
    }
    // The newest of all are among the newest of each, which the index has in order.
    let each = filters.statuses.iter().map(|status| {
        let of = of(&format!(" AND status = '{}'", status.as_str()));
        format!("SELECT * FROM ({of}) AS of_{status}")
    });
    let each: Vec<_> = each.collect();
    format!("{} {newest}", each.join(" UNION ALL "))
}

/// Those without filters, by status alone, and with all filters.
#[cfg(test)]
pub(super) fn page_texts(database: usize) -> Vec<&'static str> {
    let statuses = vec![SessionStatus::Errored, SessionStatus::Running];
    let labels = [("team".to_owned(), "search".to_owned())].into();
    let all = Filters {
        statuses: statuses.clone(),
        region: "local".parse().ok(),
        labels,
        created_after_us: Some(1),
        created_before_us: Some(2),
    };
    let by_status = Filters { statuses, ..Filters::default() };
    let wanted = [Filters::default(), by_status, all];
    wanted.map(|wanted| &*page_text(&wanted, LABELS[database]).leak()).into()
}

/// At most `limit` sessions of a workspace that pass the filters, newest first, from behind
/// the one that a cursor names.
pub async fn page(
    tx: &mut Tx,
    workspace: WorkspaceId,
    filters: &Filters,
    after: Option<SessionId>,
    limit: i64,
) -> sqlx::Result<Vec<SessionRow>> {
    let text = page_text(filters, dialect!(tx, LABELS[0], LABELS[1]));
    on!(tx, |db| {
        let mut page = sqlx::query_as(AssertSqlSafe(text));
        page = page.bind(workspace.to_string()).bind(below(after)).bind(limit);
        if let Some(region) = &filters.region {
            page = page.bind(region.as_str());
        }
        for time in [filters.created_after_us, filters.created_before_us].into_iter().flatten() {
            page = page.bind(time);
        }
        if !filters.labels.is_empty() {
            page = page.bind(Json(&filters.labels));
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
