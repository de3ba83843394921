//! What Ventus costs, measured beside what it is compared with: Chrome's own WebSocket, Chrome's
//! bare pipe, a relay that does nothing, browserless, `pgbench`.
//!
//! Sides take turns on one machine with the same browser and flags, round by round, so that what
//! disturbs one disturbs the next. A figure is the median of the rounds with its noise (the
//! median distance from it), a ratio the median of the rounds' own ratios. p95 and p99 are over
//! all samples. No time is asserted: figures go to `result.json` and to a page with plots.

mod api;
mod cdp;
mod cost;
mod creates;
mod fleets;
mod lifecycle;
mod link;
mod machine;
mod page;
mod peer;
mod plots;
mod relay;
mod report;
mod rig;
mod scripts;

use std::{path::PathBuf, pin::pin};

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use harness::server::Plan;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use self::{
    machine::Taken,
    report::{Measure, Report, Section},
};

/// Measures what Ventus costs.
#[derive(Debug, Parser)]
struct Options {
    /// Only these sections; the others stay as they were measured before
    #[arg(long, value_delimiter = ',')]
    only: Vec<Name>,
    /// Few rounds of little: to see that it works
    #[arg(long)]
    quick: bool,
    /// Rounds, in place of each section's own number
    #[arg(long)]
    rounds: Option<usize>,
    /// Where `performance.md` is, and `performance/` with result and plots
    #[arg(long, default_value = "target/bench")]
    into: PathBuf,
    /// Measure nothing: write the page anew from the result that is there
    #[arg(long)]
    page: bool,
    /// The browser's binary
    #[arg(long)]
    browser: Option<String>,
    /// Leave browserless out
    #[arg(long)]
    no_peer: bool,
    /// Be the relay of another run, which starts this
    #[arg(long, hide = true)]
    relay: bool,
}

/// The sections, in the order of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Talking to a browser
    Cdp,
    /// Whole scripts
    Scripts,
    /// From create to release
    Lifecycle,
    /// CPU time and memory
    Cost,
    /// Get and list
    Api,
    /// Creates, beside pgbench
    Creates,
    /// Creates in small and large fleets
    Fleets,
}

impl Name {
    /// As it is kept, and as it is headed.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Cdp => ("cdp", "Talking to a browser"),
            Self::Scripts => ("scripts", "Scripts"),
            Self::Lifecycle => ("lifecycle", "From create to release"),
            Self::Cost => ("cost", "CPU time and memory"),
            Self::Api => ("api", "Reading sessions"),
            Self::Creates => ("creates", "Creating sessions"),
            Self::Fleets => ("fleets", "Creating sessions in fleets"),
        }
    }

    const fn takes_postgres(self) -> bool {
        matches!(self, Self::Api | Self::Creates | Self::Fleets)
    }

    async fn run(self, options: &Options, notes: &mut Vec<String>) -> Vec<Measure> {
        match self {
            Self::Cdp => cdp::run(options, notes).await,
            Self::Scripts => scripts::run(options, notes).await,
            Self::Lifecycle => lifecycle::run(options, notes).await,
            Self::Cost => cost::run(options, notes).await,
            Self::Api => api::run(options, notes).await,
            Self::Creates => creates::run(options, notes).await,
            Self::Fleets => fleets::run(options, notes).await,
        }
    }
}

impl Options {
    /// How many rounds: of a whole run, of a short one.
    fn rounds(&self, whole: usize, quick: usize) -> usize {
        self.rounds.unwrap_or(if self.quick { quick } else { whole })
    }

    /// Has a server launch the chosen browser.
    fn browser(&self, plan: Plan) -> Plan {
        match &self.browser {
            Some(browser) => plan.flag("browser", browser),
            None => plan,
        }
    }

    fn sections(&self) -> Vec<Name> {
        let wanted = |name: &Name| self.only.is_empty() || self.only.contains(name);
        Name::value_variants().iter().copied().filter(wanted).collect()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand")]
fn count_of(count: f64) -> u32 {
    count as u32
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    if options.relay {
        return relay::run();
    }
    let kept = options.into.join("performance");
    std::fs::create_dir_all(&kept)?;
    let result = kept.join("result.json");
    let mut report = Report::read(&result)?;
    if !options.page {
        let postgres = std::env::var_os("VENTUS_TEST_POSTGRES").is_some();
        for name in options.sections().into_iter().filter(|name| name.takes_postgres()) {
            let name = name.names().0;
            ensure!(postgres, "section {name} takes PostgreSQL: run through tests/with-postgres");
        }
        for name in options.sections() {
            let mut section = pin!(measured(name, &options));
            let section = tokio::select! {
                section = &mut section => section,
                // As a section ends that fails: servers that are dropped then are killed.
                () = interrupted() => panic!("interrupted"),
            };
            report.sections.insert(name.names().0.into(), section);
            // A later section that fails takes nothing from this one.
            report.write(&result)?;
        }
    }
    page::write(&report, &options.into)?;
    println!("{}", page::text(&report, &options.sections()));
    Ok(())
}

/// Until somebody wants it to end.
async fn interrupted() {
    let signal = |kind| signal(kind).expect("signals can be waited for");
    let mut terminate = signal(SignalKind::terminate());
    let mut interrupt = signal(SignalKind::interrupt());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn measured(name: Name, options: &Options) -> Section {
    eprint!("{} ", name.names().0);
    let began = Instant::now();
    let mut taken = Taken::now(&machine::browser(options.browser.as_deref()), options.quick);
    let mut notes = Vec::new();
    let measures = name.run(options, &mut notes).await;
    taken.seconds = began.elapsed().as_secs();
    eprintln!(" {} s", taken.seconds);
    Section { taken, measures, notes }
}
