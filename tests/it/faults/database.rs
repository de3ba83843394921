//! PostgreSQL is away: nobody listens, or somebody who does not answer.

use std::time::{Duration, Instant};

use harness::{Api, cdp::Cdp, eventually};
use serde_json::json;
use tokio::time::sleep;

use super::{Course, fleet::Fleet};

/// Nothing may come of it within a lease, less the three seconds since it was last asked for.
const SHORT: Duration = Duration::from_secs(3);
/// Longer than a lease and than a request waits for a connection.
const LONG: Duration = Duration::from_secs(14);
/// What the operator of a database may need to start another.
const VERY_LONG: Duration = Duration::from_secs(30);
/// How long a create may take to be refused.
const REFUSED: Duration = Duration::from_secs(13);
/// Requests that are under way when it goes away, most of them at any moment in a statement.
const READERS: usize = 8;
/// How long they may take: a statement's time, and a connection's.
const ANSWERED: Duration = Duration::from_secs(23);
/// How often what runs is tried.
const OFTEN: Duration = Duration::from_millis(500);
/// From the end of an outage until every agent that lives is judged again, and some more.
const JUDGED: Duration = Duration::from_secs(13);
/// How long until all is well again.
const WELL_AGAIN: Duration = Duration::from_secs(15);

/// How it is away.
#[derive(Clone, Copy, Debug)]
enum Away {
    Killed,
    Frozen,
}

impl Away {
    async fn begin(self, fleet: &mut Fleet) {
        match self {
            Self::Killed => fleet.postgres.kill().await,
            Self::Frozen => fleet.postgres.freeze(),
        }
    }

    async fn end(self, fleet: &mut Fleet) {
        match self {
            Self::Killed => fleet.postgres.restart().await,
            Self::Frozen => fleet.postgres.thaw(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_killed_and_comes_back_loses_nothing_that_was_told() {
    database_is(Away::Killed, &Course::of("faults::database")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_for_a_while_loses_nothing_that_was_told() {
    database_is(Away::Frozen, &Course::of("faults::database")).await;
}

/// Reads again and again until that fails: with which status, and how long it took.
async fn read_until_away(api: Api) -> (u16, Duration) {
    loop {
        let asked = Instant::now();
        let answer = api.get("/v1/sessions").await;
        if answer.status != 200 {
            return (answer.status, asked.elapsed());
        }
    }
}

async fn database_is(away: Away, course: &Course) {
    let mut fleet = Fleet::with_agents(1, 2).await;
    let [api, other] = fleet.apis();
    for round in 0..course.rounds {
        let session = api.create(json!({})).await;
        let mut cdp = Cdp::connect(session.connect_url()).await;
        let (_, page) = cdp.page("about:blank").await;

        // For less than a lease: those who have a session do not notice.
        away.begin(&mut fleet).await;
        let began = Instant::now();
        assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
        Cdp::connect(session.connect_url()).await.close().await;
        sleep(SHORT.saturating_sub(began.elapsed())).await;
        away.end(&mut fleet).await;
        assert_eq!(api.session(session.id()).await.status(), "RUNNING");
        eventually("the agent is there", WELL_AGAIN, || async {
            fleet.has_ready(1).await.then_some(())
        })
        .await;
        assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
        assert_eq!(api.session(session.id()).await.status(), "RUNNING");

        // For longer: nothing new begins, and what runs goes on.
        let lasts = if course.long { VERY_LONG } else { LONG };
        println!("{away:?} for {lasts:?}");
        let readers: Vec<_> =
            (0..READERS).map(|_| tokio::spawn(read_until_away(api.clone()))).collect();
        away.begin(&mut fleet).await;
        let began = Instant::now();
        let key = format!("asked-while-away-{round}");
        for api in [&api, &other] {
            let asked = Instant::now();
            let refused = api.create_with(&key, "wait=0", &json!({})).await;
            assert_eq!((refused.status, refused.problem()), (503, "insufficient-capacity"));
            let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=5).contains(&after), "Retry-After: {after}");
            assert!(asked.elapsed() < REFUSED, "it took {:?}", asked.elapsed());
        }
        for reader in readers {
            let (status, took) = reader.await.unwrap();
            assert_eq!(status, 503);
            assert!(took < ANSWERED, "what was under way took {took:?}");
        }
        while began.elapsed() < lasts {
            assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
            Cdp::connect(session.connect_url()).await.close().await;
            sleep(OFTEN).await;
        }
        away.end(&mut fleet).await;

        eventually("the agent is back", WELL_AGAIN, || async {
            fleet.has_ready(1).await.then_some(())
        })
        .await;
        // Nor is it judged later for what it could not do.
        let judged = Instant::now() + JUDGED;
        while Instant::now() < judged {
            assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
            assert_eq!(api.session(session.id()).await.status(), "RUNNING");
            sleep(OFTEN).await;
        }
        cdp.close().await;
        api.release(session.id()).await;
        let again = other.create_with(&key, "wait=20", &json!({})).await;
        assert!([200, 201].contains(&again.status), "{}", again.body);
        let again = harness::Session(again.body);
        Cdp::connect(again.connect_url()).await.close().await;
        other.release(again.id()).await;
        fleet.is_at_rest().await;
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_alone_has_lost_the_database_loses_its_agents_and_no_session() {
    let (fleet, wire) = Fleet::with_a_wire().await;
    let [first, second] = fleet.apis();
    let session = first.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let (_, page) = cdp.page("about:blank").await;

    wire.cut();
    let cut = Instant::now();
    while cut.elapsed() < LONG {
        assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
        assert_eq!(second.session(session.id()).await.status(), "RUNNING");
        sleep(OFTEN).await;
    }
    let next = second.create(json!({})).await;
    Cdp::connect(next.connect_url()).await.close().await;
    wire.mend();
    for id in [session.id(), next.id()] {
        second.release(id).await;
    }
    fleet.stop().await;
}
