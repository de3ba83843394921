//! An agent that has no browsers: it says of each session that it runs as soon as it is told to
//! run it, and that it is gone as soon as it is told to end it. It speaks the real protocol to
//! real hubs, each over a connection of its own, and dials the next one when its stream ends.
//! One is a task, so that a process can hold a thousand of them.

use std::{
    collections::HashSet,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use proto::{
    agent::{
        Assign, Ended, FromAgent, FromHub, Heartbeat, Hello, Running, SessionReport,
        from_agent::Message as Said, from_hub::Message, hub_client::HubClient, session_report,
    },
    id::{AgentId, InstanceId},
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Interval, MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Runs until it is dropped, which it does as a killed one: without a word.
pub struct SimulatedAgent {
    id: AgentId,
    capacity: u32,
    books: Arc<Mutex<Books>>,
    task: JoinHandle<()>,
}

impl Drop for SimulatedAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What an agent has seen.
#[derive(Default)]
struct Books {
    runs: HashSet<String>,
    most: usize,
    leases: u64,
}

impl SimulatedAgent {
    /// One with room for so many sessions, which dials these hubs in turn.
    pub fn start(hubs: &[u16], token: &str, capacity: u32) -> Self {
        let (id, books) = (AgentId::generate(), Arc::<Mutex<Books>>::default());
        let state = State {
            id,
            instance: InstanceId::generate(),
            token: token.to_owned(),
            capacity,
            books: Arc::clone(&books),
        };
        let hubs = hubs.to_vec();
        let task = tokio::spawn(async move {
            for hub in hubs.into_iter().cycle() {
                // However it ends, there is another hub.
                let _ = state.attach(hub).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Self { id, capacity, books, task }
    }

    /// Its id, for good.
    pub fn id(&self) -> AgentId {
        self.id
    }

    /// Its slots.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The sessions that it runs.
    pub fn runs(&self) -> HashSet<String> {
        lock(&self.books).runs.clone()
    }

    /// The most sessions that it ever ran at once.
    pub fn most(&self) -> usize {
        lock(&self.books).most
    }

    /// How many leases it was given since this was last asked.
    pub fn take_leases(&self) -> u64 {
        mem::take(&mut lock(&self.books).leases)
    }

    /// Lets it run sessions that nobody told it to run: their rows are about to be written.
    pub fn adopt(&self, sessions: impl IntoIterator<Item = String>) {
        let mut books = lock(&self.books);
        books.runs.extend(sessions);
        books.most = books.most.max(books.runs.len());
    }
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

struct State {
    id: AgentId,
    instance: InstanceId,
    token: String,
    capacity: u32,
    books: Arc<Mutex<Books>>,
}

impl State {
    fn hello(&self) -> Hello {
        let report = |id: &String| SessionReport {
            session_id: id.clone(),
            state: Some(session_report::State::Running(true)),
        };
        Hello {
            protocol_version: proto::PROTOCOL_VERSION,
            agent_id: self.id.to_string(),
            instance: self.instance.to_string(),
            join_token: self.token.clone(),
            region: "local".to_owned(),
            capacity: self.capacity,
            data_plane_url: "ws://127.0.0.1:1".to_owned(),
            browser_version: "none".to_owned(),
            sessions: lock(&self.books).runs.iter().map(report).collect(),
            ..Hello::default()
        }
    }

    async fn attach(&self, hub: u16) -> Result<(), Status> {
        let dialled = HubClient::connect(format!("http://127.0.0.1:{hub}")).await;
        let hub = dialled.map_err(|_| Status::unavailable("nobody listens"))?;
        // As many as real agents take: the list of its peers alone may be large.
        let mut hub = hub.max_decoding_message_size(proto::MESSAGE_MAX);
        let (out, outgoing) = mpsc::channel(1_024);
        say(&out, Said::Hello(self.hello())).await?;
        let mut inbound = hub.attach(ReceiverStream::new(outgoing)).await?.into_inner();
        let mut heartbeat = every(Duration::from_secs(1));
        let mut sequence = 0;
        loop {
            let heard = tokio::select! {
                _ = heartbeat.tick() => {
                    sequence += 1;
                    say(&out, Said::Heartbeat(Heartbeat { sequence, warm: 0 })).await?;
                    continue;
                }
                heard = inbound.message() => heard?,
            };
            match heard {
                Some(FromHub { message: Some(Message::Welcome(welcome)) }) => {
                    heartbeat = every(Duration::from_millis(welcome.heartbeat_ms.into()));
                }
                Some(FromHub { message: Some(message) }) => self.take(message, &out).await?,
                Some(FromHub { message: None }) => (),
                None => return Ok(()),
            }
        }
    }

    async fn take(&self, message: Message, out: &mpsc::Sender<FromAgent>) -> Result<(), Status> {
        match message {
            Message::Assign(Assign { session_id, .. }) => {
                {
                    let mut books = lock(&self.books);
                    books.runs.insert(session_id.clone());
                    books.most = books.most.max(books.runs.len());
                }
                say(out, Said::Running(Running { session_id })).await
            }
            Message::Release(release) => {
                lock(&self.books).runs.remove(&release.session_id);
                let ended = Ended {
                    session_id: release.session_id,
                    reason: release.reason,
                    detail: String::new(),
                };
                say(out, Said::Ended(ended)).await
            }
            Message::Lease(_) => {
                lock(&self.books).leases += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The first tick comes at once.
fn every(period: Duration) -> Interval {
    let mut ticks = interval(period.max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn say(out: &mpsc::Sender<FromAgent>, message: Said) -> Result<(), Status> {
    let sent = out.send(FromAgent { message: Some(message) }).await;
    sent.map_err(|_| Status::unavailable("the stream has ended"))
}
