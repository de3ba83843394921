//! All SQL on `agents`.

use proto::{
    id::{AgentId, InstanceId},
    region::Region,
};

use super::{LEASE, isolation::Layer};
use crate::{
    db::{Link, Tx, from_row, on, parse, unsigned},
    scheduling::Candidate,
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
    /// What it launches.
    pub browser_version: String,
    /// What confines its browsers.
    pub isolation: Vec<Layer>,
}

/// An agent as it was before it registered again.
#[derive(Clone, Copy, Debug)]
pub struct Former {
    /// The run that registered last.
    pub instance: InstanceId,
    /// Until when that was sure to live, Unix microseconds.
    pub lease_expires_us: i64,
}

from_row!(Former, |row| Self {
    instance: parse(row.try_get("instance")?)?,
    lease_expires_us: row.try_get("lease_expires_us")?,
});

// Changes nothing: on both databases it holds the row and reads it, in one text.
const LOCK: &str = "UPDATE agents SET draining = draining WHERE id = $1 \
     RETURNING instance, lease_expires_us";

/// Holds an agent's row until the transaction ends. `None`: it has never been here.
pub async fn lock(tx: &mut Tx, id: AgentId) -> sqlx::Result<Option<Former>> {
    on!(tx, |db| sqlx::query_as(LOCK).bind(id.to_string()).fetch_optional(db).await)
}

const REGISTER: &str = "INSERT INTO agents (id, region, instance, epoch, capacity, warm, \
     data_plane_url, browser_version, lease_expires_us, connected_us, isolation) \
     VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9, $10) \
     ON CONFLICT (id) DO UPDATE SET region = excluded.region, instance = excluded.instance, \
     epoch = agents.epoch + 1, capacity = excluded.capacity, warm = excluded.warm, \
     data_plane_url = excluded.data_plane_url, browser_version = excluded.browser_version, \
     lease_expires_us = excluded.lease_expires_us, connected_us = excluded.connected_us, \
     isolation = excluded.isolation RETURNING epoch";

/// Records an agent with a stream and a fresh lease; returns the stream's epoch.
pub async fn register(tx: &mut Tx, agent: &Registration) -> sqlx::Result<u64> {
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
            .fetch_one(db)
            .await
    })?;
    unsigned(epoch)
}

const ISOLATIONS: &str = "SELECT DISTINCT region, isolation FROM agents \
     WHERE lease_expires_us > $1 ORDER BY region, isolation";

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
     WHERE id = $1 AND epoch = $2 AND lease_expires_us > $5 RETURNING id";

/// Extends a lease to [`LEASE`] from now. False means that it is lost: it has lapsed, or the
/// agent has a newer stream.
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

const LEFT: &str = "UPDATE agents SET connected_us = 0, warm = 0, lease_expires_us = $3 \
     WHERE id = $1 AND epoch = $2 \
     AND NOT EXISTS (SELECT 1 FROM sessions WHERE agent_id = $1 AND slot_held = 1) RETURNING id";

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

const LAPSED: &str = "SELECT id FROM agents WHERE lease_expires_us <= $1 AND EXISTS \
     (SELECT 1 FROM sessions WHERE agent_id = agents.id AND slot_held = 1)";

/// Agents whose lease has lapsed while they held sessions.
pub async fn lapsed(tx: &mut Tx) -> sqlx::Result<Vec<AgentId>> {
    let now = tx.now_us().await?;
    let ids: Vec<String> = on!(tx, |db| sqlx::query_scalar(LAPSED).bind(now).fetch_all(db).await)?;
    ids.iter().map(|id| parse(id)).collect()
}

const LOCK_LAPSED: &str = "UPDATE agents SET connected_us = 0, warm = 0 \
     WHERE id = $1 AND lease_expires_us <= $2 RETURNING id";

/// Holds a lapsed agent's row until the transaction ends, so that it cannot come back
/// meanwhile. False: it has come back already.
pub async fn lock_lapsed(tx: &mut Tx, id: AgentId) -> sqlx::Result<bool> {
    let now = tx.now_us().await?;
    let locked: Option<String> = on!(tx, |db| {
        sqlx::query_scalar(LOCK_LAPSED).bind(id.to_string()).bind(now).fetch_optional(db).await
    })?;
    Ok(locked.is_some())
}

from_row!(Candidate, |row| Self {
    id: parse(row.try_get("id")?)?,
    capacity: unsigned(row.try_get("capacity")?)?,
    in_use: unsigned(row.try_get("in_use")?)?,
    warm: unsigned(row.try_get("warm")?)?,
});

macro_rules! open {
    () => {
        "region = $1 AND lease_expires_us > $2 AND connected_us > 0 AND draining = 0"
    };
}
macro_rules! in_use {
    () => {
        "(SELECT COUNT(*) FROM sessions WHERE agent_id = agents.id AND slot_held = 1)"
    };
}
const ROOM_SQLITE: &str = concat!(
    "SELECT id, capacity, warm, ",
    in_use!(),
    " AS in_use FROM agents WHERE ",
    open!(),
    " AND capacity > ",
    in_use!(),
);
// A few agents are enough to choose from, and leave others to those who choose meanwhile.
// The lock is the weak one: it does not hold up inserts that refer to the agent.
const LOCK_SOME: &str = concat!(
    "SELECT id FROM agents WHERE ",
    open!(),
    " AND capacity > ",
    in_use!(),
    " ORDER BY warm > 0 DESC, random() LIMIT 8 FOR NO KEY UPDATE SKIP LOCKED",
);
const LOCK_ALL: &str =
    concat!("SELECT id FROM agents WHERE ", open!(), " ORDER BY id FOR NO KEY UPDATE");
const ROOM_POSTGRES: &str = concat!(
    "SELECT id, capacity, warm, ",
    in_use!(),
    " AS in_use FROM agents WHERE id = ANY($1)",
    " AND capacity > ",
    in_use!(),
);

/// Agents of a region with room for another session, held against others until the
/// transaction ends. Empty only when there is no room.
pub async fn lock_with_room(tx: &mut Tx, region: &Region) -> sqlx::Result<Vec<Candidate>> {
    let now = tx.now_us().await?;
    let db = match tx.link() {
        Link::Sqlite(db) => {
            let room = sqlx::query_as(ROOM_SQLITE).bind(region.as_str()).bind(now);
            return room.fetch_all(db).await; // the only writer holds everything anyway
        }
        Link::Postgres(db) => db,
    };
    // If others hold all that have room, wait for them to be done.
    for lock in [LOCK_SOME, LOCK_ALL] {
        let lock = sqlx::query_scalar(lock).bind(region.as_str()).bind(now);
        let locked: Vec<String> = lock.fetch_all(&mut *db).await?;
        // Counted by a statement of its own: one that also waits for the lock would count
        // as of before it had it.
        let room: Vec<Candidate> =
            sqlx::query_as(ROOM_POSTGRES).bind(locked).fetch_all(&mut *db).await?;
        if !room.is_empty() {
            return Ok(room);
        }
    }
    Ok(Vec::new())
}

fn lease_us() -> i64 {
    i64::try_from(LEASE.as_micros()).unwrap_or(i64::MAX)
}

fn signed(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX)
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] =
    &[LOCK, REGISTER, ISOLATIONS, RENEW, DISCONNECTED, LEFT, LAPSED, LOCK_LAPSED];
/// SQLite's half of the pairs.
#[cfg(test)]
pub(crate) const SQLITE_ONLY: &[&str] = &[ROOM_SQLITE];
/// PostgreSQL's half of the pairs.
#[cfg(test)]
pub(crate) const POSTGRES_ONLY: &[&str] = &[LOCK_SOME, LOCK_ALL, ROOM_POSTGRES];
