//! What browsers were refused, as their agents tell it: running totals, so that what comes
//! twice or late does no harm.

use proto::{
    agent::{Denial, Denials},
    id::{AgentId, SessionId},
};

use crate::{
    app::App,
    db::{Tx, from_row, on, unsigned},
};

/// Most entries of one session's list. Agents keep as many.
const LISTED_MAX: usize = 100;
/// Longest host name, in bytes.
const HOST_MAX: usize = 255;
/// Longest name of a rule, in bytes.
const RULE_MAX: usize = 64;

/// Connections of a session's browser that were refused alike. Times are Unix microseconds.
#[derive(Debug)]
pub struct DenialRow {
    /// A name or an address.
    pub host: String,
    /// Where on it.
    pub port: u16,
    /// What refused it.
    pub rule: String,
    /// How often.
    pub times: u64,
    /// For the first time.
    pub first_us: i64,
    /// For the last time.
    pub last_us: i64,
}

from_row!(DenialRow, |row| Self {
    host: row.try_get("host")?,
    port: unsigned(row.try_get("port")?)?,
    rule: row.try_get("rule")?,
    times: unsigned(row.try_get("times")?)?,
    first_us: row.try_get("first_us")?,
    last_us: row.try_get("last_us")?,
});

/// Records what an agent says that one of its browsers was refused.
pub async fn denied(app: &App, agent: AgentId, told: Denials) -> sqlx::Result<()> {
    let Ok(id) = told.session_id.parse() else { return Ok(()) };
    let mut tx = app.db.begin().await?;
    if count(&mut tx, id, agent, told.count).await? {
        for denial in told.denials.into_iter().filter(is_sound).take(LISTED_MAX) {
            put(&mut tx, id, &denial).await?;
        }
    }
    tx.commit().await
}

/// An agent is believed, but not anything.
fn is_sound(denial: &Denial) -> bool {
    let is_text =
        |text: &str, max| (1..=max).contains(&text.len()) && !text.chars().any(char::is_control);
    is_text(&denial.host, HOST_MAX)
        && is_text(&denial.rule, RULE_MAX)
        && (1..=u32::from(u16::MAX)).contains(&denial.port)
}

const COUNT: &str = "UPDATE sessions SET \
     egress_denied = CASE WHEN egress_denied < $3 THEN $3 ELSE egress_denied END \
     WHERE id = $1 AND agent_id = $2";

/// False: the agent does not have this session.
async fn count(tx: &mut Tx, id: SessionId, agent: AgentId, count: u64) -> sqlx::Result<bool> {
    on!(tx, |db| {
        sqlx::query(COUNT)
            .bind(id.to_string())
            .bind(agent.to_string())
            .bind(signed(count))
            .execute(db)
            .await
            .map(|done| done.rows_affected() > 0)
    })
}

// Totals only grow, and a full list takes nothing new.
const PUT: &str = "INSERT INTO egress_denials \
     (session_id, host, port, rule, times, first_us, last_us) \
     SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS BIGINT), CAST($4 AS TEXT), \
     CAST($5 AS BIGINT), CAST($6 AS BIGINT), CAST($7 AS BIGINT) \
     WHERE (SELECT COUNT(*) FROM egress_denials WHERE session_id = $1) < CAST($8 AS BIGINT) \
     OR EXISTS (SELECT 1 FROM egress_denials \
     WHERE session_id = $1 AND host = $2 AND port = $3 AND rule = $4) \
     ON CONFLICT (session_id, host, port, rule) DO UPDATE SET \
     times = excluded.times, last_us = excluded.last_us \
     WHERE egress_denials.times < excluded.times";

async fn put(tx: &mut Tx, id: SessionId, denial: &Denial) -> sqlx::Result<()> {
    on!(tx, |db| {
        sqlx::query(PUT)
            .bind(id.to_string())
            .bind(&denial.host)
            .bind(i64::from(denial.port))
            .bind(&denial.rule)
            .bind(signed(denial.count))
            .bind(denial.first_ms.saturating_mul(1000))
            .bind(denial.last_ms.saturating_mul(1000))
            .bind(LISTED_MAX as i64)
            .execute(db)
            .await
            .map(drop)
    })
}

const OF: &str = "SELECT host, port, rule, times, first_us, last_us FROM egress_denials \
     WHERE session_id = $1 ORDER BY last_us DESC, host, port, rule";

/// What a session's browser was refused, the latest first.
pub async fn of(tx: &mut Tx, id: SessionId) -> sqlx::Result<Vec<DenialRow>> {
    on!(tx, |db| sqlx::query_as(OF).bind(id.to_string()).fetch_all(db).await)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[COUNT, PUT, OF];
