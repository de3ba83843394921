//! Messages of the agent protocol come twice, late, in another order, on an old stream, or about
//! sessions that are not the agent's own. They are believed no further than they fit.

use std::time::Duration;

use harness::{eventually, rows};

use super::{
    Course,
    fleet::Fleet,
    judge::{Blame, judge},
    load::Load,
    muddled::{Heard, Muddled, SLANDER},
};

/// How long until what agents owe each other is settled.
const SETTLED: Duration = Duration::from_secs(20);
/// Sessions of one round.
const SESSIONS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn what_agents_muddle_breaks_no_rule_and_no_session_of_another() {
    let mut course = Course::of("faults::messages");
    let fleet = Fleet::start().await;
    let heard = Heard::default();
    let agents = [0, 1, 0].map(|first| {
        let hubs = fleet.hubs();
        Muddled::start([hubs[first], hubs[1 - first]], 3, course.random.fork(), &heard)
    });
    let load = Load::start(&fleet.apis(), 6, &mut course.random);
    for _ in 0..course.rounds {
        load.goes_on(SESSIONS).await;
        fleet.nothing_is_wrong().await;
    }
    let told = load.stop().await;
    let store = fleet.postgres.url();
    eventually("every slot is free", SETTLED, || async {
        rows::wrong(&store, true).await.is_empty().then_some(())
    })
    .await;
    judge(&told, &store, &Blame::simulated()).await;
    let reasons = "SELECT DISTINCT COALESCE(reason_code, '-') FROM sessions";
    let reasons = rows::texts(&store, reasons).await;
    assert!(!reasons.iter().any(|reason| reason == SLANDER), "{reasons:?}");
    drop(agents);
    fleet.stop_without_agents().await;
}
