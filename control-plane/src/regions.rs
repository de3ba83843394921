//! Regions: where agents are. A region exists from the first agent that ever joined from it;
//! the default region always does.

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
    db::{Tx, from_row, on, parse, unsigned},
    error::Error,
    keys::{Caller, Read},
    request::Query,
};

/// A region and its room.
#[derive(Debug, Serialize, ToSchema)]
pub struct RegionRoom {
    #[schema(example = "local")]
    region: String,
    /// Sessions that its agents can run at once.
    #[schema(example = 8)]
    capacity: u64,
    /// Slots taken.
    #[schema(example = 3)]
    in_use: u64,
    /// Idle browsers that wait for a session.
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
    /// Sessions at once, of those agents.
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

const STORED: &str = "SELECT region, CAST(SUM(living) AS BIGINT) AS agents, \
     CAST(SUM(living * capacity) AS BIGINT) AS capacity, \
     CAST(SUM(living * in_use) AS BIGINT) AS in_use, \
     CAST(SUM(living * warm) AS BIGINT) AS warm FROM \
     (SELECT region, capacity, warm, \
     CASE WHEN lease_expires_us > $1 THEN 1 ELSE 0 END AS living, \
     (SELECT COUNT(*) FROM sessions WHERE agent_id = agents.id AND slot_held = 1) AS in_use \
     FROM agents) AS known GROUP BY region ORDER BY region";

/// Every region that an agent has ever served, also when none lives there now.
pub async fn stored(tx: &mut Tx) -> sqlx::Result<Vec<RegionRow>> {
    let now = tx.now_us().await?;
    on!(tx, |db| sqlx::query_as(STORED).bind(now).fetch_all(db).await)
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[STORED];
