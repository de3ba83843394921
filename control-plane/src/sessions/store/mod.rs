//! All SQL on `sessions` and `session_events`.

use proto::{
    id::{AgentId, SessionId, WorkspaceId},
    region::Region,
    session::{EndReason, SessionStatus},
};
use serde_json::{Value, json};
use sqlx::types::Json;

use super::{NewSession, Reason, Reporter, SessionRow, Viewport, inputs, object::rfc3339};
use crate::{
    db::{Tx, dialect, from_row, on, parse, parse_opt, unsigned},
    outbox,
};

macro_rules! columns {
    () => {
        "id, workspace_id, region, agent_id, status, reason_code, reason_message, \
         timeout_seconds, keep_alive_seconds, viewport_width, viewport_height, user_agent, \
         proxy_url, profile_id, has_inputs, keepalives, labels, traceparent, tried, slot_held, created_us, started_us, ended_us, expires_us, \
         last_seen_us, cdp_messages, bytes_in, bytes_out, egress_bytes, egress, egress_denied, \
         (SELECT data_plane_url FROM agents WHERE agents.id = sessions.agent_id) \
         AS data_plane_url"
    };
}

mod change;
mod closed;
mod due;
mod held;
mod lost;
mod read;

pub use change::{LONGEST_SECONDS, Usage, keep_alive, record_usage, set_labels};
pub use closed::{count_live, in_closed_workspaces, purge};
pub use due::{ENDED_AT_ONCE, delete, ended_before, overdue};
pub use held::{held_by, lock_held_by, pending};
pub use lost::{end_all, free_all};
pub use read::{EventRow, events, page};

from_row!(SessionRow, |row| {
    let reason_code: Option<String> = row.try_get("reason_code")?;
    let agent_id: Option<String> = row.try_get("agent_id")?;
    let profile_id: Option<String> = row.try_get("profile_id")?;
    let tried: String = row.try_get("tried")?;
    let Json(labels) = row.try_get("labels")?;
    Self {
        id: parse(row.try_get("id")?)?,
        workspace_id: parse(row.try_get("workspace_id")?)?,
        region: parse(row.try_get("region")?)?,
        agent_id: parse_opt(agent_id.as_deref())?,
        status: parse(row.try_get("status")?)?,
        reason: parse_opt::<EndReason>(reason_code.as_deref())?
            .map(|code| {
                Ok::<_, sqlx::Error>(Reason { code, message: row.try_get("reason_message")? })
            })
            .transpose()?,
        timeout_seconds: unsigned(row.try_get("timeout_seconds")?)?,
        keep_alive_seconds: unsigned(row.try_get("keep_alive_seconds")?)?,
        viewport: Viewport {
            width: unsigned(row.try_get("viewport_width")?)?,
            height: unsigned(row.try_get("viewport_height")?)?,
        },
        user_agent: row.try_get("user_agent")?,
        proxy_url: row.try_get("proxy_url")?,
        egress: row.try_get::<Option<Json<_>>, _>("egress")?.map(|Json(egress)| egress),
        egress_denied: unsigned(row.try_get("egress_denied")?)?,
        profile_id: parse_opt(profile_id.as_deref())?,
        has_inputs: row.try_get::<i64, _>("has_inputs")? == 1,
        keepalives: unsigned(row.try_get("keepalives")?)?,
        labels,
        traceparent: row.try_get("traceparent")?,
        tried: tried.split_whitespace().map(parse).collect::<sqlx::Result<_>>()?,
        slot_held: row.try_get::<i64, _>("slot_held")? == 1,
        created_us: row.try_get("created_us")?,
        started_us: row.try_get("started_us")?,
        ended_us: row.try_get("ended_us")?,
        expires_us: row.try_get("expires_us")?,
        last_seen_us: row.try_get("last_seen_us")?,
        cdp_messages: unsigned(row.try_get("cdp_messages")?)?,
        bytes_in: unsigned(row.try_get("bytes_in")?)?,
        bytes_out: unsigned(row.try_get("bytes_out")?)?,
        egress_bytes: unsigned(row.try_get("egress_bytes")?)?,
        data_plane_url: row.try_get("data_plane_url")?,
    }
});

const INSERT: &str = concat!(
    "INSERT INTO sessions (id, workspace_id, region, agent_id, status, timeout_seconds, \
     keep_alive_seconds, viewport_width, viewport_height, user_agent, labels, traceparent, \
     slot_held, created_us, expires_us, proxy_url, profile_id, has_inputs, \
     egress) \
     VALUES ($1, $2, $3, $4, 'PROVISIONING', $5, $6, $7, $8, $9, $10, $11, 1, $12, $13, $14, \
     $15, $16, $17) RETURNING ",
    columns!()
);
const INSERT_EVENTS: &str = "INSERT INTO session_events (session_id, seq, status, at_us) \
     VALUES ($1, 1, 'QUEUED', CAST($2 AS BIGINT)), ($1, 2, 'PROVISIONING', CAST($3 AS BIGINT))";

/// Where and for whom a session is recorded, beside what its creator wants.
pub struct Placed<'a> {
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// Where it runs.
    pub region: &'a Region,
    /// Who runs it.
    pub agent: AgentId,
    /// When its creator asked for it, Unix microseconds.
    pub created_us: i64,
    /// The trace that it belongs to; empty: none.
    pub traceparent: &'a str,
}

/// Records a session that has a slot, and its first two events.
pub async fn insert(
    tx: &mut Tx,
    placed: &Placed<'_>,
    new: &NewSession,
) -> sqlx::Result<SessionRow> {
    let now = tx.now_us().await?;
    let id = SessionId::generate().to_string();
    let row = on!(tx, |db| {
        sqlx::query_as::<_, SessionRow>(INSERT)
            .bind(&id)
            .bind(placed.workspace.to_string())
            .bind(placed.region.as_str())
            .bind(placed.agent.to_string())
            .bind(i64::from(new.timeout_seconds))
            .bind(i64::from(new.keep_alive_seconds))
            .bind(i64::from(new.viewport.width))
            .bind(i64::from(new.viewport.height))
            .bind(&new.user_agent)
            .bind(Json(&new.labels))
            .bind(placed.traceparent)
            .bind(placed.created_us)
            .bind(placed.created_us + i64::from(new.timeout_seconds) * 1_000_000)
            .bind(new.proxy.as_ref().map(|proxy| &proxy.url))
            .bind(new.profile_id.map(|profile| profile.to_string()))
            .bind(i64::from(new.has_inputs()))
            .bind(new.egress.as_ref().map(Json))
            .fetch_one(db)
            .await
    })?;
    let events = [id.as_str().into(), placed.created_us.into(), now.into()];
    tx.add(INSERT_EVENTS, events).await?;
    let news = [(SessionStatus::Queued, placed.created_us), (SessionStatus::Provisioning, now)]
        .map(|(status, at_us)| news(status, at_us, None));
    outbox::add_two(tx, row.workspace_id, KIND, &id, news).await?;
    Ok(row)
}

/// Whether what is said came by the agent's newest stream, or by none.
macro_rules! is_current {
    ($agent:literal, $epoch:literal) => {
        concat!(
            "(CAST(",
            $epoch,
            " AS BIGINT) IS NULL OR EXISTS (SELECT 1 FROM agents WHERE agents.id = ",
            $agent,
            " AND agents.epoch = ",
            $epoch,
            "))"
        )
    };
}

const START: &str = concat!(
    "UPDATE sessions SET status = 'RUNNING', started_us = $2 \
     WHERE id = $1 AND agent_id = $3 AND status = 'PROVISIONING' AND ",
    is_current!("$3", "$4"),
    " RETURNING ",
    columns!()
);

/// PROVISIONING to RUNNING. `None` when the session is in another state, or with another agent.
pub async fn start(tx: &mut Tx, id: SessionId, by: Reporter) -> sqlx::Result<Option<SessionRow>> {
    let now = tx.now_us().await?;
    let row: Option<SessionRow> = on!(tx, |db| {
        let start = sqlx::query_as(START).bind(id.to_string()).bind(now);
        start.bind(by.agent.to_string()).bind(epoch(by)).fetch_optional(db).await
    })?;
    if let Some(row) = &row {
        append_event(tx, row, None).await?;
        inputs::drop_unneeded(tx, row).await?;
    }
    Ok(row)
}

const END: &str = concat!(
    "UPDATE sessions SET status = $2, reason_code = $3, reason_message = $4, ended_us = $5 \
     WHERE id = $1 AND status IN ('QUEUED', 'PROVISIONING', 'RUNNING') RETURNING ",
    columns!()
);

/// Any state but a final one to the final state of `reason`. `None` when it is over already:
/// final states never change. The slot stays held.
pub async fn end(
    tx: &mut Tx,
    id: SessionId,
    reason: EndReason,
    detail: Option<&str>,
) -> sqlx::Result<Option<SessionRow>> {
    let now = tx.now_us().await?;
    let status = reason.status();
    let message = message_of(reason, detail.unwrap_or_default());
    let row: Option<SessionRow> = on!(tx, |db| {
        sqlx::query_as(END)
            .bind(id.to_string())
            .bind(status.as_str())
            .bind(reason.as_str())
            .bind(&message)
            .bind(now)
            .fetch_optional(db)
            .await
    })?;
    if let Some(row) = &row {
        append_event(tx, row, Some((reason, &message))).await?;
        inputs::drop_unneeded(tx, row).await?;
    }
    Ok(row)
}

/// What a reason says to people.
fn message_of(reason: EndReason, detail: &str) -> String {
    match detail {
        "" => reason.message().to_owned(),
        detail => format!("{}: {detail}", reason.message()),
    }
}

const APPEND_EVENT: &str = "INSERT INTO session_events \
     (session_id, seq, status, at_us, reason_code, reason_message) \
     SELECT CAST($1 AS TEXT), COALESCE(MAX(seq), 0) + 1, CAST($2 AS TEXT), CAST($3 AS BIGINT), \
     CAST($4 AS TEXT), CAST($5 AS TEXT) FROM session_events WHERE session_id = $1";

/// The event of the state that a row has just come to, or come to again with another agent, and
/// the news of it. Its row must have
/// been changed in the same transaction: that lock keeps `seq` apart.
async fn append_event(
    tx: &mut Tx,
    row: &SessionRow,
    reason: Option<(EndReason, &str)>,
) -> sqlx::Result<()> {
    let now = tx.now_us().await?;
    let binds = [
        row.id.to_string().into(),
        row.status.as_str().into(),
        now.into(),
        reason.map(|(code, _)| code.as_str().to_owned()).into(),
        reason.map(|(_, message)| message.to_owned()).into(),
    ];
    tx.add(APPEND_EVENT, binds).await?;
    let news = news(row.status, now, reason);
    outbox::add(tx, row.workspace_id, KIND, &row.id.to_string(), news).await
}

/// What a transition is to those who are told of it.
const KIND: &str = "session.transition";

fn news(status: SessionStatus, at_us: i64, reason: Option<(EndReason, &str)>) -> Value {
    let reason = reason.map(|(code, message)| json!({ "code": code, "message": message }));
    json!({ "status": status, "at": rfc3339(at_us), "reason": reason })
}

const MOVE: &str = concat!(
    "UPDATE sessions SET agent_id = $2, tried = $3, slot_held = 1 \
     WHERE id = $1 AND status = 'PROVISIONING' RETURNING ",
    columns!()
);

/// Gives a session whose launch failed to another agent. `tried` are all that failed so far,
/// `why` is what became of the last of them: an event of the session tells it.
pub async fn move_to(
    tx: &mut Tx,
    id: SessionId,
    agent: AgentId,
    tried: &[AgentId],
    (reason, detail): (EndReason, &str),
) -> sqlx::Result<Option<SessionRow>> {
    let tried = tried.iter().map(AgentId::to_string).collect::<Vec<_>>().join(" ");
    let row: Option<SessionRow> = on!(tx, |db| {
        sqlx::query_as(MOVE)
            .bind(id.to_string())
            .bind(agent.to_string())
            .bind(&tried)
            .fetch_optional(db)
            .await
    })?;
    if let Some(row) = &row {
        let message = format!("{}; it goes to another agent", message_of(reason, detail));
        append_event(tx, row, Some((reason, &message))).await?;
    }
    Ok(row)
}

const FREE_SLOT: &str = "UPDATE sessions SET slot_held = 0 WHERE id = $1";

/// The browser is gone: the agent has room again.
pub async fn free_slot(tx: &mut Tx, id: SessionId) -> sqlx::Result<()> {
    on!(tx, |db| sqlx::query(FREE_SLOT).bind(id.to_string()).execute(db).await.map(drop))
}

const GET: &str = concat!("SELECT ", columns!(), " FROM sessions WHERE id = $1");

/// One session, whosever it is.
pub async fn get(tx: &mut Tx, id: SessionId) -> sqlx::Result<Option<SessionRow>> {
    on!(tx, |db| sqlx::query_as(GET).bind(id.to_string()).fetch_optional(db).await)
}

const LOCK_SQLITE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM sessions WHERE id = $1 AND agent_id = $2 AND ",
    is_current!("$2", "$3")
);
const LOCK_POSTGRES: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM sessions WHERE id = $1 AND agent_id = $2 AND ",
    is_current!("$2", "$3"),
    " FOR UPDATE OF sessions"
);

/// One session if this agent has it and may speak of it, held against others until the transaction
/// ends.
pub async fn lock_on(tx: &mut Tx, id: SessionId, by: Reporter) -> sqlx::Result<Option<SessionRow>> {
    let lock = dialect!(tx, LOCK_SQLITE, LOCK_POSTGRES);
    on!(tx, |db| {
        let lock = sqlx::query_as(lock).bind(id.to_string()).bind(by.agent.to_string());
        lock.bind(epoch(by)).fetch_optional(db).await
    })
}

fn epoch(by: Reporter) -> Option<i64> {
    by.epoch.map(|epoch| i64::try_from(epoch).unwrap_or(i64::MAX))
}

const LOCK_IN_POSTGRES: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM sessions WHERE id = $1 AND workspace_id = $2 FOR NO KEY UPDATE OF sessions"
);

/// One session of a workspace, held against others until the transaction ends.
pub async fn lock_in(
    tx: &mut Tx,
    workspace: WorkspaceId,
    id: SessionId,
) -> sqlx::Result<Option<SessionRow>> {
    // SQLite has one writer.
    let lock = dialect!(tx, GET_IN, LOCK_IN_POSTGRES);
    on!(tx, |db| {
        let lock = sqlx::query_as(lock).bind(id.to_string()).bind(workspace.to_string());
        lock.fetch_optional(db).await
    })
}

const GET_IN: &str =
    concat!("SELECT ", columns!(), " FROM sessions WHERE id = $1 AND workspace_id = $2");

/// One session of a workspace.
pub async fn get_in(
    tx: &mut Tx,
    workspace: WorkspaceId,
    id: SessionId,
) -> sqlx::Result<Option<SessionRow>> {
    on!(tx, |db| {
        let get = sqlx::query_as(GET_IN).bind(id.to_string()).bind(workspace.to_string());
        get.fetch_optional(db).await
    })
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[
    INSERT,
    INSERT_EVENTS,
    START,
    END,
    APPEND_EVENT,
    MOVE,
    FREE_SLOT,
    GET,
    GET_IN,
    held::HELD_BY,
    held::PENDING,
    change::SET_LABELS,
    change::KEEP_ALIVE,
    change::RECORD_USAGE,
    read::EVENTS,
    closed::COUNT_LIVE,
    closed::PURGE[0],
    closed::PURGE[1],
    closed::PURGE[2],
    closed::PURGE[3],
    closed::PURGE[4],
    closed::PURGE[5],
    closed::PURGE[6],
];
/// The halves of the pairs of one database, 0 for SQLite and 1 for PostgreSQL.
#[cfg(test)]
pub(crate) fn halves(database: usize) -> Vec<&'static str> {
    let locks = [[LOCK_SQLITE, LOCK_POSTGRES], [GET_IN, LOCK_IN_POSTGRES], held::LOCK_HELD_BY];
    let due = [due::OVERDUE, due::ENDED_BEFORE, closed::IN_CLOSED_WORKSPACES];
    let lost = [lost::END_ALL, lost::APPEND_TO_ALL, lost::FREE_ALL];
    let all = locks.iter().chain(&due).chain(&due::DELETE).chain(&lost);
    all.map(|pair| pair[database]).chain(read::page_texts(database)).collect()
}
