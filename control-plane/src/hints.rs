//! What replicas tell one another, so that nobody waits for their next look at the database:
//! by `NOTIFY`, on connections of their own and never in a transaction that changes data. On
//! SQLite there is one process, and nobody to tell.
//!
//! All of it is only hints. One that is lost, or comes from a newer version and is not
//! understood, costs no more than the time until the next look.

mod post;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use proto::{
    id::{AgentId, SessionId},
    region::Region,
};
use tokio::sync::mpsc;
use ulid::Ulid;

use crate::db::Db;

#[cfg(test)]
pub(crate) use post::POSTGRES_ONLY;
pub use post::run;

/// Hints that may wait to be sent. More than that are dropped.
const PENDING: usize = 4_096;

/// One thing that another replica may want to know at once.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Hint {
    /// A region may have more room.
    Room(Region),
    /// A slot in a region became free.
    Freed(Region),
    /// So many requests wait for a region here.
    Waiting(Region, usize),
    /// A session has changed, or something that was asked of it was answered.
    Session(SessionId),
    /// An agent is to be told what should become of a session.
    Tell(AgentId, SessionId),
    /// An agent is to be told of all that is asked of it.
    Look(AgentId),
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Room(region) => write!(f, "room {region}"),
            Self::Freed(region) => write!(f, "freed {region}"),
            Self::Waiting(region, count) => write!(f, "waiting {region} {count}"),
            Self::Session(id) => write!(f, "session {id}"),
            Self::Tell(agent, id) => write!(f, "tell {agent} {id}"),
            Self::Look(agent) => write!(f, "look {agent}"),
        }
    }
}

impl Hint {
    /// What [`Hint::fmt`] has written; `None` if this version does not understand it.
    fn parse(text: &str) -> Option<Self> {
        let words: Vec<_> = text.split(' ').collect();
        Some(match words.as_slice() {
            ["room", region] => Self::Room(region.parse().ok()?),
            ["freed", region] => Self::Freed(region.parse().ok()?),
            ["waiting", region, count] => Self::Waiting(region.parse().ok()?, count.parse().ok()?),
            ["session", id] => Self::Session(id.parse().ok()?),
            ["tell", agent, id] => Self::Tell(agent.parse().ok()?, id.parse().ok()?),
            ["look", agent] => Self::Look(agent.parse().ok()?),
            _ => return None,
        })
    }
}

/// Where hints for other replicas go. Cheap to clone.
#[derive(Clone, Default)]
pub struct Hints(Option<Arc<Channel>>);

struct Channel {
    /// Tells this replica's hints from those of others.
    replica: String,
    out: mpsc::Sender<Hint>,
    /// Until [`run`] takes it.
    pending: Mutex<Option<mpsc::Receiver<Hint>>>,
}

impl Hints {
    /// For a replica on this database; nothing is told to others on SQLite.
    pub fn on(db: &Db) -> Self {
        let Db::Postgres(_) = db else { return Self::default() };
        let (out, pending) = mpsc::channel(PENDING);
        let replica = Ulid::generate().to_string();
        Self(Some(Arc::new(Channel { replica, out, pending: Mutex::new(Some(pending)) })))
    }

    /// Tells the other replicas, soon.
    pub fn tell(&self, hint: Hint) {
        if let Some(channel) = &self.0 {
            // When there is no room for it, it is one of those that are lost.
            let _ = channel.out.try_send(hint);
        }
    }

    /// The replica's name, and what is to be sent; once, and only where there is anything to
    /// send.
    fn take(&self) -> Option<(String, mpsc::Receiver<Hint>)> {
        let channel = self.0.as_ref()?;
        let pending = channel.pending.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some((channel.replica.clone(), pending))
    }
}
