//! A fleet as large as wanted: simulated agents that speak the real protocol to real control
//! planes over a real PostgreSQL. Its plan comes from a seed: how large each agent is, what each
//! client does next, and which agents die. Time, threads and the database are real, so two runs
//! of a plan differ in what overlaps with what.
//!
//! It goes through a life: the fleet fills, rests, is used, loses every tenth agent at once
//! while it is used. At the end database, agents and clients must tell the same story.

mod clients;
mod story;

use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use crate::{
    cpu::{self, Postgres},
    eventually,
    figures::{millis, percentile},
    fleet, load, population, rows,
    simulated_agent::SimulatedAgent,
    simulated_fleet::SimulatedFleet,
};

use self::{
    clients::Clients,
    story::{Lost, agree, untouched},
};

/// How large it is, and what its plan comes from.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Agents, over two replicas.
    pub agents: usize,
    /// Sessions that live at once, most of the time.
    pub sessions: usize,
    /// Those of them that are rows and known to their agents, but that nobody has made.
    pub by_rows: usize,
    /// Clients at once.
    pub clients: usize,
    /// What each of them does while the fleet is used, and again while agents die.
    pub steps: usize,
    /// What the plan comes from.
    pub seed: u64,
}

/// In how many parts the fleet fills, to see whether the last costs more than the first.
const PARTS: usize = 5;
/// How much longer than a lease (10 s) may pass until the last session of the agents that died
/// is over: a tick of the control plane, and a while for each session that has to be ended.
const GRACE: Duration = Duration::from_secs(3);
const GRACE_PER_SESSION: Duration = Duration::from_millis(4);
const LEASE: Duration = Duration::from_secs(10);

/// Runs it and prints its figures.
///
/// # Panics
///
/// When anything is not as it must be.
pub async fn run(size: Size) {
    println!("{size:?}");
    let mut rng = Rng::with_seed(size.seed);
    let database = fleet::database().await;
    let began = Instant::now();
    let mut fleet = SimulatedFleet::start(&database, 2, &capacities(size, &mut rng)).await;
    println!("{} agents are let in after {:.1} s", size.agents, began.elapsed().as_secs_f64());
    let postgres = Postgres::of(&database).await;

    let mut known = fill(&fleet, &database, size).await;
    spread(&fleet.agents);
    rest(&fleet, postgres).await;

    let mut clients = Clients::new(&fleet.apis(), size, &mut known, &mut rng);
    clients = used(clients, &fleet, postgres).await;

    rng.shuffle(&mut fleet.agents);
    let died: Vec<_> = fleet.agents.drain(..size.agents.div_ceil(10)).collect();
    let lost = Lost::new(died);
    let began = Instant::now();
    let at_work = tokio::spawn(clients.work());
    let limit = LEASE + GRACE + GRACE_PER_SESSION * u32::try_from(lost.sessions.len()).unwrap_or(0);
    eventually("what died holds no slot", limit, || async {
        lost.holds_no_slot(&database).await.then_some(())
    })
    .await;
    println!(
        "{} of {} agents died at once with {} sessions: all were over {:.1} s later",
        lost.agents.len(),
        size.agents,
        lost.sessions.len(),
        began.elapsed().as_secs_f64()
    );
    let clients = at_work.await.expect("clients that got what they asked for");
    known.extend(clients.holds());
    untouched(&database, &lost, &known, &clients.released()).await;
    agree(&database, &fleet.agents).await;
    let wrong = rows::wrong(&database, false).await;
    assert!(wrong.is_empty(), "wrong rows:\n{}", wrong.join("\n"));
    fleet.stop().await;
}

/// Agents differ by half, and have room for more than will live when every tenth is gone.
fn capacities(size: Size, rng: &mut Rng) -> Vec<u32> {
    let share = u32::try_from(size.sessions.div_ceil(size.agents)).expect("sessions of an agent");
    (0..size.agents).map(|_| rng.u32(share * 11 / 10..=share * 16 / 10)).collect()
}

/// Makes the sessions that are to live, part by part. Returns all of them.
async fn fill(fleet: &SimulatedFleet, database: &str, size: Size) -> Vec<String> {
    population::add(database, &fleet.agents, size.by_rows).await;
    let mut known: Vec<String> = fleet.agents.iter().flat_map(SimulatedAgent::runs).collect();
    let apis = fleet.apis();
    for part in 1..=PARTS {
        let wanted = size.by_rows + (size.sessions - size.by_rows) * part / PARTS;
        let until = load::Until::Count(wanted - known.len());
        let made = load::at_once(&apis, size.clients, until).await;
        println!(
            "creates until {wanted} live ({} clients): {:.0} placed/s, p50 {:.1} ms, p99 {:.1} ms",
            size.clients,
            made.rate(),
            percentile(&made.times, 50),
            percentile(&made.times, 99),
        );
        known.extend(made.ids);
    }
    known
}

/// How evenly the agents are used: the share of its slots that each has in use. Agents are chosen
/// by share among a few at random, so the least used one is never far behind: a tenth of its
/// slots, and one more as they are not divisible.
fn spread(agents: &[SimulatedAgent]) {
    let share = |agent: &SimulatedAgent| {
        #[expect(clippy::cast_precision_loss, reason = "an agent has few sessions")]
        let runs = agent.runs().len() as f64;
        (runs / f64::from(agent.capacity()), 1.0 / f64::from(agent.capacity()))
    };
    let mut shares: Vec<_> = agents.iter().map(share).collect();
    shares.sort_by(|a, b| a.0.total_cmp(&b.0));
    let ((least, one), (most, _)) = (shares[0], shares[shares.len() - 1]);
    println!(
        "spread: of their slots agents use {:.1} to {:.1} %, most by least {:.2}",
        least * 100.0,
        most * 100.0,
        most / least
    );
    assert!(most - least < 0.1 + one, "some agents are left out");
}

/// What the fleet costs while nothing happens, for as long as it takes every agent to be given
/// three leases.
async fn rest(fleet: &SimulatedFleet, postgres: Postgres) {
    let began = Instant::now();
    let leases = || fleet.agents.iter().map(SimulatedAgent::take_leases).sum::<u64>();
    leases();
    let (control, store, own) = (fleet.cpu(), postgres.used(), cpu::of_this());
    let wanted = 3 * fleet.agents.len() as u64;
    let mut given = 0;
    eventually("three leases for each agent", LEASE * 3, || {
        given += leases();
        let enough = (given >= wanted).then_some(());
        async move { enough }
    })
    .await;
    let (control, store) = (fleet.cpu() - control, postgres.used() - store);
    #[expect(clippy::cast_precision_loss, reason = "there are not that many")]
    let thousands = given as f64 / 1_000.0;
    println!(
        "at rest: {given} heartbeats in {:.1} s; CPU for 1000 of them: control planes {:.0} ms, \
         PostgreSQL {:.0} ms (agents {:.0} ms)",
        began.elapsed().as_secs_f64(),
        millis(control) / thousands,
        millis(store) / thousands,
        millis(cpu::of_this() - own) / thousands,
    );
}

/// Clients create, repeat and release.
async fn used(clients: Clients, fleet: &SimulatedFleet, postgres: Postgres) -> Clients {
    let began = Instant::now();
    let (control, store, own) = (fleet.cpu(), postgres.used(), cpu::of_this());
    let clients = clients.work().await;
    let times = clients.times();
    #[expect(clippy::cast_precision_loss, reason = "there are not that many")]
    let count = times.len() as f64;
    println!(
        "in use: {:.0} placed/s beside as many released, p50 {:.1} ms, p99 {:.1} ms; CPU for each \
         pair: control planes {:.2} ms, PostgreSQL {:.2} ms (clients and agents {:.2} ms)",
        count / began.elapsed().as_secs_f64(),
        percentile(&times, 50),
        percentile(&times, 99),
        millis(fleet.cpu() - control) / count,
        millis(postgres.used() - store) / count,
        millis(cpu::of_this() - own) / count,
    );
    clients
}
