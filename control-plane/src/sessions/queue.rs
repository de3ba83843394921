//! Requests that wait for a slot, in the regions that they may run in.
//!
//! In each region workspaces take turns, and a workspace's requests go first come, first
//! served: one that asks for much does not keep the others waiting. Only the request whose turn
//! it is tries to get a slot: when a slot became free, and now and then by itself. A request
//! that is dropped leaves its queues, wherever in them it stands.
//!
//! Each replica has a queue of its own, and nothing of it is stored: a create costs no more
//! for it while nobody waits. Replicas whose requests wait for one region compete for its slots
//! as equals, so no workspace that waits at any of them starves. They tell one another how many
//! wait, so that nobody who comes new at one replica is served before those who wait at another
//! have had the chance to be.

mod freed;
mod line;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use proto::{id::WorkspaceId, region::Region};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::hints::{Hint, Hints};
use line::Line;

/// Most requests that may wait for one region.
pub const LONGEST: usize = 1000;
/// How often the request whose turn it is looks without having been woken.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The queues of all regions.
#[derive(Clone, Default)]
pub struct Queue {
    lines: Arc<Mutex<Lines>>,
    hints: Hints,
}

#[derive(Default)]
struct Lines {
    of: HashMap<Region, Line>,
}

impl Lines {
    fn line(&mut self, region: &Region) -> &mut Line {
        if !self.of.contains_key(region) {
            self.of.insert(region.clone(), Line::default());
        }
        self.of.entry(region.clone()).or_default()
    }
}

impl Queue {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that tells other replicas.
    pub fn new(hints: Hints) -> Self {
        Self { hints, ..Self::default() }
    }

    /// Whether anybody waits for a region, here or at another replica.
    pub fn is_waiting(&self, region: &Region) -> bool {
        self.lines().of.get(region).is_some_and(|line| line.len() + line.elsewhere() > 0)
    }

    /// How many wait for a region here.
    pub fn len(&self, region: &Region) -> usize {
        self.lines().of.get(region).map_or(0, Line::len)
    }

    /// How many wait here, for each region for which any do.
    pub fn lengths(&self) -> BTreeMap<Region, usize> {
        let lines = self.lines();
        let lengths = lines.of.iter().map(|(region, line)| (region.clone(), line.len()));
        lengths.filter(|(_, length)| *length > 0).collect()
    }

    /// Another replica has told how many wait there.
    pub fn heard(&self, replica: &str, region: &Region, length: usize) {
        self.lines().line(region).heard(replica, length);
    }

    /// Says that a region may have more room.
    pub fn wake(&self, region: &Region) {
        self.hints.tell(Hint::Room(region.clone()));
        self.woken(region);
    }

    /// [`Queue::wake`], at another replica.
    pub fn woken(&self, region: &Region) {
        if let Some(line) = self.lines().of.get_mut(region) {
            line.wake();
        }
    }

    /// Says that a slot became free.
    pub fn freed(&self, region: &Region) {
        self.hints.tell(Hint::Freed(region.clone()));
        self.freed_elsewhere(region);
    }

    /// [`Queue::freed`], at another replica.
    pub fn freed_elsewhere(&self, region: &Region) {
        let mut lines = self.lines();
        let line = lines.line(region);
        line.freed.count(Instant::now());
        line.wake();
    }

    /// Takes the last place in the queues of these regions, or none when all are too long. A
    /// request that `hurries` looks at once, also before those who wait at other replicas.
    pub fn join(&self, regions: &[Region], workspace: WorkspaceId, hurries: bool) -> Option<Place> {
        let mut lines = self.lines();
        let mut regions = regions.to_vec();
        regions.retain(|region| {
            let line = lines.line(region);
            line.len() + line.elsewhere() < LONGEST
        });
        if regions.is_empty() {
            return None;
        }
        let woken = Arc::new(Notify::new());
        for region in &regions {
            lines.line(region).join(workspace, &woken, hurries);
        }
        Some(Place { queue: self.clone(), regions, workspace, woken })
    }

    /// How soon a slot in a region may be there for one more who comes now, in seconds.
    pub fn estimate(&self, regions: &[Region]) -> u32 {
        let mut lines = self.lines();
        let now = Instant::now();
        let estimates = regions.iter().map(|region| {
            let line = lines.line(region);
            let position = line.len() + line.elsewhere() + 1;
            line.freed.estimate(now, position)
        });
        estimates.min().unwrap_or(freed::LONGEST_SECONDS)
    }
}

/// Where a request stands in the queue in which it stands best.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Its number: 1 is the next to be served.
    pub position: usize,
    /// How many wait, itself included.
    pub waiting: usize,
    /// In how many seconds its turn may come, 1 to 60.
    pub estimate_seconds: u32,
}

/// A place in queues, given up when dropped.
pub struct Place {
    queue: Queue,
    /// As the request prefers them.
    regions: Vec<Region>,
    workspace: WorkspaceId,
    woken: Arc<Notify>,
}

impl Place {
    /// Waits until it is this request's turn in some regions and looking there may help. The
    /// wait counts from the call. Cancel-safe.
    pub fn turn(&self) -> impl Future<Output = Vec<Region>> {
        let look = Instant::now() + LOOK_EVERY;
        async move {
            loop {
                let is_due = Instant::now() >= look;
                let turns = self.turns(is_due);
                if !turns.is_empty() {
                    return turns;
                }
                let left = if is_due { LOOK_EVERY } else { look - Instant::now() };
                // Running into the limit is one of the two reasons to look again.
                let _ = timeout(left, self.woken.notified()).await;
            }
        }
    }

    /// The regions in which it is this request's turn and there may be room; if it `is_due`
    /// to look without a reason, all in which it is its turn.
    fn turns(&self, is_due: bool) -> Vec<Region> {
        let mut lines = self.queue.lines();
        let mut turns = self.regions.clone();
        turns.retain(|region| {
            lines.of.get_mut(region).is_some_and(|line| line.take_turn(&self.woken, is_due))
        });
        turns
    }

    /// The request has got a slot in this region: there its workspace goes to the end.
    pub fn served(self, region: &Region) {
        if let Some(line) = self.queue.lines().of.get_mut(region) {
            line.serve(self.workspace);
        }
    }

    /// Where it stands.
    pub fn standing(&self) -> Standing {
        let mut lines = self.queue.lines();
        let now = Instant::now();
        let all = self.regions.iter().map(|region| {
            let line = lines.line(region);
            let position = line.position(self.workspace, &self.woken);
            let waiting = line.len() + line.elsewhere();
            let estimate_seconds = line.freed.estimate(now, position);
            Standing { position, waiting, estimate_seconds }
        });
        all.min_by_key(|standing| (standing.estimate_seconds, standing.position)).unwrap_or(
            Standing { position: 1, waiting: 1, estimate_seconds: freed::LONGEST_SECONDS },
        )
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.queue.lines();
        for region in &self.regions {
            if let Some(line) = lines.of.get_mut(region) {
                line.leave(self.workspace, &self.woken);
            }
        }
    }
}
