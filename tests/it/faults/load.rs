//! Clients that make sessions, use them and end them, whatever happens to the fleet meanwhile,
//! and remember what they were told.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use harness::{
    Api, Session,
    cdp::{Cdp, Closed},
    eventually,
};
use http::Method;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};

/// How long a request is tried again: longer than anything is away.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a session that has been ended may keep its client: its agent may hear of it only
/// when it has found another replica.
const CLOSED_WITHIN: Duration = Duration::from_secs(20);

/// What a client was told of one session.
#[derive(Debug)]
pub struct Told {
    pub id: String,
    /// That it runs, with a connect URL.
    pub ran: bool,
    /// Its connect URL was not taken: the status, or 0 when nobody answered.
    pub refused: Option<u16>,
    /// How its connection ended.
    pub closed: Option<Closed>,
    /// For which reason the client ended it, if that was before its connection ended.
    pub ended: Option<&'static str>,
}

/// Clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    told: Arc<Mutex<Vec<Told>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// So many clients, who ask these replicas in turn.
    pub fn start(apis: &[Api; 2], clients: usize, random: &mut Rng) -> Self {
        let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let clients = (0..clients).map(|number| {
            let (apis, random) = (apis.clone(), random.fork());
            let client = Client { apis, random, number, told: Arc::clone(&told) };
            tokio::spawn(client.run(Arc::clone(&stop)))
        });
        let clients = clients.collect();
        Self { stop, told, clients }
    }

    /// Waits until so many more sessions have had their whole life.
    pub async fn goes_on(&self, more: usize) {
        let count = || self.told.lock().unwrap().len();
        let wanted = count() + more;
        let alive = || async { (count() >= wanted || self.has_failed()).then_some(()) };
        eventually("the load goes on", PATIENCE, alive).await;
    }

    fn has_failed(&self) -> bool {
        self.clients.iter().any(JoinHandle::is_finished)
    }

    /// Lets each client finish what it does. All that they were told.
    pub async fn stop(self) -> Vec<Told> {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await.unwrap();
        }
        Arc::into_inner(self.told).unwrap().into_inner().unwrap()
    }
}

struct Client {
    apis: [Api; 2],
    random: Rng,
    number: usize,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Client {
    async fn run(mut self, stop: Arc<AtomicBool>) {
        for round in 0.. {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            let key = format!("client-{}-{round}", self.number);
            let session = self.create(&key).await;
            if self.random.bool() {
                let again = self.create(&key).await;
                assert_eq!(session.id(), again.id(), "{key} stands for one session");
            }
            let mut told = Told {
                id: session.id().to_owned(),
                ran: session.status() == "RUNNING",
                refused: None,
                closed: None,
                ended: None,
            };
            if told.ran {
                self.spend(&session, &mut told).await;
            }
            // What a connection's end or its refusal says is told before it is stored: to release
            // it now would be another reason.
            if told.closed.is_none() && told.refused != Some(410) {
                self.release(&told.id).await;
            }
            self.until_over(&told.id).await;
            self.told.lock().unwrap().push(told);
        }
    }

    /// Uses a session for a while, and ends it in one way or another.
    async fn spend(&mut self, session: &Session, told: &mut Told) {
        let mut cdp = match Cdp::try_connect(session.connect_url()).await {
            Ok(cdp) => cdp,
            Err(status) => {
                told.refused = Some(status);
                return;
            }
        };
        let stays = Instant::now() + Duration::from_millis(self.random.u64(0..2_000));
        loop {
            if let Err(closed) = cdp.try_call("Browser.getVersion", json!({})).await {
                told.closed = Some(closed);
                return;
            }
            if Instant::now() >= stays {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        if self.random.bool() {
            told.ended = Some("released");
            self.release(&told.id).await;
        } else {
            told.ended = Some("closed_by_client");
            if let Err(closed) = cdp.try_call("Browser.close", json!({})).await {
                told.closed = Some(closed);
                return;
            }
        }
        told.closed = Some(cdp.closed(CLOSED_WITHIN).await);
    }

    async fn until_over(&mut self, id: &str) {
        let path = format!("/v1/sessions/{id}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let session = self.ask(Method::GET, &path, &[], None).await;
            if !["QUEUED", "PROVISIONING", "RUNNING"].contains(&session.status()) {
                return;
            }
            assert!(Instant::now() < deadline, "{id} stays {}", session.status());
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn create(&mut self, key: &str) -> Session {
        let headers = [("idempotency-key", key), ("prefer", "wait=20")];
        let body = json!({ "labels": { "key": key } });
        self.ask(Method::POST, "/v1/sessions", &headers, Some(&body)).await
    }

    async fn release(&mut self, id: &str) {
        self.ask(Method::DELETE, &format!("/v1/sessions/{id}"), &[], None).await;
    }

    /// Sends a request to one replica after the other until one does it. What is cut off, or
    /// refused because something is away, is sent again as it was.
    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Session {
        let deadline = Instant::now() + PATIENCE;
        for n in self.random.usize(0..2).. {
            let answer = self.apis[n % 2].try_send(method.clone(), path, headers, body).await;
            match answer {
                Some(answer) if (200..300).contains(&answer.status) => return Session(answer.body),
                Some(answer) => {
                    assert_eq!(answer.status, 503, "{method} {path}: {answer:?}");
                    assert!(answer.header("retry-after").is_some(), "{answer:?}");
                }
                None => (),
            }
            assert!(Instant::now() < deadline, "nobody answers {method} {path}");
            sleep(Duration::from_millis(50)).await;
        }
        unreachable!("it is tried for ever")
    }
}
