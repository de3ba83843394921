//! All SQL on `agents`.

use proto::{
    id::{AgentId, InstanceId, JoinTokenId},
    region::Region,
};

use super::{HEARTBEAT, LEASE, isolation::Layer};
use crate::{
    db::{Tx, from_row, on, parse, parse_opt, unsigned},
    retention::{Old, old},
};

/// What an agent says of itself.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Who it is, over its restarts.
    pub id: AgentId,
    /// Which run of it.
    pub instance: InstanceId,
    /// Where it is.
    pub region: Region,
    /// Sessions at once.
    pub capacity: u32,
    /// Idle browsers.
    pub warm: u32,
    /// Where clients reach it.
    pub data_plane_url: String,
    /// Where other agents reach it; empty: there as well.
    pub peer_url: String,
    /// By what they know what it forwards: an Ed25519 public key, or nothing.
    pub forwarding_key: Vec<u8>,
    /// What it launches.
    pub browser_version: String,
    /// What confines its browsers.
    pub isolation: Vec<Layer>,
}

/// An agent as it was before it registered again.
#[derive(Clone, Debug)]
pub struct Former {
    /// Where it is, for good.
    pub region: Region,
    /// The run that registered last.
    pub instance: InstanceId,
    /// Until when that was sure to live, Unix microseconds.
    pub lease_expires_us: i64,
    /// Sessions that hold a slot on it.
    pub in_use: u32,
    /// Whether a replica has its stream, or had it and died.
    is_connected: bool,
}

impl Former {
    /// Whether it has asked for its lease since it should have done so last, on a stream that
    /// no replica knows to be broken.
    pub fn was_just_heard(&self, now_us: i64) -> bool {
        let late = HEARTBEAT + HEARTBEAT / 2;
        let late_us = i64::try_from(late.as_micros()).unwrap_or(i64::MAX);
        self.is_connected && self.lease_expires_us - lease_us() + late_us > now_us
    }
}

from_row!(Former, |row| Self {
    region: parse(row.try_get("region")?)?,
    instance: parse(row.try_get("instance")?)?,
    lease_expires_us: row.try_get("lease_expires_us")?,
    in_use: unsigned(row.try_get("in_use")?)?,
    is_connected: row.try_get::<i64, _>("connected_us")? > 0,
});

// Changes nothing: on both databases it holds the row and reads it, in one text.
const LOCK: &str = "UPDATE agents SET draining = draining WHERE id = $1 \
     RETURNING region, instance, lease_expires_us, in_use, connected_us";

/// Holds an agent's row until the transaction ends. `None`: it has never been here.
pub async fn lock(tx: &mut Tx, id: AgentId) -> sqlx::Result<Option<Former>> {
    on!(tx, |db| sqlx::query_as(LOCK).bind(id.to_string()).fetch_optional(db).await)
}

// That its process was told to stop does not outlive the process.
const REGISTER: &str = "INSERT INTO agents (id, region, instance, epoch, capacity, warm, \
     data_plane_url, browser_version, lease_expires_us, connected_us, isolation, peer_url, \
     forwarding_key, join_token) \
     VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
     ON CONFLICT (id) DO UPDATE SET region = excluded.region, instance = excluded.instance, \
     epoch = agents.epoch + 1, capacity = excluded.capacity, warm = excluded.warm, \
     data_plane_url = excluded.data_plane_url, browser_version = excluded.browser_version, \
     lease_expires_us = excluded.lease_expires_us, connected_us = excluded.connected_us, \
     isolation = excluded.isolation, peer_url = excluded.peer_url, \
     forwarding_key = excluded.forwarding_key, join_token = excluded.join_token, \
     gone_us = NULL, leaving_us = CASE WHEN agents.instance = excluded.instance THEN agents.leaving_us END, \
     draining = CASE WHEN agents.draining_us IS NOT NULL THEN 1 \
     WHEN agents.leaving_us IS NOT NULL AND agents.instance = excluded.instance THEN 1 ELSE 0 END \
     WHERE agents.region = excluded.region OR excluded.join_token IS NULL RETURNING epoch";

/// Records an agent with a stream and a fresh lease; returns the stream's epoch. `None`: it
/// belongs to another region, and no region's token can move it.
pub async fn register(
    tx: &mut Tx,
    agent: &Registration,
    token: Option<JoinTokenId>,
) -> sqlx::Result<Option<u64>> {
    let now = tx.now_us().await?;
    let isolation = serde_json::to_string(&agent.isolation)
        .map_err(|error| sqlx::Error::Encode(error.into()))?;
    let epoch = on!(tx, |db| {
        sqlx::query_scalar::<_, i64>(REGISTER)
            .bind(agent.id.to_string())
            .bind(agent.region.as_str())
            .bind(agent.instance.to_string())
            .bind(i64::from(agent.capacity))
            .bind(i64::from(agent.warm))
            .bind(&agent.data_plane_url)
            .bind(&agent.browser_version)
            .bind(now + lease_us())
            .bind(now)
            .bind(&isolation)
            .bind(&agent.peer_url)
            .bind(&agent.forwarding_key)
            .bind(token.map(|id| id.to_string()))
            .fetch_optional(db)
            .await
    })?;
    epoch.map(unsigned).transpose()
}

const REGION: &str = "SELECT region FROM agents WHERE id = $1";

/// The region of an agent that was here at some time.
pub async fn region_of(tx: &mut Tx, id: AgentId) -> sqlx::Result<Option<Region>> {
    let region: Option<String> =
        on!(tx, |db| sqlx::query_scalar(REGION).bind(id.to_string()).fetch_optional(db).await)?;
    parse_opt(region.as_deref())
}

const ISOLATIONS: &str = "SELECT DISTINCT region, isolation FROM agents \
     WHERE gone_us IS NULL AND lease_expires_us > $1 ORDER BY region, isolation";

/// What confines browsers in each region: what its living agents have, alike ones once.
pub async fn isolations(tx: &mut Tx) -> sqlx::Result<Vec<(Region, Vec<Layer>)>> {
    let now = tx.now_us().await?;
    let rows: Vec<(String, String)> =
        on!(tx, |db| sqlx::query_as(ISOLATIONS).bind(now).fetch_all(db).await)?;
    let read = |(region, layers): (String, String)| {
        let layers = serde_json::from_str(&layers).map_err(sqlx::Error::decode)?;
        Ok((parse(&region)?, layers))
    };
    rows.into_iter().map(read).collect()
}

const RENEW: &str = "UPDATE agents SET lease_expires_us = $3, warm = $4 \
     WHERE id = $1 AND epoch = $2 AND NOT EXISTS \
     (SELECT 1 FROM join_tokens WHERE join_tokens.id = agents.join_token \
     AND (revoked_us IS NOT NULL OR expires_us <= $5)) RETURNING id";

/// Extends a lease to [`LEASE`] from now, also one that has lapsed if nobody has judged it. False
/// means that it is lost: the agent was declared lost, it has a newer stream, or the token that
/// it joined with is no longer good.
pub async fn renew(tx: &mut Tx, id: AgentId, epoch: u64, warm: u32) -> sqlx::Result<bool> {
    let now = tx.now_us().await?;
    let renewed: Option<String> = on!(tx, |db| {
        sqlx::query_scalar(RENEW)
            .bind(id.to_string())
            .bind(signed(epoch))
            .bind(now + lease_us())
            .bind(i64::from(warm))
            .bind(now)
            .fetch_optional(db)
            .await
    })?;
    Ok(renewed.is_some())
}

const DISCONNECTED: &str = "UPDATE agents SET connected_us = 0, warm = 0 \
     WHERE id = $1 AND epoch = $2";

/// The agent's stream broke: it keeps its lease and its sessions, but gets no new ones.
pub async fn disconnected(tx: &mut Tx, id: AgentId, epoch: u64) -> sqlx::Result<()> {
    on!(tx, |db| {
        let query = sqlx::query(DISCONNECTED).bind(id.to_string()).bind(signed(epoch));
        query.execute(db).await.map(drop)
    })
}

const DISCONNECT_ALL_OF: &str =
    "UPDATE agents SET connected_us = 0, warm = 0 WHERE join_token = $1";

/// The agents that joined with a token get no new sessions.
pub async fn disconnect_all_of(tx: &mut Tx, token: JoinTokenId) -> sqlx::Result<()> {
    on!(tx, |db| {
        let query = sqlx::query(DISCONNECT_ALL_OF).bind(token.to_string());
        query.execute(db).await.map(drop)
    })
}

const LEFT: &str = "UPDATE agents SET connected_us = 0, warm = 0, lease_expires_us = $3 \
     WHERE id = $1 AND epoch = $2 AND in_use = 0 RETURNING id";

/// The agent closed its stream: with no session left it has taken its leave, and its lease
/// ends now. False: it still has sessions, or a newer stream.
pub async fn left(tx: &mut Tx, id: AgentId, epoch: u64) -> sqlx::Result<bool> {
    let now = tx.now_us().await?;
    let left: Option<String> = on!(tx, |db| {
        let query = sqlx::query_scalar(LEFT).bind(id.to_string()).bind(signed(epoch)).bind(now);
        query.fetch_optional(db).await
    })?;
    Ok(left.is_some())
}

const LAPSED: &str = "SELECT id FROM agents WHERE gone_us IS NULL AND lease_expires_us <= $1 \
     ORDER BY random() LIMIT 1";

/// One of the agents whose lease has lapsed and that are not [`bury`]ed yet. Any of them:
/// replicas that look together most often find different ones.
pub async fn lapsed(tx: &mut Tx) -> sqlx::Result<Option<AgentId>> {
    let now = tx.now_us().await?;
    let lapsed: Option<String> =
        on!(tx, |db| sqlx::query_scalar(LAPSED).bind(now).fetch_optional(db).await)?;
    parse_opt(lapsed.as_deref())
}

const LOCK_LAPSED: &str = "UPDATE agents SET connected_us = 0, warm = 0, epoch = epoch + 1 \
     WHERE id = $1 AND lease_expires_us <= $2 RETURNING id";

/// Holds an agent's row until the transaction ends, so that it cannot come back meanwhile, and
/// lets nothing count any more that it says before its next hello. False: its lease has not
/// lapsed, or it is back.
pub async fn lock_lapsed(tx: &mut Tx, id: AgentId) -> sqlx::Result<bool> {
    let now = tx.now_us().await?;
    let locked: Option<String> = on!(tx, |db| {
        sqlx::query_scalar(LOCK_LAPSED).bind(id.to_string()).bind(now).fetch_optional(db).await
    })?;
    Ok(locked.is_some())
}

const BURY: &str = "UPDATE agents SET gone_us = $2 \
     WHERE id = $1 AND gone_us IS NULL AND in_use = 0 RETURNING id";

/// Nothing of a lapsed agent is left to be ended: nobody looks at it any more, until it comes
/// back. False: there is something, or that was known. Its row must be held.
pub async fn bury(tx: &mut Tx, id: AgentId) -> sqlx::Result<bool> {
    let now = tx.now_us().await?;
    let buried: Option<String> = on!(tx, |db| {
        sqlx::query_scalar(BURY).bind(id.to_string()).bind(now).fetch_optional(db).await
    })?;
    Ok(buried.is_some())
}

/// How long the row of an agent that is gone is kept, in microseconds: 30 days. Until then a
/// drain of it lasts.
const GONE_KEPT_US: i64 = 30 * 24 * 3_600 * 1_000_000;
/// Agents that have long been gone, and of whose sessions none is left.
pub const OLD: Old = Old {
    texts: old!(
        "agents",
        "gone_us < $1 AND lease_expires_us < $1 \
         AND NOT EXISTS (SELECT 1 FROM sessions WHERE agent_id = agents.id)"
    ),
    kept_us: GONE_KEPT_US,
};

fn lease_us() -> i64 {
    i64::try_from(LEASE.as_micros()).unwrap_or(i64::MAX)
}

fn signed(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX)
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[
    LOCK,
    REGISTER,
    REGION,
    ISOLATIONS,
    RENEW,
    DISCONNECTED,
    DISCONNECT_ALL_OF,
    LEFT,
    LAPSED,
    LOCK_LAPSED,
    BURY,
];
