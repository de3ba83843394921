//! What a create costs in a small and a large fleet, with few and many sessions that run. The
//! first fleet is measured once more at the end: what differs there is noise.

use std::time::Duration;

use harness::{
    cpu::Postgres, figures::millis, fleet, load, population, simulated_fleet::SimulatedFleet,
};
use tokio::time::{Instant, sleep};

use crate::{
    Options,
    creates::{USERS, Used},
    report::{Better, Measure, Samples},
};

/// Creates a second.
const STEADY: f64 = 50.0;
/// Agents, and sessions that run.
const FLEETS: [(usize, usize); 5] =
    [(10, 100), (1_000, 100), (10, 50_000), (1_000, 100_000), (10, 100)];

/// What was seen of one fleet.
struct Seen {
    /// CPU time of a create in milliseconds, over what the fleet takes without one.
    each: [f64; 3],
    times: Vec<f64>,
    /// Share of one processor that the fleet takes without creates, in per cent.
    alone: f64,
}

/// Creates at a steady pace, beside the same fleet without them.
async fn steady(fleet: &SimulatedFleet, database: &str, span: Duration) -> Seen {
    let postgres = Postgres::of(database).await;
    let used = || Used::now(fleet, postgres);
    let apis = fleet.apis();
    // Connections and plans are there, and what came with so many rows at once is over.
    load::on_schedule(&apis, STEADY, span / 2).await;
    let (began, before) = (Instant::now(), used());
    sleep(span).await;
    let idle = used().since(before);
    let idle_for = began.elapsed();
    let (began, before) = (Instant::now(), used());
    let made = load::on_schedule(&apis, STEADY, span).await;
    let loaded_for = began.elapsed().as_secs_f64() / idle_for.as_secs_f64();
    let (count, used) = (made.ids.len(), used().since(before));
    let alone = idle.each(count).map(|each| each * loaded_for);
    Seen {
        each: std::array::from_fn(|n| used.each(count)[n] - alone[n]),
        times: made.times.into_iter().map(millis).collect(),
        alone: millis(idle.0[0] + idle.0[1]) / millis(idle_for) * 100.0,
    }
}

/// One fleet after another.
pub async fn run(options: &Options, notes: &mut Vec<String>) -> Vec<Measure> {
    let span = Duration::from_secs(if options.quick { 2 } else { 8 });
    let mut cpu =
        USERS.map(|who| Samples::new(format!("CPU of a create, {who}"), "ms", Better::Less));
    let mut times = Samples::new("a create", "ms", Better::Less);
    let mut alone = Samples::new("CPU of the fleet without creates", "%", Better::Less);
    let fleets = if options.quick { &FLEETS[..1] } else { &FLEETS[..] };
    for (n, (agents, live)) in fleets.iter().enumerate() {
        let again = if n > 0 && FLEETS[n] == FLEETS[0] { ", again" } else { "" };
        let name = format!("{agents} agents, {live} live{again}");
        let database = fleet::database().await;
        let room = u32::try_from(live / agents * 2 + 1_000).expect("a few sessions");
        let fleet = SimulatedFleet::start(&database, 1, &vec![room.min(10_000); *agents]).await;
        population::add(&database, &fleet.agents, *live).await;
        let seen = steady(&fleet, &database, span).await;
        for (samples, each) in cpu.iter_mut().zip(seen.each) {
            samples.add(&name, vec![each]);
        }
        times.add(&name, seen.times);
        alone.add(&name, vec![seen.alone]);
        fleet.stop().await;
        eprint!(".");
    }
    notes.push(format!(
        "{STEADY} creates a second. CPU time is over that of the same fleet without creates, which \
         is control plane and PostgreSQL as a share of one processor."
    ));
    [times, alone].into_iter().chain(cpu).map(Samples::done).collect()
}
