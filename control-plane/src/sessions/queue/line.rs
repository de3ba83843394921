//! One region's queue at one replica.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use proto::id::WorkspaceId;
use tokio::{sync::Notify, time::Instant};

use super::freed::Freed;

/// How long what another replica told of its queue counts.
const HEARD: Duration = Duration::from_secs(3);

/// Requests that wait. Each is known by what wakes it.
#[derive(Default)]
pub struct Line {
    /// Workspaces whose requests wait, the next to be served first.
    turns: VecDeque<WorkspaceId>,
    waiting: HashMap<WorkspaceId, VecDeque<Arc<Notify>>>,
    length: usize,
    /// Whether looking may help. It stays until the request whose turn it is looks, so no
    /// wake-up is lost on one that is just looking.
    room: bool,
    /// How many wait at other replicas, and when they said so.
    elsewhere: HashMap<String, (usize, Instant)>,
    /// How fast slots become free.
    pub freed: Freed,
}

impl Line {
    /// How many wait here.
    pub fn len(&self) -> usize {
        self.length
    }

    /// How many wait at other replicas.
    pub fn elsewhere(&self) -> usize {
        let recent = self.elsewhere.values().filter(|(_, at)| at.elapsed() < HEARD);
        recent.map(|(length, _)| length).sum()
    }

    /// So many wait at a replica.
    pub fn heard(&mut self, replica: &str, length: usize) {
        self.elsewhere.retain(|_, (_, at)| at.elapsed() < HEARD);
        match length {
            0 => drop(self.elsewhere.remove(replica)),
            _ => drop(self.elsewhere.insert(replica.to_owned(), (length, Instant::now()))),
        }
    }

    /// There may be more room.
    pub fn wake(&mut self) {
        self.room = true;
        if let Some(next) = self.next() {
            next.notify_one();
        }
    }

    /// Whose turn it is.
    fn next(&self) -> Option<&Arc<Notify>> {
        self.waiting.get(self.turns.front()?)?.front()
    }

    fn is_next(&self, request: &Arc<Notify>) -> bool {
        self.next().is_some_and(|next| Arc::ptr_eq(next, request))
    }

    /// Comes last in its workspace; a workspace that comes new goes last of all.
    pub fn join(&mut self, workspace: WorkspaceId, request: &Arc<Notify>, hurries: bool) {
        if self.length == 0 {
            // It may look at once, unless others wait at other replicas.
            self.room = hurries || self.elsewhere() == 0;
        }
        let waiting = self.waiting.entry(workspace).or_default();
        if waiting.is_empty() {
            self.turns.push_back(workspace);
        }
        waiting.push_back(Arc::clone(request));
        self.length += 1;
    }

    /// Whether it is this request's turn to look; then it looks.
    pub fn take_turn(&mut self, request: &Arc<Notify>, is_due: bool) -> bool {
        let may_look = self.is_next(request) && (self.room || is_due);
        self.room &= !may_look;
        may_look
    }

    /// A request of this workspace was served: the next turn is another's.
    pub fn serve(&mut self, workspace: WorkspaceId) {
        self.turns.retain(|other| *other != workspace);
        self.turns.push_back(workspace);
    }

    /// A request waits no more, served or not.
    pub fn leave(&mut self, workspace: WorkspaceId, request: &Arc<Notify>) {
        if let Some(waiting) = self.waiting.get_mut(&workspace) {
            let before = waiting.len();
            waiting.retain(|other| !Arc::ptr_eq(other, request));
            self.length -= before - waiting.len();
            if waiting.is_empty() {
                self.waiting.remove(&workspace);
                self.turns.retain(|other| *other != workspace);
            }
        }
        // Whose turn it is now may not have looked yet, and the one that left may have been
        // woken in vain.
        self.wake();
    }

    /// A request's number: how many are served up to it, if all goes on as it is now. Of each
    /// other replica as many are as here.
    pub fn position(&self, workspace: WorkspaceId, request: &Arc<Notify>) -> usize {
        let own = self.waiting.get(&workspace);
        let place = |own: &VecDeque<_>| own.iter().position(|other| Arc::ptr_eq(other, request));
        let before_own = own.and_then(place).unwrap_or_default();
        let mut is_before = true;
        let mut position = before_own + 1;
        for other in &self.turns {
            if *other == workspace {
                is_before = false;
                continue;
            }
            let theirs = self.waiting.get(other).map_or(0, VecDeque::len);
            position += theirs.min(before_own + usize::from(is_before));
        }
        let recent = self.elsewhere.values().filter(|(_, at)| at.elapsed() < HEARD);
        position + recent.map(|(length, _)| *length.min(&position)).sum::<usize>()
    }
}
