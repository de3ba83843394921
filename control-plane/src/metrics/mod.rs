//! What a replica shows of itself and of the fleet to its operator.
//!
//! What happened at this replica is counted here, when it is committed: the sum over replicas is
//! right. What is in the database is the same for all replicas, so they show what they last saw
//! there, and nobody who scrapes causes a query.

pub mod http;
mod monitor;
mod seen;

use std::{collections::HashMap, fmt, time::Duration};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, counter::Counter, family::Family, histogram::Histogram},
    registry::Unit,
};
use proto::{SPAN_BOUNDS_SECONDS, region::Region, session::EndReason};

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

/// What was requested: labels of how long it took.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Question {
    method: &'static str,
    /// A template, never a path.
    route: String,
}

/// What was requested, and how it was answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Answer {
    #[prometheus(flatten)]
    question: Question,
    status: u16,
}

/// Where a request waited.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Place {
    region: String,
}

/// Where a session ended, and why.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct End {
    region: String,
    reason: &'static str,
}

/// Histograms of one name, one for each combination of labels that has come up.
type Histograms<Labels> = Family<Labels, Histogram, fn() -> Histogram>;

/// What a replica counts, and what it has seen.
pub struct Metrics {
    requests: Family<Answer, Counter>,
    request_spans: Histograms<Question>,
    /// By the places of [`Stage::ALL`].
    create: [Histogram; Stage::ALL.len()],
    waits: Histograms<Place>,
    ended: Family<End, Counter>,
    seen: Seen,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            request_spans: Family::new_with_constructor(histogram),
            create: Stage::ALL.map(|_| histogram()),
            waits: Family::new_with_constructor(histogram),
            ended: Family::default(),
            seen: Seen::default(),
        }
    }
}

fn histogram() -> Histogram {
    Histogram::new(SPAN_BOUNDS_SECONDS)
}

impl Metrics {
    /// This replica has committed the end of a session.
    pub fn ended(&self, region: &Region, reason: EndReason) {
        let end = End { region: region.to_string(), reason: reason.as_str() };
        self.ended.get_or_create(&end).inc();
    }

    /// A create has passed a stage.
    pub fn created(&self, stage: Stage, span: Duration) {
        self.create[stage as usize].observe(span.as_secs_f64());
    }

    /// A request has waited in a region's queue.
    pub fn waited(&self, region: &Region, span: Duration) {
        let place = Place { region: region.to_string() };
        self.waits.get_or_create(&place).observe(span.as_secs_f64());
    }

    /// These are all agents that live.
    pub fn saw(&self, rooms: HashMap<Region, Room>) {
        self.seen.agents(rooms);
    }

    fn encode(&self, page: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.seen.encode(page)?;
        // From 0 on: the rate of a series that begins with 1 misses that one.
        for region in self.seen.names() {
            for reason in EndReason::ALL {
                let end = End { region: region.to_string(), reason: reason.as_str() };
                drop(self.ended.get_or_create(&end));
            }
        }
        self.ended.encode(page.encode_descriptor(
            "ventus_sessions_ended",
            "Sessions whose end this replica committed.",
            None,
            MetricType::Counter,
        )?)?;
        let mut create = page.encode_descriptor(
            "ventus_session_create_duration",
            "From the request to a session that runs, by stage.",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (stage, spans) in Stage::ALL.iter().zip(&self.create) {
            spans.encode(create.encode_family(&[("stage", stage.as_str())])?)?;
        }
        self.waits.encode(page.encode_descriptor(
            "ventus_queue_wait",
            "How long requests waited in a queue for a slot, also in vain.",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?)?;
        self.requests.encode(page.encode_descriptor(
            "ventus_http_requests",
            "Requests of the REST API that were answered.",
            None,
            MetricType::Counter,
        )?)?;
        self.request_spans.encode(page.encode_descriptor(
            "ventus_http_request_duration",
            "From a request of the REST API to the head of its answer.",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?)
    }
}

#[cfg(test)]
mod tests;
