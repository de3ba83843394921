//! What sessions cost: CPU time of an agent for what it carries, memory of agents and browsers.

use std::time::Duration;

use futures_util::future::join_all;
use harness::{
    Chrome, Server, Site,
    chrome::Piped,
    cpu, eventually,
    figures::millis,
    fleet::{free_port, small_control_plane, warm_agent},
    memory::Memory,
};

use crate::{
    Options,
    cdp::{What, pipelined},
    link::{Level, Link},
    relay::Relay,
    report::{Better, Figure, Measure, Samples},
    rig::{self, Fleet, Side},
};

/// Sessions of which memory is the mean.
const SESSIONS: u32 = 8;
/// What they are to fit in.
const MACHINE: f64 = 8.0 * GIB;
const GIB: f64 = (1 << 30) as f64;
const MIB: f64 = (1 << 20) as f64;
/// How long browsers may take to start.
const READY: Duration = Duration::from_secs(120);

/// What an agent carries while its CPU time is taken.
#[derive(Clone, Copy)]
enum Load {
    /// Small commands, so many in flight.
    Commands(u32),
    /// Megabytes to the client, and to the browser.
    Results,
    Arguments,
}

impl Load {
    const ALL: [Self; 4] = [Self::Commands(1), Self::Commands(64), Self::Results, Self::Arguments];

    fn samples(self) -> Samples {
        let less = Better::Less;
        match self {
            // Milliseconds for 1 000 commands are microseconds for one.
            Self::Commands(depth) => Samples::new(
                format!("CPU, 1 000 commands, {depth} in flight"),
                "ms",
                less,
            )
            .aim(Side::Ventus.name(), Figure::Median, 25.0),
            Self::Results => Samples::new("CPU, 1 MB of results", "ms", less),
            Self::Arguments => Samples::new("CPU, 1 MB of arguments", "ms", less),
        }
    }

    /// Carries so much that `/proc`, which counts in 10 ms, sees enough of it; answers how many
    /// thousands or megabytes there were.
    async fn carry(self, link: &mut Link, scale: f64) -> f64 {
        let times = |many: u32| (f64::from(many) * scale).ceil();
        match self {
            Self::Commands(depth) => {
                let thousands = times(20);
                for _ in 0..crate::count_of(thousands) {
                    pipelined(link, depth, 1_000).await;
                }
                thousands
            }
            Self::Results | Self::Arguments => {
                let size = 1_000_000;
                let what =
                    if matches!(self, Self::Results) { What::Result } else { What::Argument };
                let repeats = times(100);
                let mut carried = 0.0;
                while carried < repeats {
                    let rates = what(size).measure(link, 1.0).await;
                    carried += f64::from(u32::try_from(rates.len()).unwrap_or(u32::MAX));
                }
                carried
            }
        }
    }
}

/// CPU time of what is between client and Chrome, neither of them counted.
async fn carried(options: &Options, notes: &mut Vec<String>) -> Vec<Measure> {
    let fleet = Fleet::start(|plan| options.browser(plan)).await;
    let command = Chrome::command_of(fleet.owner.data()).await;
    let peer = rig::peer(options, &command).await;
    notes.push(rig::peer_note(&peer));
    let relay = Relay::start(Piped::start(&command.0, command.1));
    let mut carriers = vec![
        (Side::Relay.name(), relay.pid(), relay.link().await),
        (Side::Ventus.name(), fleet.owner.pid(), Link::dial(fleet.session.connect_url()).await),
        ("what forwarding adds", fleet.other.pid(), Link::dial(&fleet.elsewhere()).await),
    ];
    if let Ok(peer) = &peer {
        carriers.push((Side::Peer.name(), peer.pid(), Link::dial(&peer.url()).await));
    }
    for (_, _, link) in &mut carriers {
        link.open_page().await;
    }
    let mut samples: Vec<_> = Load::ALL.iter().map(|load| load.samples()).collect();
    let scale = if options.quick { 0.1 } else { 1.0 };
    let used = |pid: u32| millis(cpu::of(pid));
    // the first round only warms up
    for round in 0..=options.rounds(5, 2) {
        for (load, samples) in Load::ALL.iter().zip(&mut samples) {
            for (name, pid, link) in &mut carriers {
                let before = used(*pid);
                let units = load.carry(link, scale).await;
                if round > 0 {
                    samples.add(name, vec![(used(*pid) - before) / units]);
                }
            }
        }
        eprint!(".");
    }
    for (_, _, link) in carriers {
        link.close().await;
    }
    if let Ok(peer) = peer {
        peer.stop().await;
    }
    fleet.stop().await;
    samples.into_iter().map(Samples::done).collect()
}

/// What was held at one moment.
struct Held {
    agent: f64,
    browsers: f64,
    processes: f64,
}

impl Held {
    /// An agent alone in its process, and what it runs.
    #[expect(clippy::cast_precision_loss, reason = "bytes of memory")]
    fn now(agent: &Server) -> Self {
        let processes = agent.processes();
        Self {
            agent: Memory::of(agent.pid()).resident as f64,
            browsers: Memory::of_all(&processes).proportional as f64,
            processes: processes.len() as f64,
        }
    }
}

/// Memory of an agent with as many sessions: none, idle, busy.
async fn memory(options: &Options, notes: &mut Vec<String>) -> Vec<Measure> {
    let site = Site::start().await;
    let hub = free_port();
    let control = small_control_plane(hub).start().await;
    let agent = options.browser(warm_agent(hub, SESSIONS, SESSIONS)).start().await;
    eventually("the browsers are warm", READY, || async {
        let region = control.api.get("/v1/regions").await.body["items"][0].take();
        (region["warm"] == SESSIONS).then_some(())
    })
    .await;
    let warm = Held::now(&agent);
    let sessions = (0..SESSIONS).map(|_| control.api.create(rig::lasting()));
    let sessions = join_all(sessions).await;
    let idle = Held::now(&agent);
    let busy_ones = join_all(sessions.iter().map(|session| async {
        let mut link = Link::dial(session.connect_url()).await;
        link.open_page().await;
        link.navigate(&site.url).await;
        for what in [What::Result(8 << 20), What::Argument(8 << 20), What::RoundTrip(Level::Page)] {
            what.measure(&mut link, 1.0).await;
        }
        link
    }));
    let links = busy_ones.await;
    let busy = Held::now(&agent);
    for link in links {
        link.close().await;
    }
    for session in sessions {
        control.api.release(session.id()).await;
    }
    agent.stop_process().await;
    control.stop().await;
    let each = f64::from(SESSIONS);
    let of_idle = (idle.agent - warm.agent).max(0.0) / each;
    let of_busy = (busy.agent - warm.agent).max(0.0) / each;
    let fit = |per_session: f64| ((MACHINE - warm.agent) / per_session).floor();
    notes.push(format!(
        "Memory of an agent is what is resident, with {SESSIONS} warm browsers and no session; of \
         browsers it is their proportional share (PSS), divided by their number. A busy session has \
         a client that has opened a page, got a result of 8 MB and sent an argument of 8 MB. What \
         fits in 8 GiB is calculated from it, with nothing else on the machine."
    ));
    [
        ("agent", "MiB", warm.agent / MIB, Better::Less),
        ("agent, for each idle session", "MiB", of_idle / MIB, Better::Less),
        ("agent, for each busy session", "MiB", of_busy / MIB, Better::Less),
        ("browser, warm", "MiB", warm.browsers / each / MIB, Better::Less),
        ("browser of a busy session", "MiB", busy.browsers / each / MIB, Better::Less),
        ("processes of a warm browser", "", warm.processes / each, Better::Less),
        ("idle sessions in 8 GiB", "", fit(of_idle + idle.browsers / each), Better::More),
        ("busy sessions in 8 GiB", "", fit(of_busy + busy.browsers / each), Better::More),
    ]
    .into_iter()
    .map(|(name, unit, value, better)| {
        let mut samples = Samples::new(name, unit, better);
        samples.add(Side::Ventus.name(), vec![value]);
        samples.done()
    })
    .collect()
}

/// CPU time, then memory.
pub async fn run(options: &Options, notes: &mut Vec<String>) -> Vec<Measure> {
    let mut measures = carried(options, notes).await;
    measures.extend(memory(options, notes).await);
    measures
}
