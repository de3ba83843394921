//! What talking to a browser costs, over each side: round trips, pipelined commands, large
//! results and arguments, screenshots, floods of events.

use std::time::Duration;

use harness::figures::millis;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::{
    Options, count_of,
    link::{Level, Link},
    report::{Better, Figure, Measure, Samples},
    rig::{self, LESS_THAN_PEER, Rig, Side},
};

/// How long one measure of one round may take.
const LIMIT: Duration = Duration::from_secs(120);
const KB: usize = 1 << 10;
const MB: usize = 1 << 20;

/// What is measured over an open connection.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// One command after another.
    RoundTrip(Level),
    /// So many commands in flight.
    Pipelined(u32),
    /// A result of so many bytes.
    Result(usize),
    /// An argument of so many bytes.
    Argument(usize),
    /// Of the page that is shown.
    Screenshot,
    /// Events with so many bytes of text each, as fast as the page makes them.
    Flood(usize),
}

impl What {
    const ALL: [Self; 19] = [
        Self::RoundTrip(Level::Browser),
        Self::RoundTrip(Level::Page),
        Self::Pipelined(1),
        Self::Pipelined(8),
        Self::Pipelined(64),
        Self::Pipelined(512),
        Self::Result(KB),
        Self::Result(64 * KB),
        Self::Result(MB),
        Self::Result(8 * MB),
        Self::Result(50 * MB),
        Self::Argument(KB),
        Self::Argument(64 * KB),
        Self::Argument(MB),
        Self::Argument(8 * MB),
        Self::Argument(50 * MB),
        Self::Screenshot,
        Self::Flood(10),
        Self::Flood(4 * KB),
    ];

    /// What it is called, in which unit, and what it is to be.
    fn samples(self) -> Samples {
        let (less, more) = (Better::Less, Better::More);
        let samples = match self {
            Self::RoundTrip(Level::Browser) => Samples::new("round trip, browser", "µs", less),
            Self::RoundTrip(Level::Page) => Samples::new("round trip, page", "µs", less),
            Self::Pipelined(depth) => Samples::new(format!("{depth} in flight"), "/s", more)
                .at("commands in flight", f64::from(depth)),
            Self::Result(size) => Samples::new(format!("result, {}", shown(size)), "MB/s", more)
                .at("size of a result", exact(size)),
            Self::Argument(size) => {
                Samples::new(format!("argument, {}", shown(size)), "MB/s", more)
                    .at("size of an argument", exact(size))
            }
            Self::Screenshot => Samples::new("screenshot", "ms", less),
            Self::Flood(size) => Samples::new(format!("events of {}", shown(size)), "/s", more),
        };
        let samples = samples.among(Side::ALL.map(Side::name)).by(Side::Direct.name());
        let samples = samples.aim(Side::Ventus.name(), Figure::PeerAdds, LESS_THAN_PEER);
        let aim = match self {
            Self::RoundTrip(_) => Some(1.1),
            Self::Pipelined(_) | Self::Result(_) | Self::Argument(_) => Some(1.0),
            Self::Screenshot | Self::Flood(_) => None,
        };
        match aim {
            Some(bound) => samples.aim(Side::Ventus.name(), Figure::Ratio, bound),
            None => samples,
        }
    }

    /// The samples of one round. `scale` is 1, and less for a short run.
    pub async fn measure(self, link: &mut Link, scale: f64) -> Vec<f64> {
        let times = |count: f64| count_of((count * scale).ceil().max(1.0));
        match self {
            Self::RoundTrip(level) => {
                let times = one_by_one(link, level, &tiny(level), times(300.0)).await;
                times.into_iter().map(|time| time.as_secs_f64() * 1e6).collect()
            }
            Self::Pipelined(depth) => {
                let count = times(if depth == 1 { 500.0 } else { 3_000.0 });
                vec![f64::from(count) / pipelined(link, depth, count).await.as_secs_f64()]
            }
            Self::Result(size) => {
                let large =
                    json!({ "expression": format!("'x'.repeat({size})"), "returnByValue": true });
                rates(link, &large, size, times(repeats(size))).await
            }
            Self::Argument(size) => {
                let large = json!({ "expression": format!("'{}'.length", "x".repeat(size)) });
                rates(link, &large, size, times(repeats(size))).await
            }
            Self::Screenshot => {
                let png = ("Page.captureScreenshot", json!({ "format": "png" }));
                let times = one_by_one(link, Level::Page, &png, times(3.0)).await;
                times.into_iter().map(millis).collect()
            }
            Self::Flood(size) => {
                let count = times(if size > KB { 1_000.0 } else { 5_000.0 });
                vec![f64::from(count) / flood(link, size, count).await.as_secs_f64()]
            }
        }
    }
}

/// How often a size is repeated in a round: about as many bytes, but for the largest.
fn repeats(size: usize) -> f64 {
    (exact(4 * MB) / exact(size)).clamp(1.0, 100.0)
}

#[expect(clippy::cast_precision_loss, reason = "sizes are small")]
fn exact(size: usize) -> f64 {
    size as f64
}

fn shown(size: usize) -> String {
    match size {
        MB.. => format!("{} MB", size / MB),
        KB.. => format!("{} KB", size / KB),
        _ => format!("{size} B"),
    }
}

fn tiny(level: Level) -> (&'static str, Value) {
    match level {
        Level::Browser => ("Browser.getVersion", json!({})),
        Level::Page => ("Runtime.evaluate", json!({ "expression": "1" })),
    }
}

/// The time of each of so many commands, sent one after another.
async fn one_by_one(
    link: &mut Link,
    level: Level,
    (method, params): &(&str, Value),
    count: u32,
) -> Vec<Duration> {
    let prepared: Vec<_> = (0..count).map(|_| link.command(level, method, params)).collect();
    let mut times = Vec::new();
    for command in prepared {
        let begun = Instant::now();
        link.exchange(command).await;
        times.push(begun.elapsed());
    }
    times
}

/// The time of so many commands, with `depth` of them in flight. For each answer that is there
/// the next command goes out, all of them in one write.
pub async fn pipelined(link: &mut Link, depth: u32, count: u32) -> Duration {
    let one = json!({ "expression": "1" });
    let mut waiting: Vec<_> =
        (0..count).map(|_| link.command(Level::Page, "Runtime.evaluate", &one).1).collect();
    let begun = Instant::now();
    let mut may_go = depth;
    let mut to_come = count;
    while to_come > 0 {
        for text in (0..may_go).map_while(|_| waiting.pop()).collect::<Vec<_>>() {
            link.feed(text).await;
        }
        link.flush().await;
        may_go = u32::from(link.next().await.is_answer());
        while let Some(got) = link.ready() {
            may_go += u32::from(got.is_answer());
        }
        to_come -= may_go;
    }
    begun.elapsed()
}

/// Megabytes a second of each of so many commands or answers of this size.
async fn rates(link: &mut Link, large: &Value, size: usize, count: u32) -> Vec<f64> {
    let command = ("Runtime.evaluate", large.clone());
    let times = one_by_one(link, Level::Page, &command, count).await;
    times.into_iter().map(|time| exact(size) / 1e6 / time.as_secs_f64()).collect()
}

/// The time until so many messages of the page's console have come.
async fn flood(link: &mut Link, size: usize, count: u32) -> Duration {
    link.call(Level::Page, "Runtime.enable", json!({})).await;
    let expression =
        format!("for (let n = 0, x = 'x'.repeat({size}); n < {count}; n++) console.log(x)");
    let (id, text) =
        link.command(Level::Page, "Runtime.evaluate", &json!({ "expression": expression }));
    let begun = Instant::now();
    link.feed(text).await;
    link.flush().await;
    let mut seen = 0;
    let answer = format!("{{\"id\":{id},");
    let mut answered = false;
    while !answered || seen < count {
        let got = link.next().await;
        answered |= got.bytes().starts_with(answer.as_bytes());
        seen += u32::from(got.bytes().starts_with(b"{\"method\":\"Runtime.consoleAPICalled\""));
    }
    let elapsed = begun.elapsed();
    link.call(Level::Page, "Runtime.disable", json!({})).await;
    link.call(Level::Page, "Runtime.discardConsoleEntries", json!({})).await;
    elapsed
}

/// All sides at once, measured in turns: the order changes with the round.
pub async fn run(options: &Options, notes: &mut Vec<String>) -> Vec<Measure> {
    let mut rig = Rig::start(options).await;
    notes.push(rig::peer_note(&rig.peer));
    let mut links = rig.links().await;
    let mut samples: Vec<_> = What::ALL.iter().map(|what| what.samples()).collect();
    let scale = if options.quick { 0.1 } else { 1.0 };
    // the first round only warms up
    for round in 0..=options.rounds(21, 3) {
        for (what, samples) in What::ALL.iter().zip(&mut samples) {
            for (side, link) in &mut links {
                let measured = timeout(LIMIT, what.measure(link, scale)).await;
                let measured = measured
                    .unwrap_or_else(|_| panic!("{what:?} on {} took too long", side.name()));
                if round > 0 {
                    samples.add(side.name(), measured);
                }
            }
        }
        links.rotate_left(1);
        eprint!(".");
    }
    for (_, link) in links {
        link.close().await;
    }
    rig.stop().await;
    samples.into_iter().map(Samples::done).collect()
}
