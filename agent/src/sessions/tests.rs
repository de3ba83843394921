use std::sync::atomic::Ordering;

use tokio::sync::mpsc::UnboundedReceiver;

use super::{
    testing::{Fakes, no_hub, order, soon},
    *,
};

fn start(capacity: u32, fakes: &Arc<Fakes>) -> (Sessions, UnboundedReceiver<Report>) {
    Sessions::new(Registry::new(capacity), fakes.clone(), no_hub())
}

fn outcome(sessions: &Sessions, id: SessionId) -> Ending {
    match sessions.registry().state(id) {
        Some(State::Ended(outcome)) => outcome.ending,
        other => panic!("not ended: {other:?}"),
    }
}

fn until(deadline: Instant) -> Order {
    Order { terms: Terms { deadline, keepalives: 0 }, ..order() }
}

#[tokio::test]
async fn a_session_runs_until_it_is_released_and_leaves_nothing() {
    let fakes = Fakes::new();
    let (sessions, mut reports) = start(1, &fakes);
    let order = order();
    let id = order.id;
    sessions.assign(order);
    assert_eq!(soon(reports.recv()).await, Some(Report::Running(id)));
    let mut phase = sessions.registry().watch(id).unwrap();
    assert!(matches!(*phase.borrow(), Phase::Running(_)));
    assert_eq!(sessions.registry().inventory(), [(id, State::Running)]);

    assert!(sessions.registry().end(id, &Ending::new(EndReason::Released, "")));
    soon(phase.wait_for(|phase| matches!(phase, Phase::Over(EndReason::Released)))).await.unwrap();
    assert_eq!(soon(reports.recv()).await, Some(Report::Ended(id)));
    assert_eq!(outcome(&sessions, id).reason, EndReason::Released);
    assert_eq!(fakes.open(), 0);
    soon(sessions.finished()).await;
}

#[tokio::test]
async fn a_browser_that_takes_too_much_of_the_machine_ends_its_session() {
    let fakes = Fakes::new();
    let (sessions, mut reports) = start(2, &fakes);
    let order = order();
    let id = order.id;
    sessions.assign(order);
    assert_eq!(soon(reports.recv()).await, Some(Report::Running(id)));
    fakes.excess.send_replace(Some(Excess::Memory(2100 << 20, 2048 << 20)));
    assert_eq!(soon(reports.recv()).await, Some(Report::Ending(id)));
    sessions.registry().end(id, &Ending::new(EndReason::ResourceLimit, ""));
    assert_eq!(soon(reports.recv()).await, Some(Report::Ended(id)));
    let over = Ending::new(EndReason::ResourceLimit, "memory: 2100 MB of 2048 MB");
    assert_eq!(outcome(&sessions, id), over);
    assert_eq!(fakes.open(), 0);
}

#[tokio::test]
async fn the_end_is_known_until_the_deadline_also_after_it_was_acknowledged() {
    let fakes = Fakes::new();
    let (sessions, mut reports) = start(1, &fakes);
    let (kept, forgotten) = (order(), until(Instant::now()));
    for order in [forgotten.clone(), kept.clone()] {
        sessions.assign(order.clone());
        sessions.registry().end(order.id, &Ending::new(EndReason::Released, ""));
        while soon(reports.recv()).await != Some(Report::Ended(order.id)) {}
        sessions.registry().acknowledged(order.id);
    }
    soon(sessions.registry().settled()).await;
    assert!(sessions.registry().inventory().is_empty());
    let over = sessions.registry().watch(kept.id).unwrap();
    assert!(matches!(*over.borrow(), Phase::Over(EndReason::Released)));
    assert!(sessions.registry().watch(forgotten.id).is_none());
    // A late assignment of it starts nothing.
    sessions.assign(kept.clone());
    assert_eq!(soon(reports.recv()).await, Some(Report::Ended(kept.id)));
    assert_eq!(fakes.open(), 0);
}

#[tokio::test]
async fn a_session_without_room_is_refused_and_the_slot_is_free_with_the_report() {
    let fakes = Fakes::new();
    let (sessions, mut reports) = start(1, &fakes);
    let (first, second, third) = (order(), order(), order());
    sessions.assign(first.clone());
    assert_eq!(soon(reports.recv()).await, Some(Report::Running(first.id)));
    sessions.assign(second.clone());
    assert_eq!(soon(reports.recv()).await, Some(Report::Ended(second.id)));
    assert_eq!(outcome(&sessions, second.id).reason, EndReason::LaunchFailed);
    sessions.registry().end(first.id, &Ending::new(EndReason::Released, ""));
    assert_eq!(soon(reports.recv()).await, Some(Report::Ended(first.id)));
    sessions.assign(third.clone());
    assert_eq!(soon(reports.recv()).await, Some(Report::Running(third.id)));
}

#[tokio::test]
async fn an_assignment_that_is_repeated_starts_nothing_and_is_answered_again() {
    let fakes = Fakes::new();
    let (sessions, mut reports) = start(2, &fakes);
    let order = order();
    sessions.assign(order.clone());
    assert_eq!(soon(reports.recv()).await, Some(Report::Running(order.id)));
    sessions.assign(order.clone());
    assert_eq!(soon(reports.recv()).await, Some(Report::Running(order.id)));
    assert_eq!(fakes.open(), 1);
}

#[tokio::test]
async fn a_browser_that_cannot_be_started_is_reported_with_its_reason() {
    let fakes = Fakes::new();
    fakes.broken.store(true, Ordering::SeqCst);
    let (sessions, mut reports) = start(1, &fakes);
    let order = order();
    sessions.assign(order.clone());
    assert_eq!(soon(reports.recv()).await, Some(Report::Ended(order.id)));
    let ending = outcome(&sessions, order.id);
    assert_eq!(ending, Ending::new(EndReason::LaunchFailed, "exit code 1: no display"));
}

/// A session whose browser was killed, when the agent has said so and nobody has answered.
async fn killed(
    fakes: &Fakes,
    sessions: &Sessions,
    reports: &mut UnboundedReceiver<Report>,
) -> SessionId {
    let order = order();
    let id = order.id;
    sessions.assign(order);
    assert_eq!(soon(reports.recv()).await, Some(Report::Running(id)));
    fakes.killed.send_replace(true);
    assert_eq!(soon(reports.recv()).await, Some(Report::Ending(id)));
    let told = sessions.registry().ending(id).unwrap();
    assert_eq!(told.reason, EndReason::BrowserCrashed);
    let watched = sessions.registry().watch(id).unwrap();
    assert!(matches!(*watched.borrow(), Phase::Running(_)), "its clients wait for the hub's word");
    id
}

#[tokio::test]
async fn a_killed_browser_is_a_crash() {
    let fakes = Fakes::new();
    let (sessions, mut reports) = start(1, &fakes);
    let id = killed(&fakes, &sessions, &mut reports).await;
    // Nobody answers: the agent's word stands.
    assert_eq!(soon(reports.recv()).await, Some(Report::Ended(id)));
    let ending = outcome(&sessions, id);
    assert_eq!(ending.reason, EndReason::BrowserCrashed);
    assert!(ending.detail.contains("SIGKILL"), "{}", ending.detail);
    assert_eq!(fakes.open(), 0);
}

#[tokio::test]
async fn clients_hear_of_the_end_that_was_recorded_first() {
    let fakes = Fakes::new();
    let (sessions, mut reports) = start(1, &fakes);
    let id = killed(&fakes, &sessions, &mut reports).await;
    sessions.registry().end(id, &Ending::new(EndReason::Released, ""));
    let mut phase = sessions.registry().watch(id).unwrap();
    let over = soon(phase.wait_for(|phase| matches!(phase, Phase::Over(_)))).await.unwrap();
    assert!(matches!(*over, Phase::Over(EndReason::Released)));
    drop(over);
    assert_eq!(soon(reports.recv()).await, Some(Report::Ended(id)));
    assert_eq!(outcome(&sessions, id).reason, EndReason::Released);
}

#[tokio::test]
async fn the_end_of_a_drain_is_agreed_on_too() {
    let fakes = Fakes::new();
    let (sessions, mut reports) = start(2, &fakes);
    let (released, forgotten) = (order(), order());
    for order in [&released, &forgotten] {
        sessions.assign(order.clone());
        assert_eq!(soon(reports.recv()).await, Some(Report::Running(order.id)));
    }
    sessions.registry().leave(Leave::End("no more time"));
    sessions.registry().leave(Leave::Launch); // what was said before stays
    for _ in [&released, &forgotten] {
        assert!(matches!(soon(reports.recv()).await, Some(Report::Ending(_))));
    }
    sessions.registry().end(released.id, &Ending::new(EndReason::Released, ""));
    assert_eq!(soon(reports.recv()).await, Some(Report::Ended(released.id)));
    assert_eq!(outcome(&sessions, released.id).reason, EndReason::Released);
    assert_eq!(soon(reports.recv()).await, Some(Report::Ended(forgotten.id)));
    let ending = outcome(&sessions, forgotten.id);
    assert_eq!(ending, Ending::new(EndReason::AgentDrained, "no more time"));
}

#[tokio::test]
async fn a_session_released_during_its_launch_ends_at_once_and_its_browser_is_closed() {
    let fakes = Fakes::with_permits(0);
    let (sessions, mut reports) = start(1, &fakes);
    let order = order();
    sessions.assign(order.clone());
    let mut phase = sessions.registry().watch(order.id).unwrap();
    sessions.registry().end(order.id, &Ending::new(EndReason::Released, ""));
    soon(phase.wait_for(|phase| matches!(phase, Phase::Over(_)))).await.unwrap();
    assert_eq!(sessions.registry().state(order.id), Some(State::Running), "its slot is held");
    fakes.permits.add_permits(1);
    assert_eq!(soon(reports.recv()).await, Some(Report::Ended(order.id)));
    assert_eq!(outcome(&sessions, order.id).reason, EndReason::Released);
    assert_eq!(fakes.open(), 0);
}

#[tokio::test]
async fn a_session_ends_at_its_deadline() {
    let fakes = Fakes::new();
    let (sessions, mut reports) = start(1, &fakes);
    let order = until(Instant::now() + Duration::from_millis(20));
    sessions.assign(order.clone());
    while soon(reports.recv()).await != Some(Report::Ended(order.id)) {}
    assert_eq!(outcome(&sessions, order.id).reason, EndReason::Deadline);
}

#[tokio::test]
async fn a_deadline_moves_both_ways_also_by_a_repeated_assignment() {
    let fakes = Fakes::new();
    let (sessions, mut reports) = start(1, &fakes);
    let order = until(Instant::now() + Duration::from_millis(100));
    let later = Instant::now() + Duration::from_secs(60);
    sessions.assign(order.clone());
    let terms = |deadline| Terms { deadline, keepalives: 0 };
    sessions.registry().adjust(order.id, terms(later));
    assert_eq!(soon(reports.recv()).await, Some(Report::Running(order.id)));
    let beyond = order.terms.deadline + Duration::from_millis(50);
    assert!(tokio::time::timeout_at(beyond, reports.recv()).await.is_err(), "it runs on");
    sessions.assign(Order { terms: terms(Instant::now()), ..order.clone() });
    while soon(reports.recv()).await != Some(Report::Ended(order.id)) {}
    assert_eq!(outcome(&sessions, order.id).reason, EndReason::Deadline);
}

#[tokio::test]
async fn a_state_that_cannot_be_restored_is_a_failed_launch_that_says_why() {
    let fakes = Fakes::new();
    let (sessions, mut reports) = start(1, &fakes);
    let state = br#"{"cookies":[{"name":"sid","value":"hush"}]}"#.to_vec();
    let order = Order { storage_state: StorageState(state), ..order() };
    assert!(!format!("{order:?}").contains("hush"));
    sessions.assign(order.clone());
    assert_eq!(soon(reports.recv()).await, Some(Report::Ended(order.id)));
    let ending = outcome(&sessions, order.id);
    let detail = "the storage state cannot be restored: cookies[0] has no domain";
    assert_eq!(ending, Ending::new(EndReason::LaunchFailed, detail));
    assert_eq!(fakes.open(), 0);
}

#[tokio::test]
async fn a_forced_stop_does_not_wait_for_a_launch() {
    let fakes = Fakes::with_permits(0);
    let (sessions, mut reports) = start(1, &fakes);
    let order = order();
    sessions.assign(order.clone());
    sessions.registry().end(order.id, &Ending::new(EndReason::ForceStopped, ""));
    let begun = Instant::now();
    assert_eq!(soon(reports.recv()).await, Some(Report::Ended(order.id)));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(outcome(&sessions, order.id).reason, EndReason::ForceStopped);
}

#[tokio::test]
async fn the_first_reason_to_end_counts_and_a_closed_registry_starts_nothing() {
    let fakes = Fakes::new();
    let (sessions, mut reports) = start(2, &fakes);
    let (first, second) = (order(), order());
    sessions.assign(first.clone());
    assert_eq!(soon(reports.recv()).await, Some(Report::Running(first.id)));
    sessions.registry().close();
    sessions.registry().end_all(&Ending::new(EndReason::AgentLost, "stopped"));
    sessions.registry().end_all(&Ending::new(EndReason::Released, ""));
    assert_eq!(soon(reports.recv()).await, Some(Report::Ended(first.id)));
    assert_eq!(outcome(&sessions, first.id), Ending::new(EndReason::AgentLost, "stopped"));
    sessions.assign(second.clone());
    assert_eq!(soon(reports.recv()).await, Some(Report::Ended(second.id)));
    assert_eq!(outcome(&sessions, second.id).reason, EndReason::LaunchFailed);
}

/// Panics instead of launching.
struct Panics;

impl Source for Panics {
    fn take<'a>(
        &'a self,
        _options: &'a LaunchOptions,
    ) -> BoxFuture<'a, Result<Box<dyn Lent>, String>> {
        Box::pin(async { panic!("as the test wants") })
    }
}

#[tokio::test]
async fn a_session_whose_task_panics_is_over_and_gives_its_slot_back() {
    let (sessions, mut reports) = Sessions::new(Registry::new(1), Arc::new(Panics), no_hub());
    for _ in 0..2 {
        let order = order();
        sessions.assign(order.clone());
        assert_eq!(soon(reports.recv()).await, Some(Report::Ended(order.id)));
        assert_eq!(outcome(&sessions, order.id).reason, EndReason::AgentLost);
    }
}
