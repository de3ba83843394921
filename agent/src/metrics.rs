//! What an agent shows of itself to its operator.
//!
//! Counts are kept where things happen, far apart and some for each message; a process is one
//! agent, so they are [`COUNTS`] of the process. Whatever merely is, is read when it is shown.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use exposition::{Counter, Histogram, Page};
use tokio::sync::watch;

use crate::{
    cdp::{METHODS, METHODS_LEN},
    control::{Drain, Lease},
    sessions::Registry,
};

/// What this process has counted.
pub(crate) static COUNTS: Counts = Counts::new();

/// What happened since the process was started.
pub(crate) struct Counts {
    /// From the start of a browser's process until it answered and had its first page.
    pub browser_starts: Histogram,
    /// Browsers that ended by themselves.
    pub browser_crashes: Counter,
    /// What all browsers took of the memory when the watchdog last looked, in bytes.
    pub browser_memory: AtomicU64,
    pub cdp: Cdp,
    pub egress: Egress,
    /// A stream to a hub is open.
    pub hub_connected: AtomicBool,
    pub hub_connects: Counter,
}

/// What passed between clients and browsers. On a cache line of its own: all sessions count here.
#[repr(align(64))]
pub(crate) struct Cdp {
    pub from_clients: Passed,
    pub to_clients: Passed,
    /// By the places of [`METHODS`].
    pub commands: [Histogram; METHODS_LEN],
}

/// Messages of one direction, and their payload.
pub(crate) struct Passed {
    pub messages: Counter,
    pub bytes: Counter,
}

/// What went through the gateways of all browsers.
#[repr(align(64))]
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
    const fn new() -> Self {
        Self {
            browser_starts: Histogram::new(),
            browser_crashes: Counter::new(),
            browser_memory: AtomicU64::new(0),
            cdp: Cdp {
                from_clients: Passed::new(),
                to_clients: Passed::new(),
                commands: [const { Histogram::new() }; METHODS_LEN],
            },
            egress: Egress {
                bytes_in: Counter::new(),
                bytes_out: Counter::new(),
                opened: Counter::new(),
                refused: Counter::new(),
                failed: Counter::new(),
                denials: Counter::new(),
            },
            hub_connected: AtomicBool::new(false),
            hub_connects: Counter::new(),
        }
    }

    fn show(&self, page: &mut Page) {
        let mut starts = page.histogram(
            "ventus_agent_browser_start_seconds",
            "From the start of a browser's process until it had its first page.",
        );
        starts.spans(&[], &self.browser_starts);
        let help = "Browsers that ended by themselves, idle ones too.";
        page.counter("ventus_agent_browser_crashes_total", help)
            .value(&[], self.browser_crashes.get());
        let help = "Memory of all browsers, as the watchdog last saw it.";
        page.gauge("ventus_agent_memory_bytes", help).value(&[], self.browser_memory.load(Relaxed));
        let help = "Whether a stream to a hub is open.";
        page.gauge("ventus_agent_hub_connected", help)
            .value(&[], u8::from(self.hub_connected.load(Relaxed)));
        let help = "Streams that a hub has welcomed.";
        page.counter("ventus_agent_hub_connects_total", help).value(&[], self.hub_connects.get());
        self.cdp.show(page);
        self.egress.show(page);
    }
}

impl Passed {
    const fn new() -> Self {
        Self { messages: Counter::new(), bytes: Counter::new() }
    }

    /// Counts what passed at once.
    pub fn add(&self, messages: u64, bytes: u64) {
        self.messages.add(messages);
        self.bytes.add(bytes);
    }
}

impl Cdp {
    fn show(&self, page: &mut Page) {
        let directions = [("in", &self.from_clients), ("out", &self.to_clients)];
        let help = "CDP messages: in from clients, out to them.";
        let mut messages = page.counter("ventus_agent_cdp_messages_total", help);
        for (direction, passed) in directions {
            messages.value(&[("direction", direction)], passed.messages.get());
        }
        let help = "Payload of CDP messages: in from clients, out to them.";
        let mut bytes = page.counter("ventus_agent_cdp_bytes_total", help);
        for (direction, passed) in directions {
            bytes.value(&[("direction", direction)], passed.bytes.get());
        }
        let mut commands = page.histogram(
            "ventus_agent_cdp_command_duration_seconds",
            "How long browsers take for the commands of clients.",
        );
        for (method, spans) in METHODS.iter().zip(&self.commands) {
            commands.spans(&[("method", method)], spans);
        }
    }
}

impl Egress {
    fn show(&self, page: &mut Page) {
        let help = "Bytes between browsers and the network: out of browsers, in to them.";
        let mut bytes = page.counter("ventus_agent_egress_bytes_total", help);
        for (direction, counter) in [("in", &self.bytes_in), ("out", &self.bytes_out)] {
            bytes.value(&[("direction", direction)], counter.get());
        }
        let help = "Connections that browsers wanted, by what came of them.";
        let mut connections = page.counter("ventus_agent_egress_connections_total", help);
        for (outcome, counter) in
            [("failed", &self.failed), ("opened", &self.opened), ("refused", &self.refused)]
        {
            connections.value(&[("outcome", outcome)], counter.get());
        }
        let help = "What browsers wanted of the network and policy refused.";
        page.counter("ventus_agent_egress_denials_total", help).value(&[], self.denials.get());
    }
}

/// Counts as connected until it is dropped.
pub(crate) struct Connected;

impl Connected {
    /// A hub has welcomed this agent on a stream.
    pub fn to_hub() -> Self {
        COUNTS.hub_connects.one();
        COUNTS.hub_connected.store(true, Relaxed);
        Self
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        COUNTS.hub_connected.store(false, Relaxed);
    }
}

/// An agent seen from outside. Cheap to clone.
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

    /// Writes its metrics.
    pub fn show(&self, page: &mut Page) {
        let help = "Sessions that the agent can run at once.";
        page.gauge("ventus_agent_slots", help).value(&[], self.registry.capacity());
        let help = "Slots that a session holds.";
        page.gauge("ventus_agent_slots_used", help).value(&[], self.registry.slots_used());
        let help = "Idle browsers.";
        page.gauge("ventus_agent_browsers_warm", help).value(&[], *self.warm.borrow());
        let help = "CDP clients that are connected.";
        page.gauge("ventus_agent_cdp_clients", help).value(&[], self.registry.clients());
        COUNTS.show(page);
    }
}
