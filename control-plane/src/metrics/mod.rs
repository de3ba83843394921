//! What a replica shows of itself and of the fleet to its operator.
//!
//! What happened at this replica is counted here, when it is committed: the sum over replicas is
//! right. What is in the database is the same for all replicas, so they show what they last saw
//! there, and nobody who scrapes causes a query.

pub mod http;
mod monitor;
mod seen;

use std::{collections::HashMap, time::Duration};

use exposition::{Counter, Family, Histogram, Page};
use proto::{region::Region, session::EndReason};

pub use monitor::Monitor;
#[cfg(test)]
pub(crate) use seen::COMMON;
use seen::Seen;
pub use seen::{LOOK_EVERY, Room, look};

/// A part of the way from a request to a session that runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Until the attempt began that found a slot: at once, unless the request had to wait.
    Queue,
    /// Until the slot was reserved and the session recorded.
    Place,
    /// Until its browser was up, of requests that waited for it.
    Launch,
    /// All of it, likewise.
    Total,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Queue, Self::Place, Self::Launch, Self::Total];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Place => "place",
            Self::Launch => "launch",
            Self::Total => "total",
        }
    }
}

/// What a replica counts, and what it has seen.
#[derive(Debug)]
pub struct Metrics {
    requests: Family<3, Counter>,
    request_spans: Family<2, Histogram>,
    create: [Histogram; 4],
    waits: Family<1, Histogram>,
    ended: Family<2, Counter>,
    seen: Seen,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::new(["method", "route", "status"]),
            request_spans: Family::new(["method", "route"]),
            create: Default::default(),
            waits: Family::new(["region"]),
            ended: Family::new(["region", "reason"]),
            seen: Seen::default(),
        }
    }
}

impl Metrics {
    /// This replica has committed the end of a session.
    pub fn ended(&self, region: &Region, reason: EndReason) {
        self.ended.of([region.as_str(), reason.as_str()]).one();
    }

    /// A create has passed a stage.
    pub fn created(&self, stage: Stage, span: Duration) {
        self.create[stage as usize].took(span);
    }

    /// A request has waited in a region's queue.
    pub fn waited(&self, region: &Region, span: Duration) {
        self.waits.of([region.as_str()]).took(span);
    }

    /// These are all agents that live.
    pub fn saw(&self, rooms: HashMap<Region, Room>) {
        self.seen.agents(rooms);
    }

    fn show(&self, page: &mut Page) {
        self.seen.show(page);
        let help = "Sessions whose end this replica committed.";
        page.counters("ventus_sessions_ended_total", help, &self.ended);
        let mut create = page.histogram(
            "ventus_session_create_duration_seconds",
            "From the request to a session that runs, by stage.",
        );
        for stage in Stage::ALL {
            create.spans(&[("stage", stage.as_str())], &self.create[stage as usize]);
        }
        let help = "How long requests waited in a queue for a slot, also in vain.";
        page.histograms("ventus_queue_wait_seconds", help, &self.waits);
        let help = "Requests of the REST API that were answered.";
        page.counters("ventus_http_requests_total", help, &self.requests);
        let help = "From a request of the REST API to the head of its answer.";
        page.histograms("ventus_http_request_duration_seconds", help, &self.request_spans);
    }
}

#[cfg(test)]
mod tests;
