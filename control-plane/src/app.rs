//! What every handler and task of a replica shares.

use std::{ops::Deref, sync::Arc};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    agents::{deletion_cost::Costs, hub::Hub, lost::Watch},
    config::Config,
    db::Db,
    hints::Hints,
    mail::Mailer,
    metrics::Metrics,
    profiles::objects::Objects,
    rate_limits::RateLimits,
    secrets::Secrets,
    sessions::{changes::Changes, idempotency::Turns, queue::Queue},
    sign_in::link::Desk,
    signing::Signer,
};

/// One replica. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of an [`App`].
pub struct Parts {
    /// The store.
    pub db: Db,
    /// What the replica was started with.
    pub config: Config,
    /// Made from the master key.
    pub secrets: Secrets,
    /// Where large contents are.
    pub objects: Objects,
    /// Signs connect tokens.
    pub signer: Signer,
    /// The agents whose streams end here.
    pub hub: Hub,
    /// Of the pods of those agents.
    pub costs: Costs,
    /// Since when leases can be judged here.
    pub watch: Watch,
    /// Tells other replicas.
    pub hints: Hints,
    /// Wakes those who wait for a session to change.
    pub changes: Changes,
    /// What happened here, and what was seen of the fleet.
    pub metrics: Metrics,
    /// Requests of each API key.
    pub rate_limits: RateLimits,
    /// Requests that wait for a slot.
    pub queue: Queue,
    /// Creates with the same idempotency key, one after the other.
    pub turns: Turns,
    /// Sends mails.
    pub mailer: Mailer,
    /// People who wait for a link to sign in with.
    pub desk: Desk,
    /// Cancelled when requests are not to wait here any longer, and when the replica stops.
    pub closing: CancellationToken,
    /// Cancelled when the replica is to stop.
    pub stop: CancellationToken,
    /// Every task of the replica, so that stopping can wait for them.
    pub tasks: TaskTracker,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
