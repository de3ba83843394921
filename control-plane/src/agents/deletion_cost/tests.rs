use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn pod(n: usize) -> Pod {
    format!("agent-{n}/00000000-0000-0000-0000-{n:012}").parse().unwrap()
}

fn costs(pods: impl IntoIterator<Item = (usize, u64)>) -> HashMap<Pod, u64> {
    pods.into_iter().map(|(n, cost)| (pod(n), cost)).collect()
}

/// What a book writes at this time; all of it goes as it is said.
fn writes(
    book: &mut Book,
    costs: &HashMap<Pod, u64>,
    now: Instant,
    patched: Option<Patched>,
) -> Vec<(Pod, u64)> {
    let due = book.due(costs, now);
    for (pod, cost) in due.clone() {
        book.note(pod, cost, patched, now);
    }
    due
}

#[test]
fn a_cost_is_written_when_it_changes_and_not_more_often_than_autoscalers_decide() {
    let (mut book, begin) = (Book::default(), Instant::now());
    let mut write = |cost, seconds| {
        let costs = costs([(1, cost)]);
        let now = begin + SECOND * seconds;
        writes(&mut book, &costs, now, Some(Patched::Done)).into_iter().map(|(_, cost)| cost).next()
    };
    // What another replica wrote before is not known here.
    assert_eq!(write(0, 0), Some(0));
    assert_eq!(write(0, 3_600), None, "it stands");
    assert_eq!(write(1, 3_601), Some(1), "after a long time at once");
    for (seconds, cost) in [(3_602, 2), (3_610, 3), (3_615, 1)] {
        assert_eq!(write(cost, seconds), None, "too soon");
    }
    assert_eq!(write(1, 3_616), None, "it is what it was again");
    assert_eq!(write(3, 3_617), Some(3));
}

#[test]
fn what_failed_is_tried_again_and_what_is_not_there_is_not() {
    let (mut book, begin) = (Book::default(), Instant::now());
    let zero = costs([(1, 0)]);
    assert_eq!(writes(&mut book, &zero, begin, None).len(), 1);
    assert_eq!(writes(&mut book, &zero, begin + PAUSE - SECOND, None), []);
    let later = begin + PAUSE;
    assert_eq!(writes(&mut book, &zero, later, Some(Patched::NoSuchPod)).len(), 1);
    let (one, later) = (costs([(1, 1)]), later + PAUSE);
    assert_eq!(writes(&mut book, &one, later, None), []);
    // The agent comes with a new stream.
    assert_eq!(writes(&mut book, &costs([]), later, None), []);
    assert_eq!(writes(&mut book, &one, later, Some(Patched::Done)), [(pod(1), 1)]);
}

#[test]
fn of_many_pods_each_has_its_turn() {
    let (mut book, begin) = (Book::default(), Instant::now());
    let (mut stands, mut last) = (HashMap::new(), HashMap::new());
    let mut most = 0;
    // More than can be written as fast as they change.
    for seconds in 0..300_u32 {
        let now = begin + SECOND * seconds;
        let wanted = costs((0..400).map(|n| (n, u64::from(seconds) / 5)));
        let written = writes(&mut book, &wanted, now, Some(Patched::Done));
        most = most.max(written.len());
        for (pod, cost) in written {
            let before = last.insert(pod.clone(), now);
            assert!(before.is_none_or(|before| now - before >= PAUSE), "{pod} too soon");
            stands.insert(pod, cost);
        }
    }
    assert_eq!((most, stands.len()), (AT_ONCE, 400));
    let oldest = *stands.values().min().unwrap();
    assert!(oldest >= 300 / 5 - 9, "none waits longer than all others take: {oldest}");
}

#[test]
fn a_failure_is_told_once_until_another_comes_or_it_is_over() {
    let mut log = Log::default();
    let forbidden = || Err(Failure::Forbidden("browsers".to_owned()));
    log.note(&[Ok(Patched::Done), forbidden()]);
    assert!(log.0.is_some());
    log.note(&[]);
    assert_eq!(log.0, forbidden().err().as_ref().map(discriminant), "nothing was tried");
    log.note(&[Err(Failure::Unauthorized)]);
    assert_eq!(log.0, Some(discriminant(&Failure::Unauthorized)));
    log.note(&[Ok(Patched::NoSuchPod)]);
    assert_eq!(log.0, None);
}
