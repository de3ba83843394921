//! Which agent gets the next session. An agent with room is held from the choice until the
//! session is recorded: that takes the slot, as the database counts `agents.in_use` with the
//! rows of `sessions` (migration 0081). So no agent ever has more sessions than slots.
//!
//! The cost does not grow with the agents. A few that had room when this replica last looked
//! are asked first, and the best of those that nobody holds gets the session; only when none
//! has room all of the region are asked.
//!
//! Rows are locked in one order everywhere, so that nobody waits in a circle: a workspace, then
//! sessions, then agents, and whoever holds an agent waits for no other. A session that moves
//! gives up its slot before it looks for another one, and leaves alone those that are held.

use proto::{id::AgentId, region::Region};
use sqlx::types::Json;

use crate::db::{Link, Tx, dialect, on, parse_opt};

/// Where a session may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// To this agent, which is held against others until the transaction ends.
    On(AgentId),
    /// All agents with room are held by others; this is any of them.
    Contended(AgentId),
    /// No agent has room.
    None,
}

// $1 is the region, $2 now.
macro_rules! open {
    () => {
        "region = $1 AND gone_us IS NULL AND lease_expires_us > $2 AND connected_us > 0 \
         AND draining = 0 AND in_use < capacity"
    };
}
/// The best of some: one with a warm browser, then that with the greatest free share, then
/// that with the most room. The lock is the weak one: inserts that refer to the agent go on.
macro_rules! best {
    ($which:literal, $lock:literal) => {
        concat!(
            "SELECT id FROM agents WHERE ",
            open!(),
            " AND id ",
            $which,
            " ORDER BY warm > 0 DESC, CAST(capacity - in_use AS DOUBLE PRECISION) / capacity DESC, \
             capacity - in_use DESC, id LIMIT 1",
            $lock
        )
    };
}
/// Of those in `$3`, and of all but those.
type Best = [&'static str; 2];
// The only writer holds everything anyway.
const SQLITE: Best = [
    best!("IN (SELECT value FROM json_each($3))", ""),
    best!("NOT IN (SELECT value FROM json_each($3))", ""),
];
const POSTGRES: Best = [
    best!("= ANY(ARRAY(SELECT jsonb_array_elements_text($3)))", " FOR NO KEY UPDATE SKIP LOCKED"),
    best!("<> ALL(ARRAY(SELECT jsonb_array_elements_text($3)))", " FOR NO KEY UPDATE SKIP LOCKED"),
];

/// Holds the best agent of a region that has room and is held by nobody: of the `shortlist` if
/// it can be, else of all but some. Waits for nobody.
pub async fn hold(
    tx: &mut Tx,
    region: &Region,
    shortlist: &[AgentId],
    but: &[AgentId],
) -> sqlx::Result<Slot> {
    let [of, all_but] = dialect!(tx, SQLITE, POSTGRES);
    if !shortlist.is_empty()
        && let Some(agent) = best(tx, of, region, shortlist).await?
    {
        return Ok(Slot::On(agent));
    }
    if let Some(agent) = best(tx, all_but, region, but).await? {
        return Ok(Slot::On(agent));
    }
    Ok(any(tx, region, but).await?.map_or(Slot::None, Slot::Contended))
}

async fn best(
    tx: &mut Tx,
    text: &'static str,
    region: &Region,
    agents: &[AgentId],
) -> sqlx::Result<Option<AgentId>> {
    let now = tx.now_us().await?;
    let agents: Vec<String> = agents.iter().map(AgentId::to_string).collect();
    let best: Option<String> = on!(tx, |db| {
        let best = sqlx::query_scalar(text).bind(region.as_str()).bind(now).bind(Json(agents));
        best.fetch_optional(db).await
    })?;
    parse_opt(best.as_deref())
}

const ANY: &str = concat!(
    "SELECT id FROM agents WHERE ",
    open!(),
    " AND id <> ALL(ARRAY(SELECT jsonb_array_elements_text($3))) ORDER BY random() LIMIT 1",
);

/// Any agent with room, held or not.
async fn any(tx: &mut Tx, region: &Region, but: &[AgentId]) -> sqlx::Result<Option<AgentId>> {
    match tx.link() {
        Link::Sqlite(_) => Ok(None),
        Link::Postgres(_) => best(tx, ANY, region, but).await,
    }
}

const WAIT_FOR: &str =
    concat!("SELECT id FROM agents WHERE id = $3 AND ", open!(), " FOR NO KEY UPDATE");

/// Waits until others let go of an agent, and holds it if it still has room. If not, the
/// transaction must not wait for another: it holds the row all the same.
pub async fn wait_for(tx: &mut Tx, region: &Region, agent: AgentId) -> sqlx::Result<bool> {
    let now = tx.now_us().await?;
    let Link::Postgres(db) = tx.link() else { return Ok(false) };
    let held = sqlx::query_scalar(WAIT_FOR).bind(region.as_str()).bind(now).bind(agent.to_string());
    let held: Option<String> = held.fetch_optional(db).await?;
    Ok(held.is_some())
}

/// The SQL of this module for one of the databases, 0 for SQLite and 1 for PostgreSQL, for the
/// test that prepares every text.
#[cfg(test)]
pub(crate) fn texts(database: usize) -> Vec<&'static str> {
    match database {
        0 => SQLITE.to_vec(),
        _ => [&POSTGRES[..], &[ANY, WAIT_FOR]].concat(),
    }
}
