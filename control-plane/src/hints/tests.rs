use std::time::Duration;

use proto::id::WorkspaceId;
use tokio::time::timeout;

use super::*;
use crate::testing::{PATIENCE, TestApp, on_postgres, until};

/// Two replicas that hear each other.
async fn two(app: &TestApp) -> TestApp {
    let other = app.another().await;
    for replica in [app, &other] {
        tokio::spawn(run(replica.app.clone()));
    }
    // Each listens once it hears the other.
    for (one, two) in [(app, &other), (&other, app)] {
        let id = SessionId::generate();
        let mut watch = two.app.changes.watch(id);
        let heard = async {
            one.app.changes.wake(id);
            while timeout(Duration::from_millis(100), watch.changed()).await.is_err() {
                one.app.changes.wake(id);
            }
        };
        timeout(PATIENCE, heard).await.expect("it hears the other");
    }
    other
}

async fn end(replicas: [&TestApp; 2]) {
    replicas.iter().for_each(|replica| replica.app.stop.cancel());
    replicas[1].app.db.close().await;
}

#[test]
fn a_hint_is_read_as_it_was_written() {
    let region: Region = "eu-west".parse().unwrap();
    for hint in [
        Hint::Room(region.clone()),
        Hint::Freed(region.clone()),
        Hint::Waiting(region, 12),
        Hint::Session(SessionId::generate()),
        Hint::Tell(AgentId::generate(), SessionId::generate()),
        Hint::Look(AgentId::generate()),
    ] {
        assert_eq!(Hint::parse(&hint.to_string()), Some(hint));
    }
    for other in ["", "new eu", "room", "room EU", "waiting eu x", "room eu more"] {
        assert_eq!(Hint::parse(other), None, "{other}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_at_one_replica_wakes_who_waits_at_another() {
    async fn story(app: TestApp) {
        let other = two(&app).await;
        // More than one message takes.
        let ids: Vec<_> = (0..600).map(|_| SessionId::generate()).collect();
        let watches: Vec<_> = ids.iter().map(|id| other.app.changes.watch(*id)).collect();
        ids.iter().for_each(|id| app.app.changes.wake(*id));
        for mut watch in watches {
            timeout(PATIENCE, watch.changed()).await.unwrap();
        }
        end([&app, &other]).await;
    }
    on_postgres(story).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_freed_at_one_replica_wakes_the_queue_of_another() {
    async fn story(app: TestApp) {
        let other = two(&app).await;
        let region: Region = "eu".parse().unwrap();
        let regions = [region.clone()];
        let queue = &other.app.queue;
        let place = queue.join(&regions, WorkspaceId::generate(), false).unwrap();
        let is_turn = async || timeout(Duration::ZERO, place.turn()).await.is_ok();
        assert!(is_turn().await);
        assert!(!is_turn().await);
        app.app.queue.freed(&region);
        until(is_turn).await;
        assert!(place.standing().estimate_seconds <= 60);
        // And who comes new here knows that somebody waits there, as long as somebody does.
        until(async || app.app.queue.is_waiting(&region)).await;
        drop(place);
        until(async || !app.app.queue.is_waiting(&region)).await;
        end([&app, &other]).await;
    }
    on_postgres(story).await;
}

#[tokio::test]
async fn alone_nobody_is_told() {
    let hints = Hints::default();
    hints.tell(Hint::Session(SessionId::generate()));
    assert!(hints.take().is_none());
}
