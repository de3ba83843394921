//! What a replica knows of all agents: a look at the database, once for all. Its streams tell
//! their agents of each other and of their drains; placement asks those first that had room; a
//! cluster's scale-down may be told which are idle.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use proto::{
    agent::{Peer, Peers},
    id::AgentId,
    region::Region,
};

use crate::{
    app::App,
    db::{Tx, from_row, on, parse, unsigned},
    metrics::Room,
    scheduling::Open,
};

/// How often to look: how much later than others an agent learns of a new one.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The longest that an agent hears nothing of a new one, however many there are.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The agents that live, by region, as last seen.
#[derive(Default)]
pub(super) struct Roster(RwLock<HashMap<Region, Known>>);

/// What is known of one region.
struct Known {
    /// All of it, as agents are told. It keeps its `Arc` while nothing changes, and for a
    /// [`pause`] after a change.
    peers: Arc<Peers>,
    changed: Instant,
    /// Those that had room for a session.
    open: Open,
}

impl Known {
    fn new(peers: Peers, open: Open, former: Option<&Self>, now: Instant) -> Self {
        let keeps = |former: &&Self| {
            *former.peers == peers || now - former.changed < pause(peers.peers.len())
        };
        match former.filter(keeps) {
            Some(former) => {
                Self { peers: Arc::clone(&former.peers), changed: former.changed, open }
            }
            None => Self { peers: Arc::new(peers), changed: now, open },
        }
    }
}

/// How long agents are told nothing new of each other after they were, where there are so many:
/// all of them are told of all, which while a region starts would be much in each second.
fn pause(agents: usize) -> Duration {
    Duration::from_secs(agents as u64 / 20).min(LONGEST_PAUSE)
}

impl Roster {
    /// Those of a region; `None` before the first look.
    pub fn of(&self, region: &Region) -> Option<Arc<Peers>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(region).map(|known| Arc::clone(&known.peers))
    }

    /// Which of a region are to be asked for a slot first; none before the first look.
    pub fn shortlist(&self, region: &Region, but: &[AgentId]) -> Vec<AgentId> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // Without chance all ask the same ones, which does no harm.
        let chance = getrandom::u32().unwrap_or_default();
        known.get(region).map_or_else(Vec::new, |known| known.open.shortlist(but, chance))
    }

    fn replace(&self, seen: HashMap<Region, (Vec<Peer>, Open)>, now: Instant) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let news = seen.into_iter().map(|(region, (peers, open))| {
            let news = Known::new(Peers { peers }, open, known.get(&region), now);
            (region, news)
        });
        *known = news.collect();
    }
}

/// Looks once, and tells the streams of this replica what is new to them.
pub async fn look(app: &App) -> sqlx::Result<()> {
    let mut tx = app.db.read().await?;
    let now_us = tx.now_us().await?;
    let living = living(&mut tx, now_us).await?;
    drop(tx);
    let mut regions = HashMap::<Region, (Vec<Peer>, Open)>::new();
    let (mut drains, mut in_use) = (HashMap::new(), HashMap::new());
    let mut rooms = HashMap::<Region, Room>::new();
    for agent in living {
        drains.insert(agent.id, agent.drain_deadline_us);
        in_use.insert(agent.id, agent.in_use);
        agent.count(rooms.entry(agent.region.clone()).or_default());
        let (peers, open) = regions.entry(agent.region).or_default();
        peers.push(agent.peer);
        if agent.is_open {
            open.add(agent.id, agent.is_warm);
        }
    }
    app.metrics.saw(rooms);
    app.hub.roster().replace(regions, Instant::now());
    app.hub.tell_all(&drains, now_us);
    app.costs.saw(&app.hub, &in_use);
    Ok(())
}

struct Living {
    id: AgentId,
    region: Region,
    peer: Peer,
    drain_deadline_us: Option<i64>,
    is_open: bool,
    is_warm: bool,
    is_connected: bool,
    is_drained: bool,
    capacity: u64,
    in_use: u64,
}

impl Living {
    /// Adds it to what is known of its region.
    fn count(&self, room: &mut Room) {
        match self {
            Self { is_connected: false, .. } => room.disconnected += 1,
            Self { is_drained: true, .. } => room.draining += 1,
            _ => room.ready += 1,
        }
        room.slots += if self.is_drained { self.in_use } else { self.capacity };
        room.used += self.in_use;
    }
}

from_row!(Living, |row| {
    let id: String = row.try_get("id")?;
    Self {
        id: parse(&id)?,
        region: parse(row.try_get("region")?)?,
        peer: Peer {
            agent_id: id,
            data_plane_url: row.try_get("url")?,
            forwarding_key: row.try_get("forwarding_key")?,
        },
        drain_deadline_us: row.try_get("drain_deadline_us")?,
        is_open: row.try_get("is_open")?,
        is_warm: row.try_get::<i64, _>("warm")? > 0,
        is_connected: row.try_get::<i64, _>("connected_us")? > 0,
        is_drained: row.try_get::<i64, _>("draining")? == 1,
        capacity: unsigned(row.try_get("capacity")?)?,
        in_use: unsigned(row.try_get("in_use")?)?,
    }
});

const LIVING: &str = "SELECT id, region, forwarding_key, drain_deadline_us, warm, connected_us, draining, \
     capacity, in_use, \
     connected_us > 0 AND draining = 0 AND in_use < capacity AS is_open, \
     CASE peer_url WHEN '' THEN data_plane_url ELSE peer_url END AS url \
     FROM agents WHERE gone_us IS NULL AND lease_expires_us > $1 ORDER BY id";

async fn living(tx: &mut Tx, now_us: i64) -> sqlx::Result<Vec<Living>> {
    on!(tx, |db| sqlx::query_as(LIVING).bind(now_us).fetch_all(db).await)
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[LIVING];

#[cfg(test)]
mod tests {
    use super::*;

    /// How many lists, and how many peers in all, a region's agents are told while so many come,
    /// some before each look.
    fn told(agents: usize, each_look: usize) -> (usize, usize) {
        let (region, begin) = ("eu".parse::<Region>().unwrap(), Instant::now());
        let roster = Roster::default();
        let (mut lists, mut peers_told) = (0, 0);
        let mut known: Option<Arc<Peers>> = None;
        let peer = |n: usize| Peer { agent_id: n.to_string(), ..Peer::default() };
        // A while longer: the last ones come to be known too.
        for look in 1..=agents / each_look + 30 {
            let peers = (0..(look * each_look).min(agents)).map(peer).collect();
            let seen = HashMap::from([(region.clone(), (peers, Open::default()))]);
            roster.replace(seen, begin + LOOK_EVERY * look as u32);
            let news = roster
                .of(&region)
                .filter(|news| known.as_ref().is_none_or(|known| !Arc::ptr_eq(known, news)));
            if let Some(news) = &news {
                lists += 1;
                peers_told += news.peers.len() * news.peers.len();
            }
            known = news.or(known);
        }
        assert_eq!(known.unwrap().peers.len(), agents);
        (lists, peers_told)
    }

    #[test]
    fn few_agents_hear_at_once_and_many_less_often() {
        assert_eq!(told(19, 1).0, 19, "each time that one comes");
        // In ten looks, and in fifty; beside what it would be to tell all each time.
        for (agents, each_look, less) in [(200_usize, 20_usize, 3), (1_000, 100, 3), (1_000, 20, 7)]
        {
            let each_time: usize =
                (1..=agents / each_look).map(|look| (look * each_look).pow(2)).sum();
            let (lists, peers) = told(agents, each_look);
            assert!(lists < 10 && peers * less < each_time, "{agents}: {lists} lists, {peers}");
        }
    }
}
