//! An agent without browsers that speaks the real protocol and muddles it: what it says comes
//! twice, too late, in another order, or is about sessions that are not its own.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use harness::fleet::TOKEN;
use proto::{
    PROTOCOL_VERSION,
    agent::{
        Ended, FromAgent, FromHub, Heartbeat, Hello, Running, SessionReport,
        from_agent::Message as Said, from_hub::Message, hub_client::HubClient, session_report,
    },
    id::{AgentId, InstanceId},
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{interval, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// The reason that it gives for the end of what is not its own. No session may ever have it.
pub const SLANDER: &str = "resource_limit";
/// How many of its messages it remembers, to say them again.
const REMEMBERED: usize = 32;
/// After how many messages it ends its stream, about.
const PATIENCE: u32 = 60;

/// Sessions that any of them has run.
pub type Heard = Arc<Mutex<Vec<String>>>;

/// Runs until it is dropped.
pub struct Muddled(JoinHandle<()>);

impl Drop for Muddled {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Muddled {
    /// One that dials these hubs in turn.
    pub fn start(hubs: [u16; 2], capacity: u32, random: Rng, heard: &Heard) -> Self {
        let mut state = State {
            id: AgentId::generate(),
            instance: InstanceId::generate(),
            capacity,
            random,
            heard: Arc::clone(heard),
            runs: HashMap::new(),
            said: VecDeque::new(),
            late: Vec::new(),
        };
        Self(tokio::spawn(async move {
            for hub in hubs.into_iter().cycle() {
                // However it ends, there is another hub.
                let _ = state.attach(hub).await;
                sleep(Duration::from_millis(50)).await;
            }
        }))
    }
}

struct State {
    id: AgentId,
    instance: InstanceId,
    capacity: u32,
    random: Rng,
    heard: Heard,
    /// What it really runs; what has ended stays, with the reason, until that is acknowledged.
    runs: HashMap<String, Option<String>>,
    said: VecDeque<Said>,
    /// To be said later.
    late: Vec<Said>,
}

impl State {
    fn hello(&self) -> Hello {
        let report = |(id, over): (&String, &Option<String>)| SessionReport {
            session_id: id.clone(),
            state: Some(match over {
                None => session_report::State::Running(true),
                Some(reason) => session_report::State::Ended(ended(id, reason)),
            }),
        };
        Hello {
            protocol_version: PROTOCOL_VERSION,
            agent_id: self.id.to_string(),
            instance: self.instance.to_string(),
            join_token: TOKEN.to_owned(),
            region: "local".to_owned(),
            capacity: self.capacity,
            data_plane_url: "ws://127.0.0.1:1".to_owned(),
            browser_version: "none".to_owned(),
            sessions: self.runs.iter().map(report).collect(),
            ..Hello::default()
        }
    }

    async fn attach(&mut self, hub: u16) -> Result<(), Status> {
        let dialled = HubClient::connect(format!("http://127.0.0.1:{hub}")).await;
        let mut hub = dialled.map_err(|_| Status::unavailable("nobody listens"))?;
        let (out, outgoing) = mpsc::channel(1_024);
        send(&out, Said::Hello(self.hello())).await?;
        let mut inbound = hub.attach(ReceiverStream::new(outgoing)).await?.into_inner();
        let (mut heartbeat, mut sequence) = (interval(Duration::from_secs(1)), 0);
        loop {
            tokio::select! {
                _ = heartbeat.tick() => {
                    sequence += 1;
                    send(&out, Said::Heartbeat(Heartbeat { sequence, warm: 0 })).await?;
                    // As a real one: an end is repeated until it is acknowledged.
                    for (id, reason) in self.runs.clone() {
                        if let Some(reason) = reason {
                            send(&out, Said::Ended(ended(&id, &reason))).await?;
                        }
                    }
                    for late in std::mem::take(&mut self.late) {
                        send(&out, late).await?;
                    }
                }
                heard = inbound.message() => {
                    let Some(FromHub { message: Some(message) }) = heard? else { return Ok(()) };
                    for said in self.answers(message) {
                        self.muddle(&out, said).await?;
                    }
                    if self.random.u32(0..PATIENCE) == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// What is true, and now and then the end before the beginning.
    fn answers(&mut self, message: Message) -> Vec<Said> {
        match message {
            Message::Assign(assign) => {
                let id = assign.session_id;
                let running = Said::Running(Running { session_id: id.clone() });
                match self.runs.get(&id) {
                    // It was said before, and may have been lost.
                    Some(Some(_)) => vec![],
                    None if self.random.u8(0..6) == 0 => {
                        self.runs.insert(id.clone(), Some("launch_failed".to_owned()));
                        vec![Said::Ended(ended(&id, "launch_failed")), running]
                    }
                    Some(None) | None => {
                        // Only now: a launch that fails moves, perhaps to one that speaks of it.
                        self.heard.lock().unwrap().push(id.clone());
                        self.runs.insert(id, None);
                        vec![running]
                    }
                }
            }
            Message::Release(release) => {
                let id = release.session_id;
                let over = self.runs.entry(id.clone()).or_default();
                let reason = over.get_or_insert(release.reason).clone();
                vec![Said::Ended(ended(&id, &reason)), Said::Running(Running { session_id: id })]
            }
            Message::Acknowledge(acknowledge) => {
                self.runs.remove(&acknowledge.session_id);
                vec![]
            }
            _ => vec![],
        }
    }

    /// Says it now or later, once or twice, and perhaps something else as well.
    async fn muddle(&mut self, out: &mpsc::Sender<FromAgent>, said: Said) -> Result<(), Status> {
        match self.random.u8(0..4) {
            0 => self.late.push(said.clone()),
            1 => {
                send(out, said.clone()).await?;
                send(out, said.clone()).await?;
            }
            _ => send(out, said.clone()).await?,
        }
        if let Some(old) = self.pick_old() {
            send(out, old).await?;
        }
        if let Some(foreign) = self.pick_foreign() {
            send(out, Said::Running(Running { session_id: foreign.clone() })).await?;
            send(out, Said::Ended(ended(&foreign, SLANDER))).await?;
        }
        self.said.push_back(said);
        self.said.truncate(REMEMBERED);
        Ok(())
    }

    /// Something that it has said about a session that it does not run any more: of one that it
    /// runs, an end would be true.
    fn pick_old(&mut self) -> Option<Said> {
        let old: Vec<_> = self.said.iter().filter(|said| !self.is_of_mine(said)).collect();
        self.random.choice(old).cloned()
    }

    fn is_of_mine(&self, said: &Said) -> bool {
        match said {
            Said::Running(Running { session_id }) | Said::Ended(Ended { session_id, .. }) => {
                self.runs.contains_key(session_id)
            }
            _ => false,
        }
    }

    /// A session that another one runs.
    fn pick_foreign(&mut self) -> Option<String> {
        let heard = self.heard.lock().unwrap();
        let foreign: Vec<_> = heard.iter().filter(|id| !self.runs.contains_key(*id)).collect();
        self.random.choice(foreign.into_iter().rev().take(4).collect::<Vec<_>>()).cloned()
    }
}

fn ended(id: &str, reason: &str) -> Ended {
    Ended { session_id: id.to_owned(), reason: reason.to_owned(), detail: String::new() }
}

async fn send(out: &mpsc::Sender<FromAgent>, message: Said) -> Result<(), Status> {
    let sent = out.send(FromAgent { message: Some(message) }).await;
    sent.map_err(|_| Status::unavailable("the stream has ended"))
}
