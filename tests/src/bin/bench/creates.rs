//! How many sessions control planes can create, beside what the database could do if nothing
//! else had to be done: `pgbench` writing the same rows.
//!
//! All share one machine and take turns, round by round, so that what disturbs one disturbs the
//! next. Agents are simulated: they have no browsers, so a create costs what the control plane
//! and its store cost.

use std::time::Duration;

use harness::{
    cpu::{self, Postgres},
    figures::{Median, millis},
    fleet, load,
    load::{Made, Until},
    pgbench::Pgbench,
    simulated_fleet::SimulatedFleet,
};

use crate::{
    Options,
    report::{Better, Measure, Samples},
};

/// Agents where their number is not what is measured: so many that creates do not queue for them.
const ENOUGH: [u32; 100] = [1_000; 100];
/// Clients at once for each replica: as many connections as `pgbench` opens, which is as many as
/// a replica has.
const CLIENTS: usize = 20;
const PGBENCH: &str = "pgbench";

/// One of those that take turns.
struct Side {
    name: &'static str,
    fleet: SimulatedFleet,
    clients: usize,
    rates: Vec<f64>,
}

/// CPU time of control planes, PostgreSQL, and of this process: clients and agents.
#[derive(Clone, Copy, Default)]
pub struct Used(pub [Duration; 3]);

/// What the parts of [`Used`] are called.
pub const USERS: [&str; 3] = ["control plane", "PostgreSQL", "clients and agents"];

impl Used {
    pub fn now(fleet: &SimulatedFleet, postgres: Postgres) -> Self {
        Self([fleet.cpu(), postgres.used(), cpu::of_this()])
    }

    pub fn since(self, before: Self) -> Self {
        Self(std::array::from_fn(|n| self.0[n].saturating_sub(before.0[n])))
    }

    /// In milliseconds for each of so many.
    pub fn each(self, count: usize) -> [f64; 3] {
        let count = u32::try_from(count.max(1)).map_or(f64::INFINITY, f64::from);
        self.0.map(|used| millis(used) / count)
    }
}

impl Side {
    fn new(name: &'static str, fleet: SimulatedFleet) -> Self {
        let clients = CLIENTS * fleet.servers.len();
        Self { name, fleet, clients, rates: vec![] }
    }

    /// Creates as fast as it can, then releases everything, which is not measured.
    async fn round(&mut self, postgres: Postgres, span: Duration) -> (Made, [f64; 3]) {
        let apis = self.fleet.apis();
        let before = Used::now(&self.fleet, postgres);
        let mut made = load::at_once(&apis, self.clients, Until::Over(span)).await;
        let used = Used::now(&self.fleet, postgres).since(before).each(made.times.len());
        load::release(&apis, std::mem::take(&mut made.ids), self.clients).await;
        (made, used)
    }

    /// Half of the creates that it can do, by a schedule.
    async fn at_half(&self, span: Duration) -> Vec<Duration> {
        let apis = self.fleet.apis();
        let rate = Median::of(&self.rates).value / 2.0;
        let made = load::on_schedule(&apis, rate, span).await;
        load::release(&apis, made.ids, self.clients).await;
        made.times
    }
}

/// Creates a second in full load, and how long each takes in full and in half load.
pub async fn run(options: &Options, notes: &mut Vec<String>) -> Vec<Measure> {
    let span = Duration::from_secs(if options.quick { 1 } else { 4 });
    let (one, two) = (fleet::database().await, fleet::database().await);
    let mut sides = [
        Side::new("PostgreSQL, one replica", fleet_of(&one, 1).await),
        Side::new("PostgreSQL, two replicas", fleet_of(&two, 2).await),
        Side::new("SQLite", SimulatedFleet::on_sqlite(&ENOUGH).await),
    ];
    let mut pgbench = Pgbench::start().await;
    let postgres = Postgres::of(&one).await;
    let names = sides.each_ref().map(|side| side.name);
    let samples = |what: &str, unit: &str, better| {
        Samples::new(what, unit, better).among(names.into_iter().chain([PGBENCH]))
    };
    let mut rates = samples("creates", "/s", Better::More).by(PGBENCH);
    let mut full = samples("a create in full load", "ms", Better::Less);
    let mut cpu = USERS.map(|who| samples(&format!("CPU of a create, {who}"), "ms", Better::Less));
    let mut writes = Vec::new();
    // the first round only warms up
    for round in 0..=options.rounds(5, 2) {
        for side in &mut sides {
            let (made, used) = side.round(postgres, span).await;
            if round == 0 {
                continue;
            }
            // Released sessions are no longer in it: the times are as many.
            let rate = f64::from(u32::try_from(made.times.len()).unwrap_or(u32::MAX))
                / made.elapsed.as_secs_f64();
            side.rates.push(rate);
            rates.add(side.name, vec![rate]);
            full.add(side.name, made.times.into_iter().map(millis).collect());
            for (samples, used) in cpu.iter_mut().zip(used) {
                samples.add(side.name, vec![used]);
            }
        }
        let write = pgbench.run(CLIENTS, span).await;
        if round > 0 {
            writes.push(write);
            rates.add(PGBENCH, vec![write]);
        }
        sides.rotate_left(1);
        eprint!(".");
    }
    let mut half = samples("a create in half of that load", "ms", Better::Less).by(PGBENCH);
    for side in sides {
        half.add(side.name, side.at_half(span * 2).await.into_iter().map(millis).collect());
        side.fleet.stop().await;
    }
    let write = Median::of(&writes).value / 2.0;
    let times = pgbench.on_schedule(CLIENTS, write, span * 2).await;
    half.add(PGBENCH, times.into_iter().map(millis).collect());
    notes.push(format!(
        "{CLIENTS} clients for each replica and for pgbench, which writes the same rows and does \
         nothing else. Rounds of {} s. Agents have no browsers.",
        span.as_secs()
    ));
    [rates, full, half].into_iter().chain(cpu).map(Samples::done).collect()
}

async fn fleet_of(database: &str, replicas: usize) -> SimulatedFleet {
    SimulatedFleet::start(database, replicas, &ENOUGH).await
}
