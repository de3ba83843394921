//! What a replica last saw in the database.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::{encoding::DescriptorEncoder, metrics::MetricType};
use proto::{region::Region, session::SessionStatus};

use crate::{
    app::App,
    db::{Tx, from_row, on, parse, unsigned},
};

/// How often sessions are counted. Agents and slots are seen with the roster, each second.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The states that a session may be in while it is not over.
const LIVE: [SessionStatus; 3] =
    [SessionStatus::Queued, SessionStatus::Provisioning, SessionStatus::Running];

/// The agents of one region, and their room.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Room {
    /// Agents that take sessions.
    pub ready: u64,
    /// Agents that run what they have.
    pub draining: u64,
    /// Agents whose stream is broken and whose lease lasts.
    pub disconnected: u64,
    /// Sessions at once; of agents that are drained, what they still run.
    pub slots: u64,
    /// Slots that a session holds.
    pub used: u64,
}

/// What was last seen. A region that was once seen stays, with nothing in it.
#[derive(Default, Debug)]
pub(super) struct Seen(Mutex<BTreeMap<Region, (Room, Sessions)>>);

/// Sessions by the places of [`LIVE`].
type Sessions = [u64; LIVE.len()];

impl Seen {
    fn regions(&self) -> MutexGuard<'_, BTreeMap<Region, (Room, Sessions)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are all agents there are.
    pub fn agents(&self, rooms: HashMap<Region, Room>) {
        let mut regions = self.regions();
        regions.values_mut().for_each(|(room, _)| *room = Room::default());
        for (region, seen) in rooms {
            regions.entry(region).or_default().0 = seen;
        }
    }

    /// These are all sessions that are not over.
    fn sessions(&self, counted: Vec<Counted>) {
        let mut regions = self.regions();
        regions.values_mut().for_each(|(_, sessions)| *sessions = Sessions::default());
        for Counted { region, status, count } in counted {
            if let Some(place) = LIVE.iter().position(|live| *live == status) {
                regions.entry(region).or_default().1[place] = count;
            }
        }
    }

    /// The regions that are known.
    pub fn names(&self) -> Vec<Region> {
        self.regions().keys().cloned().collect()
    }

    pub fn encode(&self, page: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let regions = self.regions().clone();
        let help = "Sessions that are not over, as last seen in the store.";
        let mut series =
            page.encode_descriptor("ventus_sessions", help, None, MetricType::Gauge)?;
        for (region, (_, sessions)) in &regions {
            for (status, count) in LIVE.iter().zip(sessions) {
                let state = status.as_str().to_ascii_lowercase();
                series
                    .encode_family(&[("region", region.as_str()), ("state", &state)])?
                    .encode_gauge(count)?;
            }
        }
        let help = "Agents that live, as last seen in the store.";
        let mut series = page.encode_descriptor("ventus_agents", help, None, MetricType::Gauge)?;
        for (region, (room, _)) in &regions {
            let states = [
                ("disconnected", room.disconnected),
                ("draining", room.draining),
                ("ready", room.ready),
            ];
            for (state, count) in states {
                series
                    .encode_family(&[("region", region.as_str()), ("state", state)])?
                    .encode_gauge(&count)?;
            }
        }
        let help = "Sessions that there can be at once, as last seen in the store.";
        let mut series = page.encode_descriptor("ventus_slots", help, None, MetricType::Gauge)?;
        for (region, (room, _)) in &regions {
            series.encode_family(&[("region", region.as_str())])?.encode_gauge(&room.slots)?;
        }
        let help = "Slots that a session holds, as last seen in the store.";
        let mut series =
            page.encode_descriptor("ventus_slots_used", help, None, MetricType::Gauge)?;
        for (region, (room, _)) in &regions {
            series.encode_family(&[("region", region.as_str())])?.encode_gauge(&room.used)?;
        }
        Ok(())
    }
}

/// Counts the sessions that are not over.
pub async fn look(app: &App) -> sqlx::Result<()> {
    let counted = count(&mut app.db.read().await?).await?;
    app.metrics.seen.sessions(counted);
    Ok(())
}

struct Counted {
    region: Region,
    status: SessionStatus,
    count: u64,
}

from_row!(Counted, |row| Self {
    region: parse(row.try_get("region")?)?,
    status: parse(row.try_get("status")?)?,
    count: unsigned(row.try_get("sessions")?)?,
});

const COUNT: &str = "SELECT region, status, COUNT(*) AS sessions FROM sessions \
     WHERE status IN ('QUEUED', 'PROVISIONING', 'RUNNING') GROUP BY region, status";

async fn count(tx: &mut Tx) -> sqlx::Result<Vec<Counted>> {
    on!(tx, |db| sqlx::query_as(COUNT).fetch_all(db).await)
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[COUNT];
