//! How many sessions control planes can create, beside what the database could do if nothing
//! else had to be done: `pgbench` writing the same rows.
//!
//! All share one machine and take turns, round by round, so that what disturbs one disturbs the
//! next. A line shows the median of the rounds with its noise (the median distance from the
//! median), and the median of the rounds' own ratios. Agents are simulated: they have no
//! browsers, so a create costs what the control plane and its store cost.

use std::time::Duration;

use clap::Parser;
use harness::{
    cpu::{self, Postgres},
    figures::{Median, millis, percentile},
    fleet,
    load::{self, Made, Until},
    pgbench::Pgbench,
    population,
    simulated_fleet::SimulatedFleet,
};
use tokio::time::Instant;

/// Compares creates with `pgbench`.
#[derive(Debug, Parser)]
struct Options {
    /// Rounds of each
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a round
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Clients at once for each replica: as many connections as `pgbench` opens, which is as
    /// many as a replica has
    #[arg(long, default_value_t = 20)]
    clients: usize,
    /// Creates a second when the cost of one is measured
    #[arg(long, default_value_t = 50.0)]
    steady: f64,
    /// Measure only what creates cost in fleets of several sizes
    #[arg(long)]
    only_cost: bool,
    /// Measure only how many creates there can be
    #[arg(long)]
    only_rates: bool,
}

/// Agents where their number is not what is measured: so many that creates do not queue for them.
const ENOUGH: [u32; 100] = [1_000; 100];

#[tokio::main]
async fn main() {
    let options = Options::parse();
    if !options.only_cost {
        rates(&options).await;
    }
    if !options.only_rates {
        cost(&options).await;
    }
}

/// One of those that take turns.
struct Side {
    name: &'static str,
    fleet: SimulatedFleet,
    clients: usize,
    rates: Vec<f64>,
    /// By what `pgbench` did in the same round.
    ratios: Vec<f64>,
    full: Vec<Duration>,
    used: Used,
}

/// CPU time of control planes, PostgreSQL, and of this process: clients and agents.
#[derive(Clone, Copy, Default)]
struct Used([Duration; 3]);

impl Used {
    fn now(fleet: &SimulatedFleet, postgres: Postgres) -> Self {
        Self([fleet.cpu(), postgres.used(), cpu::of_this()])
    }

    fn since(self, before: Self) -> Self {
        Self(std::array::from_fn(|n| self.0[n].saturating_sub(before.0[n])))
    }

    fn and(self, more: Self) -> Self {
        Self(std::array::from_fn(|n| self.0[n] + more.0[n]))
    }

    /// In milliseconds for each of so many.
    fn each(self, count: usize) -> [f64; 3] {
        #[expect(clippy::cast_precision_loss, reason = "there are not that many")]
        let count = count.max(1) as f64;
        self.0.map(|used| millis(used) / count)
    }
}

impl Side {
    fn new(name: &'static str, fleet: SimulatedFleet, clients: usize) -> Self {
        let clients = clients * fleet.servers.len();
        Self {
            name,
            fleet,
            clients,
            rates: vec![],
            ratios: vec![],
            full: vec![],
            used: Used::default(),
        }
    }

    /// Creates as fast as it can, then releases everything, which is not measured.
    async fn round(&mut self, postgres: Postgres, span: Duration) -> f64 {
        let apis = self.fleet.apis();
        let before = Used::now(&self.fleet, postgres);
        let made = load::at_once(&apis, self.clients, Until::Over(span)).await;
        self.used = self.used.and(Used::now(&self.fleet, postgres).since(before));
        let rate = made.rate();
        self.full.extend(made.times);
        load::release(&apis, made.ids, self.clients).await;
        rate
    }

    /// Half of the creates that it can do, by a schedule.
    async fn at_half(&self, span: Duration) -> Made {
        let apis = self.fleet.apis();
        let rate = Median::of(&self.rates).value / 2.0;
        let mut made = load::on_schedule(&apis, rate, span).await;
        load::release(&apis, std::mem::take(&mut made.ids), self.clients).await;
        made
    }
}

/// Creates a second in full load, and how long each takes in half of it.
async fn rates(options: &Options) {
    let span = Duration::from_secs(options.seconds);
    let (one, two) = (fleet::database().await, fleet::database().await);
    let mut sides = [
        Side::new("PostgreSQL, one replica", fleet_of(&one, 1).await, options.clients),
        Side::new("PostgreSQL, two replicas", fleet_of(&two, 2).await, options.clients),
        Side::new("SQLite", SimulatedFleet::on_sqlite(&ENOUGH).await, options.clients),
    ];
    let mut pgbench = Pgbench::start().await;
    let postgres = Postgres::of(&one).await;
    let mut writes = Vec::new();
    // the first round only warms up
    for round in 0..=options.rounds {
        let mut turn = Vec::new();
        for side in &mut sides {
            turn.push(side.round(postgres, span).await);
        }
        let write = pgbench.run(options.clients, span).await;
        if round > 0 {
            writes.push(write);
            for (side, rate) in sides.iter_mut().zip(turn) {
                side.rates.push(rate);
                side.ratios.push(rate / write);
            }
        } else {
            for side in &mut sides {
                side.full.clear();
                side.used = Used::default();
            }
        }
    }
    println!(
        "\n  {:<28}{:>12}{:>18}{:>12}{:>12}   CPU of a create: control plane, PostgreSQL, clients",
        "creates", "/s", "by pgbench", "p50", "p99"
    );
    for side in &sides {
        let (rate, ratio) = (Median::of(&side.rates), Median::of(&side.ratios));
        let [control, store, own] = side.used.each(side.full.len());
        println!(
            "  {:<28}{:>7.0} ±{:>2.0} %{:>11.2} ±{:>2.0} %{:>9.1} ms{:>9.1} ms{:>20.2}{:>7.2}{:>7.2} ms",
            side.name,
            rate.value,
            rate.noise * 100.0,
            ratio.value,
            ratio.noise * 100.0,
            percentile(&side.full, 50),
            percentile(&side.full, 99),
            control,
            store,
            own,
        );
    }
    let write = Median::of(&writes);
    println!("  {:<28}{:>7.0} ±{:>2.0} %", "pgbench", write.value, write.noise * 100.0);
    println!(
        "\n  {:<28}{:>12}{:>20}{:>12}{:>12}",
        "half of that, by a schedule", "/s", "", "p50", "p99"
    );
    for side in sides {
        let made = side.at_half(span * 2).await;
        println!(
            "  {:<28}{:>12.0}{:>18}{:>9.1} ms{:>9.1} ms",
            side.name,
            Median::of(&side.rates).value / 2.0,
            "",
            percentile(&made.times, 50),
            percentile(&made.times, 99),
        );
        side.fleet.stop().await;
    }
    let times = pgbench.on_schedule(options.clients, write.value / 2.0, span * 2).await;
    println!(
        "  {:<28}{:>12.0}{:>18}{:>9.1} ms{:>9.1} ms",
        "pgbench",
        write.value / 2.0,
        "",
        percentile(&times, 50),
        percentile(&times, 99),
    );
    println!(
        "\n  Medians of {} rounds of {} s ± noise (median distance from the median). {} connections \
         for each replica and for pgbench.",
        options.rounds, options.seconds, options.clients
    );
}

async fn fleet_of(database: &str, replicas: usize) -> SimulatedFleet {
    SimulatedFleet::start(database, replicas, &ENOUGH).await
}

/// What a create costs in a small and a large fleet, with few and many sessions. The first one
/// is measured once more at the end: what differs there is noise.
async fn cost(options: &Options) {
    println!(
        "\n  {:<28}{:>14}{:>14}{:>14}{:>12}{:>12}{:>16}",
        format!("a create, {} a second", options.steady),
        "control plane",
        "PostgreSQL",
        "clients",
        "p50",
        "p99",
        "the fleet alone"
    );
    for (agents, live) in [(10, 100), (1_000, 100), (10, 50_000), (1_000, 100_000), (10, 100)] {
        let database = fleet::database().await;
        let room = u32::try_from(live / agents * 2 + 1_000).expect("a few sessions");
        let fleet = SimulatedFleet::start(&database, 1, &vec![room.min(10_000); agents]).await;
        population::add(&database, &fleet.agents, live).await;
        println!(
            "  {:<28}{}",
            format!("{agents} agents, {live} live"),
            steady(options, &fleet, &database).await
        );
        fleet.stop().await;
    }
    println!(
        "\n  CPU time of each, over that of the fleet while nothing is created, which is shown last."
    );
}

/// Creates at a steady pace, beside the same fleet without them.
async fn steady(options: &Options, fleet: &SimulatedFleet, database: &str) -> String {
    let span = Duration::from_secs(options.seconds * 2);
    let postgres = Postgres::of(database).await;
    let used = || Used::now(fleet, postgres);
    let apis = fleet.apis();
    // Connections and plans are there, and what came with so many rows at once is over.
    load::on_schedule(&apis, options.steady, span / 2).await;
    let (began, before) = (Instant::now(), used());
    tokio::time::sleep(span).await;
    let idle = used().since(before);
    let idle_for = began.elapsed();
    let (began, before) = (Instant::now(), used());
    let made = load::on_schedule(&apis, options.steady, span).await;
    let loaded_for = began.elapsed().as_secs_f64() / idle_for.as_secs_f64();
    let (count, used) = (made.ids.len(), used().since(before));
    let alone = idle.each(count).map(|each| each * loaded_for);
    let [control, store, own] = std::array::from_fn(|n| used.each(count)[n] - alone[n]);
    let share = millis(idle.0[0] + idle.0[1]) / millis(idle_for) * 100.0;
    format!(
        "{control:>11.2} ms{store:>11.2} ms{own:>11.2} ms{:>9.1} ms{:>9.1} ms{share:>13.0} %",
        percentile(&made.times, 50),
        percentile(&made.times, 99),
    )
}
