//! Compares a connect URL with Chrome's own WebSocket, and creates with Chrome's own start.
//!
//! Both sides run at the same time on one machine, with the same Chrome and the same flags,
//! and are measured in turns: round by round, the first one changing. A line shows medians of
//! the rounds, each with its noise (the median distance from the median, in per cent), and the
//! median of the rounds' own ratios.

use std::{future::Future, time::Duration};

use anyhow::Result;
use clap::Parser;
use harness::{
    Chrome, Server,
    api::Api,
    cdp::Cdp,
    figures::{Median, millis},
    leftovers,
};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Compares a connect URL with Chrome's own WebSocket.
#[derive(Debug, Parser)]
struct Options {
    /// Rounds of the CDP measurements
    #[arg(long, default_value_t = 21)]
    rounds: usize,
    /// Sessions created for each kind of start
    #[arg(long, default_value_t = 15)]
    starts: usize,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// The browser's binary
    #[arg(long)]
    browser: Option<String>,
}

/// One connection to measure on, with a page.
struct Side {
    cdp: Cdp,
    page: String,
}

impl Side {
    async fn open(url: &str) -> Self {
        let mut cdp = Cdp::connect(url).await;
        let (_, page) = cdp.page("about:blank").await;
        Self { cdp, page }
    }

    /// Sends a prepared command and waits for its answer.
    async fn once(&mut self, on_page: bool, method: &str, params: Value) {
        let page = on_page.then(|| self.page.clone());
        let (id, text) = self.cdp.command(page.as_deref(), method, params);
        self.cdp.send(text).await;
        self.cdp.answer(id).await;
    }

    async fn measure(&mut self, what: What) -> Duration {
        match what {
            What::BrowserRoundTrip => {
                self.repeated(ROUND_TRIPS, false, "Browser.getVersion", json!({})).await
            }
            What::PageRoundTrip => {
                let one = json!({ "expression": "1" });
                self.repeated(ROUND_TRIPS, true, "Runtime.evaluate", one).await
            }
            What::Pipelined => self.pipelined().await,
            What::Result => {
                let large = json!({ "expression": "'x'.repeat(8 << 20)", "returnByValue": true });
                self.repeated(3, true, "Runtime.evaluate", large).await
            }
            What::Argument => {
                let large = format!("'{}'.length", "x".repeat(8 << 20));
                self.repeated(3, true, "Runtime.evaluate", json!({ "expression": large })).await
            }
            What::Screenshot => {
                self.repeated(3, true, "Page.captureScreenshot", json!({ "format": "png" })).await
            }
        }
    }

    /// The mean time of one command, over some sent one after another.
    async fn repeated(
        &mut self,
        times: u32,
        on_page: bool,
        method: &str,
        params: Value,
    ) -> Duration {
        let page = on_page.then(|| self.page.clone());
        let mut prepared = Vec::new();
        for _ in 0..times {
            prepared.push(self.cdp.command(page.as_deref(), method, params.clone()));
        }
        let begun = Instant::now();
        for (id, text) in prepared {
            self.cdp.send(text).await;
            self.cdp.answer(id).await;
        }
        begun.elapsed() / times
    }

    /// The mean time of one command, over many in flight at once.
    async fn pipelined(&mut self) -> Duration {
        let page = self.page.clone();
        let mut prepared = Vec::new();
        for _ in 0..IN_FLIGHT {
            let one = json!({ "expression": "1" });
            prepared.push(self.cdp.command(Some(&page), "Runtime.evaluate", one));
        }
        let last = prepared.last().map_or(0, |(id, _)| *id);
        let begun = Instant::now();
        for (_, text) in prepared {
            self.cdp.send(text).await;
        }
        self.cdp.answer(last).await;
        begun.elapsed() / IN_FLIGHT
    }
}

const ROUND_TRIPS: u32 = 300;
const IN_FLIGHT: u32 = 2000;

/// What is measured over an open connection.
#[derive(Clone, Copy, Debug)]
enum What {
    BrowserRoundTrip,
    PageRoundTrip,
    Pipelined,
    Result,
    Argument,
    Screenshot,
}

impl What {
    const ALL: [Self; 6] = [
        Self::BrowserRoundTrip,
        Self::PageRoundTrip,
        Self::Pipelined,
        Self::Result,
        Self::Argument,
        Self::Screenshot,
    ];

    /// Name, unit, and the value of a time in that unit.
    const fn shown(self) -> (&'static str, &'static str, fn(Duration) -> f64) {
        match self {
            Self::BrowserRoundTrip => ("round trip, browser", "µs", micros),
            Self::PageRoundTrip => ("round trip, page", "µs", micros),
            Self::Pipelined => ("2000 commands in flight", "/s", rate),
            Self::Result => ("8 MB result", "MB/s", eight_megabytes),
            Self::Argument => ("8 MB argument", "MB/s", eight_megabytes),
            Self::Screenshot => ("screenshot", "ms", millis),
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn rate(time: Duration) -> f64 {
    1.0 / time.as_secs_f64()
}

fn eight_megabytes(time: Duration) -> f64 {
    8.388_608 / time.as_secs_f64()
}

fn json_of(median: Median) -> Value {
    json!({ "median": median.value, "noise": median.noise })
}

/// One line of the result.
#[derive(Debug)]
struct Line {
    name: &'static str,
    unit: &'static str,
    chrome: Median,
    ventus: Median,
    /// Ventus by Chrome, round by round.
    ratio: Median,
    aim: &'static str,
}

impl Line {
    fn new(
        name: &'static str,
        unit: &'static str,
        rounds: &[(f64, f64)],
        aim: &'static str,
    ) -> Self {
        let column = |pick: fn(&(f64, f64)) -> f64| rounds.iter().map(pick).collect::<Vec<_>>();
        Self {
            name,
            unit,
            chrome: Median::of(&column(|round| round.0)),
            ventus: Median::of(&column(|round| round.1)),
            ratio: Median::of(&column(|round| round.1 / round.0)),
            aim,
        }
    }

    fn text(&self) -> String {
        let with_noise = |m: Median| format!("{:>10.1} ±{:>4.1} %", m.value, m.noise * 100.0);
        format!(
            "  {:<28}{:<5}{}{}{:>9.2} ±{:>4.1} %   {}",
            self.name,
            self.unit,
            with_noise(self.chrome),
            with_noise(self.ventus),
            self.ratio.value,
            self.ratio.noise * 100.0,
            self.aim,
        )
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name, "unit": self.unit, "chrome": json_of(self.chrome),
            "ventus": json_of(self.ventus), "ratio": json_of(self.ratio),
        })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let mut lines = connections(&options).await;
    lines.extend(starts(&options).await);
    if options.json {
        let lines: Vec<_> = lines.iter().map(Line::json).collect();
        println!("{}", serde_json::to_string_pretty(&json!({ "lines": lines }))?);
    } else {
        println!("\n  {:<33}{:>19}{:>19}{:>18}   aim", "", "Chrome alone", "Ventus", "ratio");
        lines.iter().for_each(|line| println!("{}", line.text()));
        println!(
            "\n  Medians ± noise (median distance from the median). {} rounds, {} starts.",
            options.rounds, options.starts
        );
    }
    Ok(())
}

fn plan(options: &Options, capacity: u32, warm: u32) -> harness::server::Plan {
    let plan = Server::up().capacity(capacity, warm);
    match &options.browser {
        Some(browser) => plan.flag("browser", browser),
        None => plan,
    }
}

/// Both sides at once, each with one browser, measured in turns.
async fn connections(options: &Options) -> Vec<Line> {
    let server = plan(options, 1, 0).start().await;
    let session = server.api.create(json!({})).await;
    let chrome = Chrome::like(server.data()).await;
    let mut sides = [Side::open(&chrome.url).await, Side::open(session.connect_url()).await];
    let mut rounds = vec![Vec::new(); What::ALL.len()];
    // the first round only warms up
    for round in 0..=options.rounds {
        for (n, what) in What::ALL.into_iter().enumerate() {
            let mut times = [Duration::ZERO; 2];
            for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                times[side] = sides[side].measure(what).await;
            }
            let (_, _, value) = what.shown();
            if round > 0 {
                rounds[n].push((value(times[0]), value(times[1])));
            }
        }
    }
    drop(sides);
    drop(chrome);
    server.api.release(session.id()).await;
    server.stop().await;
    let line = |(what, rounds): (What, &Vec<_>)| {
        let (name, unit, _) = what.shown();
        let aim = match unit {
            "µs" => "≤ 1.15",
            "ms" => "≤ 1.00",
            _ => "≥ 1.00",
        };
        Line::new(name, unit, rounds, aim)
    };
    What::ALL.into_iter().zip(&rounds).map(line).collect()
}

/// How long it takes until there is a session, and until its first page has answered.
#[derive(Clone, Copy, Debug)]
struct Start {
    ready: Duration,
    first_result: Duration,
}

/// Opens a page and lets it calculate.
async fn first_result(url: &str) {
    let mut side = Side::open(url).await;
    side.once(true, "Runtime.evaluate", json!({ "expression": "6 * 7" })).await;
    side.cdp.close().await;
}

async fn start_session(api: &Api, at_rest: impl Future<Output = ()>) -> Start {
    at_rest.await;
    let begun = Instant::now();
    let session = api.create(json!({})).await;
    let ready = begun.elapsed();
    first_result(session.connect_url()).await;
    let start = Start { ready, first_result: begun.elapsed() };
    api.release(session.id()).await;
    start
}

/// Chrome's own start beside creates, warm and cold.
async fn starts(options: &Options) -> Vec<Line> {
    let warm = plan(options, 2, 1).start().await;
    let cold = plan(options, 1, 0).start().await;
    let (program, flags) = Chrome::command_of(warm.data()).await;
    let mut rounds = Vec::new();
    for round in 0..=options.starts {
        let chrome = Chrome::start(&program, flags.clone()).await;
        let mut cdp = Cdp::connect(&chrome.url).await;
        cdp.call(None, "Browser.getVersion", json!({})).await;
        let ready = chrome.begun.elapsed();
        first_result(&chrome.url).await;
        let alone = Start { ready, first_result: chrome.begun.elapsed() };
        drop(cdp);
        let folder = chrome.end();
        leftovers::no_process(folder.path(), None, leftovers::GRACE).await;
        let from_cold = start_session(&cold.api, cold.at_rest(0)).await;
        cold.at_rest(0).await;
        let from_warm = start_session(&warm.api, settled(&warm)).await;
        settled(&warm).await;
        if round > 0 {
            rounds.push((alone, from_cold, from_warm));
        }
    }
    for server in [warm, cold] {
        server.stop().await;
    }
    let line = |name, pick: fn(&(Start, Start, Start)) -> (Duration, Duration), aim| {
        let pairs = rounds.iter().map(pick).map(|(a, b)| (millis(a), millis(b)));
        Line::new(name, "ms", &pairs.collect::<Vec<_>>(), aim)
    };
    vec![
        line("create, cold → 201", |r| (r.0.ready, r.1.ready), "≤ Chrome + 30 ms"),
        line("create, cold → page result", |r| (r.0.first_result, r.1.first_result), ""),
        line("create, warm → 201", |r| (r.0.ready, r.2.ready), "≤ 10 ms"),
        line("create, warm → page result", |r| (r.0.first_result, r.2.first_result), ""),
    ]
}

/// Waits until the next browser is warm, not only started.
async fn settled(server: &Server) {
    server.at_rest(1).await;
    harness::eventually("a warm browser is ready", harness::PATIENCE, || async {
        let regions = server.api.get("/v1/regions").await;
        (regions.body["items"][0]["warm"] == 1).then_some(())
    })
    .await;
}
