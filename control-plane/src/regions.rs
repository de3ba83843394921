//! Regions: where agents are. A region exists from the first agent that ever joined from it;
//! the default region always does.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use proto::{problem::Problem, region::Region};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    agents::{
        self,
        isolation::{Isolation, Layer},
    },
    api::Failure,
    app::App,
    db::{Db, Tx, from_row, on, parse, unsigned},
    error::Error,
    join_tokens,
    keys::{Caller, Read},
    request::Query,
};

/// A region and its room.
#[derive(Debug, Serialize, ToSchema)]
pub struct RegionRoom {
    #[schema(example = "local")]
    region: String,
    /// Sessions that its agents can run at once. Of an agent that is drained, only those that
    /// it still runs.
    #[schema(example = 8)]
    capacity: u64,
    /// Slots taken.
    #[schema(example = 3)]
    in_use: u64,
    /// Idle browsers that wait for a session, on agents that take one.
    #[schema(example = 2)]
    warm: u64,
    /// Whether a session finds room there.
    #[schema(value_type = RegionStatus)]
    status: &'static str,
    isolation: Isolation,
}

/// Whether a session finds room in a region.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum RegionStatus {
    /// A slot is free.
    Available,
    /// Every slot is taken.
    Full,
    /// No agent is connected.
    Offline,
}

/// All regions.
#[derive(Debug, Serialize, ToSchema)]
pub struct Regions {
    items: Vec<RegionRoom>,
}

/// List regions
///
/// Every region of this server with its capacity, and with what isolates its browsers, in
/// alphabetical order.
#[utoipa::path(get, path = "/v1/regions", tag = "regions", operation_id = "listRegions",
    security(("api_key" = ["sessions:read"])),
    responses((status = 200, description = "The regions", body = Regions), Failure))]
pub async fn handler(
    State(app): State<App>,
    _caller: Caller<Read>,
    query: Query,
) -> Result<Json<Regions>, Problem> {
    query.allow_none()?;
    let rows = all(&app).await?;
    let agents = isolations(&app).await?;
    let items = rows.into_iter().map(|row| {
        let there = agents.iter().filter(|(region, _)| *region == row.region);
        let isolation = Isolation::common(there.map(|(_, layers)| &layers[..]));
        RegionRoom::new(row, isolation)
    });
    Ok(Json(Regions { items: items.collect() }))
}

async fn isolations(app: &App) -> Result<Vec<(Region, Vec<Layer>)>, Error> {
    Ok(agents::store::isolations(&mut app.db.read().await?).await?)
}

/// A region as the store has it.
#[derive(Debug)]
pub struct RegionRow {
    /// Its name.
    pub region: Region,
    /// Agents that live.
    pub agents: u64,
    /// Sessions at once, of those agents; of drained ones, what they still run.
    pub capacity: u64,
    /// Sessions that hold a slot on them.
    pub in_use: u64,
    /// Idle browsers.
    pub warm: u64,
}

from_row!(RegionRow, |row| Self {
    region: parse(row.try_get("region")?)?,
    agents: unsigned(row.try_get("agents")?)?,
    capacity: unsigned(row.try_get("capacity")?)?,
    in_use: unsigned(row.try_get("in_use")?)?,
    warm: unsigned(row.try_get("warm")?)?,
});

impl RegionRoom {
    fn new(row: RegionRow, isolation: Isolation) -> Self {
        let status = match &row {
            row if row.agents == 0 => "offline",
            row if row.in_use >= row.capacity => "full",
            _ => "available",
        };
        Self {
            region: row.region.into(),
            capacity: row.capacity,
            in_use: row.in_use,
            warm: row.warm,
            status,
            isolation,
        }
    }
}

/// Every region, by name.
pub async fn all(app: &App) -> Result<Vec<RegionRow>, Error> {
    let mut regions = stored(&mut app.db.read().await?).await?;
    let default = &app.config.default_region;
    if let Err(place) = regions.binary_search_by(|row| row.region.cmp(default)) {
        let region = default.clone();
        regions.insert(place, RegionRow { region, agents: 0, capacity: 0, in_use: 0, warm: 0 });
    }
    Ok(regions)
}

/// Every region for the server's operator, by name, with how many good join tokens it has: also
/// one that has only those as yet.
pub async fn for_operator(db: &Db) -> sqlx::Result<Vec<(RegionRow, u64)>> {
    let mut tx = db.read().await?;
    let mut regions: BTreeMap<_, _> =
        stored(&mut tx).await?.into_iter().map(|row| (row.region.clone(), (row, 0))).collect();
    for (region, tokens) in join_tokens::store::good_by_region(&mut tx).await? {
        let none = RegionRow { region: region.clone(), agents: 0, capacity: 0, in_use: 0, warm: 0 };
        regions.entry(region).or_insert((none, 0)).1 = tokens;
    }
    Ok(regions.into_values().collect())
}

const STORED: &str = "SELECT region, CAST(SUM(living) AS BIGINT) AS agents, \
     CAST(SUM(living * CASE draining WHEN 1 THEN in_use ELSE capacity END) AS BIGINT) AS capacity, \
     CAST(SUM(living * in_use) AS BIGINT) AS in_use, \
     CAST(SUM(living * (1 - draining) * warm) AS BIGINT) AS warm FROM \
     (SELECT region, capacity, warm, draining, in_use, \
     CASE WHEN lease_expires_us > $1 THEN 1 ELSE 0 END AS living FROM agents) AS known GROUP BY region ORDER BY region";

/// Every region that an agent has ever served, also when none lives there now.
pub async fn stored(tx: &mut Tx) -> sqlx::Result<Vec<RegionRow>> {
    let now = tx.now_us().await?;
    on!(tx, |db| sqlx::query_as(STORED).bind(now).fetch_all(db).await)
}

const NAMES: &str = "SELECT DISTINCT region FROM agents ORDER BY region";

/// The names of those, in alphabetical order.
pub async fn names(tx: &mut Tx) -> sqlx::Result<Vec<Region>> {
    let names: Vec<String> = on!(tx, |db| sqlx::query_scalar(NAMES).fetch_all(db).await)?;
    names.iter().map(|name| parse(name)).collect()
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[STORED, NAMES];
