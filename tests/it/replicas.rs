//! Replicas of the control plane on one PostgreSQL: they stop, die and come back under load.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use harness::{
    api::Api,
    eventually,
    fleet::{TOKEN, database, replicas},
    leftovers::GRACE,
    rows,
    simulated_agent::SimulatedAgent,
};
use http::Method;
use serde_json::json;

/// How long a request is tried again: longer than a replica is away, or an agent lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// What clients have seen.
#[derive(Default)]
struct Seen {
    /// Sessions that were made, each once.
    made: HashSet<String>,
    /// Attempts without any answer: cut off, or nobody listened.
    unanswered: usize,
}

/// Sends a request to one replica after the other until one answers it. What is cut off, or
/// refused because a replica stops, is sent again as it was.
async fn ask(apis: &[Api; 2], first: usize, seen: &Mutex<Seen>, key: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    for n in first.. {
        let headers = [("idempotency-key", key), ("prefer", "wait=10")];
        let body = json!({});
        let api = &apis[n % 2];
        match api.try_send(Method::POST, "/v1/sessions", &headers, Some(&body)).await {
            Some(answer) if [200, 201].contains(&answer.status) => {
                return answer.body["id"].as_str().unwrap().to_owned();
            }
            Some(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
            None => seen.lock().unwrap().unanswered += 1,
        }
        assert!(Instant::now() < deadline, "nobody answers {key}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    unreachable!("it is tried for ever")
}

/// One client: makes a session, repeats the request, releases it, and so on.
async fn client(apis: [Api; 2], n: usize, stop: Arc<AtomicBool>, seen: Arc<Mutex<Seen>>) {
    let mut round = n;
    while !stop.load(Ordering::SeqCst) {
        round += 1;
        let key = format!("client-{n}-{round}");
        let id = ask(&apis, round, &seen, &key).await;
        let again = ask(&apis, round + 1, &seen, &key).await;
        assert_eq!(id, again, "a repetition finds the same session");
        assert!(seen.lock().unwrap().made.insert(id.clone()), "{id} was made twice");
        release(&apis, round, &id).await;
    }
}

async fn release(apis: &[Api; 2], first: usize, id: &str) {
    let path = format!("/v1/sessions/{id}");
    let deadline = Instant::now() + PATIENCE;
    for n in first.. {
        let released = apis[n % 2].try_send(Method::DELETE, &path, &[], None).await;
        if released.is_some_and(|answer| answer.status == 204) {
            return;
        }
        assert!(Instant::now() < deadline, "nobody releases {id}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until so many more sessions were made.
async fn made(seen: &Mutex<Seen>, more: usize) {
    let before = seen.lock().unwrap().made.len();
    eventually("the load goes on", PATIENCE, || async {
        (seen.lock().unwrap().made.len() >= before + more).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_restart_and_die_under_load_and_no_request_is_lost() {
    let database = database().await;
    let ([one, two], hubs) = replicas(&database).await;
    let agents: Vec<_> = (0..4)
        .map(|n| SimulatedAgent::start(&[hubs[n % 2], hubs[(n + 1) % 2]], TOKEN, 4))
        .collect();
    let apis = [one.api.clone(), two.api.clone()];
    let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Seen>>::default());
    let clients: Vec<_> = (0..6)
        .map(|n| tokio::spawn(client(apis.clone(), n, Arc::clone(&stop), Arc::clone(&seen))))
        .collect();
    made(&seen, 20).await;

    // one after the other, as a new release is brought in
    let one = one.stop_process().await;
    made(&seen, 20).await;
    let one = one.start().await;
    made(&seen, 20).await;
    let two = two.stop_process().await;
    made(&seen, 20).await;
    let two = two.start().await;
    made(&seen, 20).await;

    // kill -9
    let two = two.kill(GRACE).await;
    made(&seen, 20).await;
    let two = two.start().await;
    made(&seen, 20).await;

    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    eventually("every slot is free", PATIENCE, || async {
        (one.api.in_use().await == 0).then_some(())
    })
    .await;
    let wrong = rows::wrong(&database, true).await;
    assert!(wrong.is_empty(), "{wrong:?}");
    let stored = rows::texts(&database, "SELECT id FROM sessions WHERE started_us IS NOT NULL");
    let stored: HashSet<_> = stored.await.into_iter().collect();
    {
        let seen = seen.lock().unwrap();
        println!("{} sessions, {} attempts without an answer", seen.made.len(), seen.unanswered);
        assert!(seen.made.is_subset(&stored));
    }
    drop(agents);
    two.stop_process().await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stops_sends_those_who_wait_elsewhere() {
    let database = database().await;
    let ([one, two], hubs) = replicas(&database).await;
    let api = one.api.clone();
    // In a region without agents it waits for as long as it may.
    let waiting = tokio::spawn(async move { api.create_with("k", "wait=60", &json!({})).await });
    let began = Instant::now();
    eventually("it waits", PATIENCE, || async {
        // Another replica hears of it.
        let answer = two.api.create_with("probe", "wait=0", &json!({})).await;
        answer.body["detail"].as_str().unwrap().contains("of the 2 that wait").then_some(())
    })
    .await;
    let one = one.stop_process().await;
    let answer = waiting.await.unwrap();
    assert_eq!((answer.status, answer.problem()), (503, "insufficient-capacity"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(began.elapsed() < Duration::from_secs(50), "it was not the end of its patience");
    let agent = SimulatedAgent::start(&hubs[1..], TOKEN, 1);
    let again = two.api.create_with("k", "wait=60", &json!({})).await;
    let session = again.session(201);
    two.api.release(session.id()).await;
    eventually("its slot is free", PATIENCE, || async {
        (two.api.in_use().await == 0).then_some(())
    })
    .await;
    drop((agent, one));
    two.stop().await;
}
