//! An agent as the operator of the server sees it.

use proto::{id::AgentId, region::Region};
use serde::Serialize;
use utoipa::ToSchema;

use super::isolation::{Isolation, Layer};
use crate::{
    db::{Tx, from_row, on, parse, unsigned},
    paging::below,
    sessions::object::rfc3339,
};

/// A process that launches browsers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Agent {
    /// Its own over all its restarts.
    id: String,
    region: String,
    #[schema(value_type = AgentStatus)]
    status: String,
    /// Sessions at once.
    #[schema(example = 8)]
    capacity: u32,
    /// Sessions that hold a slot on it.
    #[schema(example = 3)]
    in_use: u32,
    /// Idle browsers, as it last said.
    #[schema(example = 2)]
    warm: u32,
    /// Where CDP clients reach it.
    #[schema(example = "wss://agent-1.eu.example")]
    data_plane_url: String,
    #[schema(example = "Chrome/156.0.7204.49")]
    browser_version: String,
    isolation: Isolation,
    /// Since when its stream to the control plane is open; null while it is not.
    #[schema(format = DateTime)]
    connected_at: Option<String>,
    /// Until when it is sure to live, unless it asks again.
    #[schema(format = DateTime, example = "2026-11-22T12:00:00.000Z")]
    lease_expires_at: String,
    /// Since when nothing new is placed on it, because of a drain or because its process was
    /// told to stop.
    #[schema(format = DateTime)]
    draining_since: Option<String>,
    /// When a drain ends the sessions that are left.
    #[schema(format = DateTime)]
    drain_deadline_at: Option<String>,
}

/// Whether an agent takes sessions. The first that holds, from the bottom.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum AgentStatus {
    /// It does.
    Ready,
    /// It runs those that it has, and gets no new ones.
    Draining,
    /// Its stream is broken. It runs what it has while its lease lasts.
    Disconnected,
    /// Its lease is over, and with it what it ran: it left, or is gone.
    Lost,
}

/// Their names.
pub const STATUSES: [&str; 4] = ["ready", "draining", "disconnected", "lost"];

/// An agent as the store has it. Times are Unix microseconds.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns explain themselves; see the migrations")]
pub struct AgentRow {
    pub id: AgentId,
    pub region: Region,
    pub status: String,
    capacity: u32,
    in_use: u32,
    warm: u32,
    data_plane_url: String,
    browser_version: String,
    isolation: Vec<Layer>,
    /// 0: it has no stream.
    connected_us: i64,
    lease_expires_us: i64,
    draining_since_us: Option<i64>,
    pub drain_deadline_us: Option<i64>,
}

from_row!(AgentRow, |row| {
    let isolation: String = row.try_get("isolation")?;
    Self {
        id: parse(row.try_get("id")?)?,
        region: parse(row.try_get("region")?)?,
        status: row.try_get("status")?,
        capacity: unsigned(row.try_get("capacity")?)?,
        in_use: unsigned(row.try_get("in_use")?)?,
        warm: unsigned(row.try_get("warm")?)?,
        data_plane_url: row.try_get("data_plane_url")?,
        browser_version: row.try_get("browser_version")?,
        isolation: serde_json::from_str(&isolation).map_err(sqlx::Error::decode)?,
        connected_us: row.try_get("connected_us")?,
        lease_expires_us: row.try_get("lease_expires_us")?,
        draining_since_us: row.try_get("draining_since_us")?,
        drain_deadline_us: row.try_get("drain_deadline_us")?,
    }
});

impl From<AgentRow> for Agent {
    fn from(row: AgentRow) -> Self {
        Self {
            id: row.id.to_string(),
            region: row.region.into(),
            status: row.status,
            capacity: row.capacity,
            in_use: row.in_use,
            warm: row.warm,
            data_plane_url: row.data_plane_url,
            browser_version: row.browser_version,
            isolation: Isolation::common([&row.isolation[..]]),
            connected_at: (row.connected_us > 0).then(|| rfc3339(row.connected_us)),
            lease_expires_at: rfc3339(row.lease_expires_us),
            draining_since: row.draining_since_us.map(rfc3339),
            drain_deadline_at: row.drain_deadline_us.map(rfc3339),
        }
    }
}

/// $1 is the time by the database's clock.
macro_rules! agents {
    ($which:literal) => {
        concat!(
            "SELECT * FROM (SELECT id, region, capacity, warm, data_plane_url, browser_version, \
             isolation, connected_us, lease_expires_us, drain_deadline_us, \
             COALESCE(draining_us, leaving_us) AS draining_since_us, in_use, \
             CASE WHEN lease_expires_us <= $1 THEN 'lost' WHEN connected_us = 0 THEN 'disconnected' \
             WHEN draining = 1 THEN 'draining' ELSE 'ready' END AS status \
             FROM agents) AS agent WHERE ",
            $which
        )
    };
}

const GET: &str = agents!("id = $2");

/// One agent.
pub async fn get(tx: &mut Tx, id: AgentId) -> sqlx::Result<Option<AgentRow>> {
    let now = tx.now_us().await?;
    on!(tx, |db| sqlx::query_as(GET).bind(now).bind(id.to_string()).fetch_optional(db).await)
}

// An empty text stands for no filter.
const PAGE: &str = agents!(
    "id < $2 AND ($3 = '' OR region = $3) \
     AND ($4 = '' OR $4 LIKE '%' || status || '%') ORDER BY id DESC LIMIT $5"
);

/// Which agents are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Wanted {
    /// Only here.
    pub region: Option<Region>,
    /// Any of these; none: all.
    pub statuses: Vec<&'static str>,
}

/// At most `limit` agents, the youngest id first, behind the one given.
pub async fn page(
    tx: &mut Tx,
    wanted: &Wanted,
    after: Option<AgentId>,
    limit: i64,
) -> sqlx::Result<Vec<AgentRow>> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        sqlx::query_as(PAGE)
            .bind(now)
            .bind(below(after))
            .bind(wanted.region.as_ref().map(Region::as_str).unwrap_or_default())
            .bind(wanted.statuses.join(" "))
            .bind(limit)
            .fetch_all(db)
            .await
    })
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[GET, PAGE];
