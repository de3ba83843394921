//! Tells Kubernetes which agents are idle, so that scale-down takes those first.
//!
//! On the pod of each agent whose stream ends here stands how many of its slots are in use, as
//! `controller.kubernetes.io/pod-deletion-cost`. Of the pods that are ready a ReplicaSet takes
//! those with the lowest cost first (Kubernetes' page on ReplicaSets). A drained agent counts as
//! any other: its pod is not ready, and so goes before all that are.
//!
//! It is a hint only, which Kubernetes heeds as well as it can, and an agent that is taken all the
//! same lets its sessions end first. So nothing waits for what is written here, and what could not
//! be is tried again later. Kubernetes asks for few writes: a pod's cost is written when it has
//! changed, not more often than autoscalers decide, and by one replica not faster than its own
//! clients do ([`PAUSE`], [`AT_ONCE`]).
//!
//! An agent says itself which pod is its own, with name and uid. The namespace is always the
//! control plane's, so that no agent reaches another; and a patch with the uid of another pod than
//! the named one is refused by Kubernetes, whose own controllers rely on that. So an agent can have
//! its own pod marked, and only such others as it knows the uid of.

mod cluster;

use std::{
    collections::HashMap,
    mem::{Discriminant, discriminant},
    time::Duration,
};

use futures_util::future::join_all;
use proto::{id::AgentId, pod::Pod};
use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

pub use self::cluster::Cluster;
use self::cluster::{Failure, Patched};
use super::hub::Hub;
use crate::app::App;

/// The shortest time between two writes to a pod: a HorizontalPodAutoscaler decides no more often
/// (`--horizontal-pod-autoscaler-sync-period` of kube-controller-manager, unless it is set).
const PAUSE: Duration = Duration::from_secs(15);
/// Writes at once, and with each [look](super::roster::LOOK_EVERY): what clients of Kubernetes make
/// in a second at most, unless they are told otherwise (the burst of client-go).
const AT_ONCE: usize = 10;

/// What the pods of this replica's agents would cost, as last seen: slots in use.
#[derive(Default)]
pub struct Costs(watch::Sender<HashMap<Pod, u64>>);

impl Costs {
    /// Takes a look's news: the slots in use of every agent that lives.
    pub(super) fn saw(&self, hub: &Hub, in_use: &HashMap<AgentId, u64>) {
        if self.0.receiver_count() > 0 {
            let cost = |(pod, agent): (Pod, AgentId)| Some((pod, *in_use.get(&agent)?));
            self.0.send_replace(hub.pods().into_iter().filter_map(cost).collect());
        }
    }

    /// What looks see from now on.
    pub fn looks(&self) -> watch::Receiver<HashMap<Pod, u64>> {
        self.0.subscribe()
    }
}

/// Writes what looks see, until the replica stops.
pub async fn run(app: App, cluster: Cluster, mut looks: watch::Receiver<HashMap<Pod, u64>>) {
    let writing = async {
        let (mut book, mut log) = (Book::default(), Log::default());
        while looks.changed().await.is_ok() {
            let costs = looks.borrow_and_update().clone();
            let due = book.due(&costs, Instant::now());
            let patched = write(&cluster, &due).await;
            log.note(&patched);
            let now = Instant::now();
            for ((pod, cost), patched) in due.into_iter().zip(patched) {
                book.note(pod, cost, patched.ok(), now);
            }
        }
    };
    app.stop.run_until_cancelled(writing).await;
}

async fn write(cluster: &Cluster, due: &[(Pod, u64)]) -> Vec<Result<Patched, Failure>> {
    if due.is_empty() {
        return Vec::new();
    }
    join_all(due.iter().map(|(pod, cost)| cluster.patch(pod, *cost))).await
}

/// What stands on pods, as far as this replica wrote it.
#[derive(Default)]
struct Book(HashMap<Pod, Entry>);

struct Entry {
    tried: Instant,
    stands: Stands,
}

enum Stands {
    Cost(u64),
    /// It could not be written.
    Unknown,
    /// The namespace has no such pod.
    Nothing,
}

impl Entry {
    fn is_due(&self, cost: u64, now: Instant) -> bool {
        let differs = match self.stands {
            Stands::Cost(stands) => stands != cost,
            Stands::Unknown => true,
            Stands::Nothing => false,
        };
        differs && now.duration_since(self.tried) >= PAUSE
    }
}

impl Book {
    /// What is to be written now, and first what has waited longest. What an agent's pod had while
    /// its stream ended elsewhere is not known, and so written anew when it comes.
    fn due(&mut self, costs: &HashMap<Pod, u64>, now: Instant) -> Vec<(Pod, u64)> {
        self.0.retain(|pod, _| costs.contains_key(pod));
        let entry_of = |pod: &Pod| self.0.get(pod);
        let is_due = |(pod, cost): &(&Pod, &u64)| {
            entry_of(pod).is_none_or(|entry| entry.is_due(**cost, now))
        };
        let mut due: Vec<_> = costs.iter().filter(is_due).collect();
        due.sort_by_key(|(pod, _)| entry_of(pod).map(|entry| entry.tried));
        due.truncate(AT_ONCE);
        due.into_iter().map(|(pod, cost)| (pod.clone(), *cost)).collect()
    }

    /// How a write went; `None`: it failed.
    fn note(&mut self, pod: Pod, cost: u64, patched: Option<Patched>, tried: Instant) {
        let stands = match patched {
            Some(Patched::Done) => Stands::Cost(cost),
            Some(Patched::NoSuchPod) => {
                info!(pod = pod.name(), "an agent's pod is not in this namespace, or is gone");
                Stands::Nothing
            }
            None => Stands::Unknown,
        };
        self.0.insert(pod, Entry { tried, stands });
    }
}

/// Logs what fails when it begins to, and when it is over.
#[derive(Default)]
struct Log(Option<Discriminant<Failure>>);

impl Log {
    fn note(&mut self, patched: &[Result<Patched, Failure>]) {
        match patched.iter().find_map(|patched| patched.as_ref().err()) {
            Some(failure) => {
                let kind = discriminant(failure);
                if self.0.replace(kind) != Some(kind) {
                    warn!("what pods cost to delete cannot be written: {}", failure.whole());
                }
            }
            None if !patched.is_empty() && self.0.take().is_some() => {
                info!("what pods cost to delete is written again");
            }
            None => (),
        }
    }
}

#[cfg(test)]
mod tests;
