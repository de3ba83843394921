use super::*;

fn region() -> Region {
    "eu".parse().unwrap()
}

fn workspaces<const N: usize>() -> [WorkspaceId; N] {
    std::array::from_fn(|_| WorkspaceId::generate())
}

fn join(queue: &Queue, workspace: WorkspaceId) -> Place {
    queue.join(&[region()], workspace, false).unwrap()
}

/// Whether it is a request's turn right now.
async fn is_next(place: &Place) -> bool {
    timeout(Duration::ZERO, place.turn()).await.is_ok()
}

#[tokio::test]
async fn workspaces_take_turns_and_each_is_served_in_order() {
    let queue = Queue::default();
    let [greedy, modest, late] = workspaces();
    let mut places: Vec<_> = (0..4).map(|n| (format!("greedy {n}"), greedy)).collect();
    places.extend([("modest 0".to_owned(), modest), ("modest 1".to_owned(), modest)]);
    places.push(("late 0".to_owned(), late));
    let join = |(name, workspace): (String, WorkspaceId)| (name, join(&queue, workspace));
    let mut places: Vec<_> = places.into_iter().map(join).collect();
    let numbers: Vec<_> = places.iter().map(|(_, place)| place.standing().position).collect();
    assert_eq!(numbers, [1, 4, 6, 7, 2, 5, 3]);
    let mut served = Vec::new();
    while !places.is_empty() {
        queue.freed(&region());
        let mut next = None;
        for (n, (_, place)) in places.iter().enumerate() {
            if is_next(place).await {
                assert!(next.replace(n).is_none(), "one at a time");
            }
        }
        let (name, place) = places.remove(next.expect("somebody's turn"));
        place.served(&region());
        served.push(name);
    }
    let expected =
        ["greedy 0", "modest 0", "late 0", "greedy 1", "modest 1", "greedy 2", "greedy 3"];
    assert_eq!(served, expected);
    assert_eq!(queue.len(&region()), 0);
}

#[tokio::test]
async fn a_request_that_leaves_unserved_costs_its_workspace_no_turn() {
    let queue = Queue::default();
    let [one, two] = workspaces();
    let places = [join(&queue, one), join(&queue, one), join(&queue, two)];
    let [first, second, other] = places;
    assert!(is_next(&first).await);
    drop(first);
    assert!(is_next(&second).await, "it is woken, as the first may have been in vain");
    assert!(!is_next(&other).await);
}

#[tokio::test]
async fn a_queue_is_bounded() {
    let (queue, [workspace]) = (Queue::default(), workspaces());
    let regions = [region()];
    let join = || queue.join(&regions, workspace, false);
    let places: Vec<_> = std::iter::from_fn(join).take(LONGEST + 1).collect();
    assert_eq!(places.len(), LONGEST);
    let elsewhere = [region(), "us".parse().unwrap()];
    assert_eq!(queue.join(&elsewhere, workspace, false).unwrap().regions, elsewhere[1..]);
    drop(places);
    assert!(join().is_some());
    queue.heard("other", &region(), LONGEST);
    assert!(join().is_none(), "those who wait at other replicas count");
}

#[tokio::test]
async fn a_wake_up_that_comes_early_is_kept() {
    let (queue, [workspace]) = (Queue::default(), workspaces());
    let place = join(&queue, workspace);
    assert!(is_next(&place).await, "the first one looks at once");
    assert!(!is_next(&place).await, "but once");
    queue.wake(&region());
    assert!(is_next(&place).await);
    assert!(timeout(LOOK_EVERY * 4, place.turn()).await.is_ok(), "and now and then by itself");
}

#[tokio::test]
async fn a_request_waits_in_the_queues_of_all_its_regions() {
    let (queue, [one, two]) = (Queue::default(), workspaces());
    let [eu, us] = [region(), "us".parse().unwrap()];
    let head = join(&queue, one);
    let both = queue.join(&[us.clone(), eu.clone()], two, false).unwrap();
    assert!(is_next(&head).await);
    assert_eq!(timeout(LOOK_EVERY, both.turn()).await.unwrap(), std::slice::from_ref(&us));
    drop(head);
    queue.wake(&us);
    assert_eq!(timeout(LOOK_EVERY, both.turn()).await.unwrap(), [us.clone(), eu.clone()]);
    both.served(&us);
    assert_eq!((queue.len(&eu), queue.len(&us)), (0, 0));
}

#[tokio::test]
async fn who_comes_new_does_not_overtake_those_at_other_replicas() {
    let (queue, [workspace]) = (Queue::default(), workspaces());
    queue.heard("other", &region(), 3);
    assert!(queue.is_waiting(&region()));
    let place = join(&queue, workspace);
    assert!(!is_next(&place).await);
    assert_eq!((place.standing().position, place.standing().waiting), (2, 4));
    queue.freed(&region());
    assert!(is_next(&place).await);
    drop(place);
    let hurries = queue.join(&[region()], workspace, true).unwrap();
    assert!(is_next(&hurries).await, "for it there is no later");
    drop(hurries);
    queue.heard("other", &region(), 0);
    assert!(!queue.is_waiting(&region()));
}
