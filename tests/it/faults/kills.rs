//! `kill -9` at random moments under load: of agents, replicas, PostgreSQL and browsers, one or
//! two at once.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use fastrand::Rng;
use harness::fleet::id_of;
use tokio::time::sleep;

use super::{
    Course,
    fleet::{Fleet, GONE_LIMIT},
    judge::{Blame, judge},
    load::Load,
};

/// Which process is killed. In the order in which they are started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Postgres,
    Replica(usize),
    Agent(usize),
    /// One of those that run, if any does.
    Browser,
}

/// What is killed together: two of different kinds, now and then.
fn victims(first: Victim, random: &mut Rng) -> BTreeSet<Victim> {
    let mut victims = BTreeSet::from([first]);
    if random.u8(0..3) == 0 {
        let second = KINDS[random.usize(0..KINDS.len())](random);
        if std::mem::discriminant(&second) != std::mem::discriminant(&first) {
            victims.insert(second);
        }
    }
    victims
}

type Kind = fn(&mut Rng) -> Victim;

const KINDS: [Kind; 4] = [
    |_| Victim::Postgres,
    |random| Victim::Replica(random.usize(0..2)),
    |random| Victim::Agent(random.usize(0..2)),
    |_| Victim::Browser,
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_nothing_told_becomes_untrue() {
    let mut course = Course::of("faults::kills");
    let mut fleet = Fleet::with_agents(2, 2).await;
    let load = Load::start(&fleet.apis(), 3, &mut course.random);
    let mut blame = Blame::default();
    load.goes_on(4).await;
    for _ in 0..course.rounds {
        let mut kinds = KINDS;
        course.random.shuffle(&mut kinds);
        for kind in kinds {
            let first = kind(&mut course.random);
            let victims = victims(first, &mut course.random);
            // Moments are what is tested.
            sleep(Duration::from_millis(course.random.u64(0..1_000))).await;
            let away = Duration::from_millis(course.random.u64(0..1_500));
            println!("kills {victims:?}, away for {away:?}");
            strike(&mut fleet, &victims, away, &mut course.random, &mut blame).await;
            fleet.nothing_is_wrong().await;
            load.goes_on(3).await;
        }
    }
    let told = load.stop().await;
    let store = fleet.postgres.url();
    fleet.is_at_rest().await;
    judge(&told, &store, &blame).await;
    fleet.stop().await;
}

/// Kills them, and starts them again after a while.
async fn strike(
    fleet: &mut Fleet,
    victims: &BTreeSet<Victim>,
    away: Duration,
    random: &mut Rng,
    blame: &mut Blame,
) {
    let began = Instant::now();
    let (mut replicas, mut agents) = (Vec::new(), Vec::new());
    for victim in victims {
        match *victim {
            Victim::Postgres => fleet.postgres.kill().await,
            Victim::Replica(n) => {
                replicas.push((n, fleet.replicas[n].take().unwrap().kill(GONE_LIMIT).await));
            }
            Victim::Agent(n) => {
                let agent = fleet.agents[n].take().unwrap();
                let id = id_of(&agent);
                agents.push((n, id, agent.kill(GONE_LIMIT).await));
            }
            Victim::Browser => {
                let browsers = fleet.agents.iter().flatten().flat_map(|agent| agent.browsers());
                if let Some(browser) = random.choice(browsers.collect::<Vec<_>>()) {
                    browser.kill();
                    blame.browsers += 1;
                }
            }
        }
    }
    sleep(away).await;
    if victims.contains(&Victim::Postgres) {
        fleet.postgres.restart().await;
    }
    for (n, plan) in replicas {
        fleet.replicas[n] = Some(plan.start().await);
    }
    for (n, id, plan) in agents {
        fleet.agents[n] = Some(plan.start().await);
        blame.agent(&id, began.elapsed());
    }
}
