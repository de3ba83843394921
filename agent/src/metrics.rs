//! What an agent shows of itself to its operator.
//!
//! Counts are kept where things happen, far apart and some for each message; a process is one
//! agent, so they are [`COUNTS`] of the process. Whatever merely is, is read when it is shown.

use std::{
    fmt,
    sync::{Arc, LazyLock, atomic::AtomicU64},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Unit,
};
use proto::SPAN_BOUNDS_SECONDS;
use tokio::sync::watch;

use crate::{
    cdp::{METHODS, METHODS_LEN},
    control::{Drain, Lease},
    sessions::Registry,
};

/// What this process has counted.
pub(crate) static COUNTS: LazyLock<Counts> = LazyLock::new(Counts::new);

/// What happened since the process was started.
pub(crate) struct Counts {
    /// From the start of a browser's process until it answered and had its first page, in seconds.
    pub browser_starts: Histogram,
    /// Browsers that ended by themselves.
    pub browser_crashes: Counter,
    /// What all browsers took of the memory when the watchdog last looked, in bytes.
    pub browser_memory: Gauge<u64, AtomicU64>,
    pub cdp: Cdp,
    pub egress: Egress,
    /// 1 while a stream to a hub is open.
    pub hub_connected: Gauge,
    pub hub_connects: Counter,
}

/// What passed between clients and browsers.
pub(crate) struct Cdp {
    pub from_clients: Passed,
    pub to_clients: Passed,
    /// How long they took in seconds, by the places of [`METHODS`].
    pub commands: [Histogram; METHODS_LEN],
}

/// Messages of one direction, and their payload.
#[derive(Default)]
pub(crate) struct Passed {
    pub messages: Counter,
    pub bytes: Counter,
}

/// What went through the gateways of all browsers.
#[derive(Default)]
pub(crate) struct Egress {
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    pub opened: Counter,
    pub refused: Counter,
    pub failed: Counter,
    /// What was refused by policy: also requests on connections that are open already.
    pub denials: Counter,
}

impl Counts {
    fn new() -> Self {
        Self {
            browser_starts: Histogram::new(SPAN_BOUNDS_SECONDS),
            browser_crashes: Counter::default(),
            browser_memory: Gauge::default(),
            cdp: Cdp {
                from_clients: Passed::default(),
                to_clients: Passed::default(),
                commands: [(); METHODS_LEN].map(|()| Histogram::new(SPAN_BOUNDS_SECONDS)),
            },
            egress: Egress::default(),
            hub_connected: Gauge::default(),
            hub_connects: Counter::default(),
        }
    }

    fn encode(&self, page: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.browser_starts.encode(page.encode_descriptor(
            "ventus_agent_browser_start",
            "From the start of a browser's process until it had its first page.",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?)?;
        self.browser_crashes.encode(page.encode_descriptor(
            "ventus_agent_browser_crashes",
            "Browsers that ended by themselves, idle ones too.",
            None,
            MetricType::Counter,
        )?)?;
        self.browser_memory.encode(page.encode_descriptor(
            "ventus_agent_memory",
            "Memory of all browsers, as the watchdog last saw it.",
            Some(&Unit::Bytes),
            MetricType::Gauge,
        )?)?;
        self.hub_connected.encode(page.encode_descriptor(
            "ventus_agent_hub_connected",
            "Whether a stream to a hub is open.",
            None,
            MetricType::Gauge,
        )?)?;
        self.hub_connects.encode(page.encode_descriptor(
            "ventus_agent_hub_connects",
            "Streams that a hub has welcomed.",
            None,
            MetricType::Counter,
        )?)?;
        self.cdp.encode(page)?;
        self.egress.encode(page)
    }
}

impl Passed {
    /// Counts what passed at once.
    pub fn add(&self, messages: u64, bytes: u64) {
        self.messages.inc_by(messages);
        self.bytes.inc_by(bytes);
    }
}

impl Cdp {
    fn encode(&self, page: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let directions = [("in", &self.from_clients), ("out", &self.to_clients)];
        let help = "CDP messages: in from clients, out to them.";
        let name = "ventus_agent_cdp_messages";
        let mut messages = page.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (direction, passed) in directions {
            passed.messages.encode(messages.encode_family(&[("direction", direction)])?)?;
        }
        let mut bytes = page.encode_descriptor(
            "ventus_agent_cdp",
            "Payload of CDP messages: in from clients, out to them.",
            Some(&Unit::Bytes),
            MetricType::Counter,
        )?;
        for (direction, passed) in directions {
            passed.bytes.encode(bytes.encode_family(&[("direction", direction)])?)?;
        }
        let mut commands = page.encode_descriptor(
            "ventus_agent_cdp_command_duration",
            "How long browsers take for the commands of clients.",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (method, spans) in METHODS.iter().zip(&self.commands) {
            spans.encode(commands.encode_family(&[("method", *method)])?)?;
        }
        Ok(())
    }
}

impl Egress {
    fn encode(&self, page: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut bytes = page.encode_descriptor(
            "ventus_agent_egress",
            "Bytes between browsers and the network: out of browsers, in to them.",
            Some(&Unit::Bytes),
            MetricType::Counter,
        )?;
        for (direction, counter) in [("in", &self.bytes_in), ("out", &self.bytes_out)] {
            counter.encode(bytes.encode_family(&[("direction", direction)])?)?;
        }
        let help = "Connections that browsers wanted, by what came of them.";
        let name = "ventus_agent_egress_connections";
        let mut connections = page.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (outcome, counter) in
            [("failed", &self.failed), ("opened", &self.opened), ("refused", &self.refused)]
        {
            counter.encode(connections.encode_family(&[("outcome", outcome)])?)?;
        }
        self.denials.encode(page.encode_descriptor(
            "ventus_agent_egress_denials",
            "What browsers wanted of the network and policy refused.",
            None,
            MetricType::Counter,
        )?)
    }
}

/// Counts as connected until it is dropped.
pub(crate) struct Connected;

impl Connected {
    /// A hub has welcomed this agent on a stream.
    pub fn to_hub() -> Self {
        COUNTS.hub_connects.inc();
        COUNTS.hub_connected.set(1);
        Self
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        COUNTS.hub_connected.set(0);
    }
}

/// An agent seen from outside. Cheap to clone. It collects its metrics.
#[derive(Clone)]
pub struct Monitor {
    pub(crate) registry: Arc<Registry>,
    pub(crate) lease: Arc<Lease>,
    pub(crate) drain: Arc<Drain>,
    pub(crate) warm: watch::Receiver<u32>,
    pub(crate) started: watch::Receiver<bool>,
}

impl Monitor {
    /// Whether a hub has welcomed this agent and its first warm browser is up.
    ///
    /// # Errors
    ///
    /// What it still waits for.
    pub fn started(&self) -> Result<(), &'static str> {
        self.started.borrow().then_some(()).ok_or("no hub and no first warm browser yet")
    }

    /// Whether clients are to be sent here. A full agent is ready: it forwards what is another's.
    /// One that only lost sight of its hub is ready for as long as its lease, and its sessions,
    /// last.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn ready(&self) -> Result<(), &'static str> {
        match () {
            () if self.drain.is_on() => Err("the agent is drained"),
            () if !self.lease.lasts() => Err("the agent has no lease from a hub"),
            () => Ok(()),
        }
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}

impl Collector for Monitor {
    fn encode(&self, mut page: DescriptorEncoder<'_>) -> fmt::Result {
        let clients = u32::try_from(self.registry.clients()).unwrap_or(u32::MAX);
        for (name, help, now) in [
            (
                "ventus_agent_slots",
                "Sessions that the agent can run at once.",
                self.registry.capacity(),
            ),
            ("ventus_agent_slots_used", "Slots that a session holds.", self.registry.slots_used()),
            ("ventus_agent_browsers_warm", "Idle browsers.", *self.warm.borrow()),
            ("ventus_agent_cdp_clients", "CDP clients that are connected.", clients),
        ] {
            page.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&now)?;
        }
        COUNTS.encode(&mut page)
    }
}
