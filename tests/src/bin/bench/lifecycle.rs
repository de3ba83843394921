//! What a session takes from its request to its end: create, connect, first navigation, release,
//! warm and cold, one and many at a time, beside Chrome's own start and browserless.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use futures_util::future::join_all;
use harness::{Chrome, Server, Site, eventually, figures::millis, leftovers};
use http::Method;
use serde_json::json;
use tokio::time::{Instant, timeout};
use ulid::Ulid;

use crate::{
    Options,
    link::{Level, Link},
    machine,
    peer::Peer,
    report::{Better, Figure, Measure, Samples},
    rig,
};

/// How long it may take until all browsers are warm again, or gone.
const REST: Duration = Duration::from_secs(180);
const STAGES: [&str; 6] =
    ["create", "connect", "create and connect", "first navigation", "release", "whole cycle"];
const CHROME: &str = "chrome";
const WARM: &str = "ventus, warm";
const COLD: &str = "ventus, cold";
const PEER: &str = "browserless";

/// More at once than this, and the sides no longer run together.
const TOGETHER: u32 = 10;
/// What a browser with a page takes of the machine, roughly, so as not to run out of it.
const EACH_MIB: u64 = 300;

/// The browser and its flags.
type Command = (PathBuf, Vec<OsString>);
/// A session from its request to its end, or why there was none.
type Made = Result<Cycle, String>;

/// The time of each stage of one session; what a side has no such stage for is not there.
struct Cycle([Option<Duration>; 6]);

/// Milestones of a session.
struct Clock {
    begun: Instant,
    created: Option<Instant>,
    connected: Instant,
    loaded: Instant,
    released: Instant,
}

impl Clock {
    fn cycle(&self) -> Cycle {
        let since = |from: Instant, to: Instant| Some(to.duration_since(from));
        Cycle([
            self.created.and_then(|created| since(self.begun, created)),
            self.created.and_then(|created| since(created, self.connected)),
            since(self.begun, self.connected),
            since(self.connected, self.loaded),
            since(self.loaded, self.released),
            since(self.begun, self.released),
        ])
    }
}

/// A page that has loaded: when the browser had answered, when the page was there.
struct Visit {
    link: Link,
    connected: Instant,
    loaded: Instant,
}

/// Connects, and opens the site.
///
/// # Errors
///
/// When the connection ends, or nothing comes: with too many at once that can be.
async fn visit(url: &str, site: &str) -> Result<Visit, String> {
    let (url, site) = (url.to_owned(), site.to_owned());
    let visit = tokio::spawn(async move {
        let mut link = Link::dial(&url).await;
        link.call(Level::Browser, "Browser.getVersion", json!({})).await;
        let connected = Instant::now();
        link.open_page().await;
        link.navigate(&site).await;
        Visit { link, connected, loaded: Instant::now() }
    });
    let visit = timeout(REST, visit).await.map_err(|_| format!("not loaded in {REST:?}"))?;
    visit.map_err(|error| error.to_string())
}

async fn chrome((program, flags): &Command, site: &str) -> Made {
    let chrome = Chrome::start(program, flags.clone()).await;
    let (begun, created) = (chrome.begun, Instant::now());
    let Visit { link, connected, loaded } = visit(&chrome.url, site).await?;
    drop(link);
    let folder = chrome.end();
    leftovers::no_process(folder.path(), None, REST).await;
    let released = Instant::now();
    Ok(Clock { begun, created: Some(created), connected, loaded, released }.cycle())
}

async fn session(server: &Server, site: &str) -> Made {
    let begun = Instant::now();
    let key = Ulid::generate().to_string();
    let made = server.api.create_with(&key, "wait=60", &json!({})).await;
    let created = Instant::now();
    if made.status != 201 {
        return Err(format!("{} {}", made.status, made.body));
    }
    let session = made.session(201);
    if session.status() != "RUNNING" {
        return Err(format!("still {} after a minute", session.status()));
    }
    let visited = visit(session.connect_url(), site).await;
    // Also where that failed: the next round needs the slot.
    let path = format!("/v1/sessions/{}", session.id());
    server.api.try_send(Method::DELETE, &path, &[], None).await;
    let released = Instant::now();
    let Visit { link, connected, loaded } = visited?;
    drop(link);
    Ok(Clock { begun, created: Some(created), connected, loaded, released }.cycle())
}

async fn of_peer(peer: &Peer, site: &str) -> Made {
    let begun = Instant::now();
    let Visit { link, connected, loaded } = visit(&peer.url(), site).await?;
    link.close().await;
    let released = Instant::now();
    Ok(Clock { begun, created: None, connected, loaded, released }.cycle())
}

/// Every stage at so many at a time, each once for every session.
struct Stages {
    samples: Vec<Samples>,
    failed: Vec<String>,
}

impl Stages {
    fn new(at_once: u32) -> Self {
        let stage = |stage: &&str| {
            let row = format!("{stage}, by sessions at once");
            let samples = Samples::new(format!("{stage}, {at_once} at once"), "ms", Better::Less);
            samples.among([CHROME, WARM, COLD, PEER]).by(CHROME).at(&row, f64::from(at_once))
        };
        let mut samples: Vec<_> = STAGES.iter().map(stage).collect();
        if at_once == 1 {
            let aimed = |at: usize, samples: Samples| match STAGES[at] {
                "create" => samples.aim(WARM, Figure::Median, 5.0).aim(WARM, Figure::P99, 25.0),
                // Chrome's own start is until it first answers: its port is open long before.
                "create and connect" => samples.aim(COLD, Figure::Above, 20.0),
                "whole cycle" => samples.aim(WARM, Figure::Median, 100.0),
                _ => samples,
            };
            samples = samples.into_iter().enumerate().map(|(at, one)| aimed(at, one)).collect();
        }
        Self { samples, failed: Vec::new() }
    }

    fn add(&mut self, side: &str, cycles: Vec<Made>, counts: bool) {
        let mut good = Vec::new();
        for cycle in cycles {
            match cycle {
                Ok(cycle) => good.push(cycle),
                Err(why) => self.failed.push(format!("{side}: {why}")),
            }
        }
        for (stage, samples) in self.samples.iter_mut().enumerate().filter(|_| counts) {
            let times = good.iter().filter_map(|cycle| cycle.0[stage]);
            samples.add(side, times.map(millis).collect());
        }
    }
}

/// Waits until so many browsers are warm, and nothing else runs.
async fn settled(server: &Server, warm: u32) {
    eventually("the server is at rest", REST, || async {
        let region = server.api.get("/v1/regions").await.body["items"][0].take();
        let at_rest = region["warm"] == warm && region["in_use"] == 0;
        (at_rest && server.browsers().len() == warm as usize).then_some(())
    })
    .await;
}

/// What runs on one side.
enum Runner {
    Chrome,
    Cold(Server),
    Warm(Server),
    Peer(Peer),
}

impl Runner {
    /// `None`: it is left out.
    async fn start(options: &Options, side: &str, command: &Command, at_once: u32) -> Option<Self> {
        let server = |warm| options.browser(Server::up().capacity(at_once * 2, warm)).start();
        Some(match side {
            CHROME => Self::Chrome,
            COLD => Self::Cold(server(0).await),
            WARM => Self::Warm(server(at_once).await),
            _ => Self::Peer(rig::peer(options, command).await.ok()?),
        })
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Chrome => CHROME,
            Self::Cold(_) => COLD,
            Self::Warm(_) => WARM,
            Self::Peer(_) => PEER,
        }
    }

    /// So many sessions at once, and then nothing that is in the way of the others.
    async fn round(&self, command: &Command, at_once: u32, site: &str) -> Vec<Made> {
        match self {
            Self::Chrome => join_all((0..at_once).map(|_| chrome(command, site))).await,
            Self::Cold(server) => sessions(server, 0, at_once, site).await,
            Self::Warm(server) => sessions(server, at_once, at_once, site).await,
            Self::Peer(peer) => {
                let cycles = join_all((0..at_once).map(|_| of_peer(peer, site))).await;
                peer.at_rest().await;
                cycles
            }
        }
    }

    async fn stop(self) {
        match self {
            Self::Chrome => {}
            Self::Cold(server) | Self::Warm(server) => server.stop().await,
            Self::Peer(peer) => peer.stop().await,
        }
    }
}

async fn sessions(server: &Server, warm: u32, at_once: u32, site: &str) -> Vec<Made> {
    settled(server, warm).await;
    let cycles = join_all((0..at_once).map(|_| session(server, site))).await;
    settled(server, warm).await;
    cycles
}

/// All sides in turns, or one after another where memory is not enough for all of them.
async fn at_once(
    options: &Options,
    command: &Command,
    site: &str,
    (at_once, rounds): (u32, usize),
) -> Stages {
    let mut stages = Stages::new(at_once);
    let sides = [CHROME, COLD, WARM, PEER];
    for together in sides.chunks(if at_once > TOGETHER { 1 } else { sides.len() }) {
        let mut runners = Vec::new();
        for side in together {
            runners.extend(Runner::start(options, side, command, at_once).await);
        }
        // the first round only warms up
        for round in 0..=rounds {
            for runner in &runners {
                let made = runner.round(command, at_once, site).await;
                stages.add(runner.name(), made, round > 0);
            }
            if !runners.is_empty() {
                runners.rotate_left(1);
            }
            eprint!(".");
        }
        for runner in runners {
            runner.stop().await;
        }
    }
    stages
}

/// The browser and its flags.
async fn command_of(options: &Options) -> Command {
    let server = options.browser(Server::up().capacity(1, 1)).start().await;
    let command = Chrome::command_of(server.data()).await;
    server.stop().await;
    command
}

/// One at a time, 10, and 50.
pub async fn run(options: &Options, notes: &mut Vec<String>) -> Vec<Measure> {
    let site = Site::start().await;
    let command = command_of(options).await;
    let peer = rig::peer(options, &command).await;
    notes.push(rig::peer_note(&peer));
    if let Ok(peer) = peer {
        peer.stop().await;
    }
    let mut measures = Vec::new();
    let sizes =
        [(1, options.rounds(40, 3)), (10, options.rounds(8, 1)), (50, options.rounds(3, 0))];
    for (many, rounds) in sizes.into_iter().filter(|(_, rounds)| *rounds > 0) {
        let (takes, there) = (u64::from(many) * EACH_MIB, machine::available_mib());
        if takes > there {
            notes.push(format!(
                "{many} at once were left out: they would take {takes} MiB, and {there} are free."
            ));
            continue;
        }
        let stages = at_once(options, &command, &site.url, (many, rounds)).await;
        if let Some(first) = stages.failed.first() {
            let failed = stages.failed.len();
            notes.push(format!("{failed} sessions at {many} at once failed, the first: {first}."));
        }
        measures.extend(stages.samples.into_iter().map(Samples::done));
    }
    notes.push(
        "Create is the 201 of a session and the open port of Chrome; browserless starts a browser \
         when one connects. Release is the 204, and for the others the end of the processes or of \
         the connection."
            .into(),
    );
    measures
}
