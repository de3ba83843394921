//! The service that agents attach to, and the streams that are open on this replica.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dashmap::{DashMap, mapref::entry::Entry};
use proto::{
    agent::{
        FileRequest, FromAgent, FromHub, Hello, KeepFile, Kept, from_agent::Message, hub_server,
        keep_file::Part,
    },
    id::{AgentId, CaptureId, InstanceId, SessionId},
    session::EndReason,
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{error, info, warn};

use super::{
    messages,
    store::{self, Registration},
    stream::Stream,
    told::Told,
};
use crate::{
    app::App,
    files::{
        orders::Order,
        transfer::{self, Chunks},
    },
    sessions::{self, SessionRow, inputs::Inputs},
};

/// How long an agent may take to say hello.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// Messages that may wait to be sent. An agent that does not take them is as good as gone.
const OUTGOING: usize = 4_096;

/// The agents whose streams end on this replica. What is pushed here is only faster than the
/// streams' own look at the database; it may be lost.
#[derive(Clone, Default)]
pub struct Hub {
    open: Arc<DashMap<AgentId, Open>>,
}

/// An agent's open stream, to push to. Cheap to clone.
#[derive(Clone)]
pub(super) struct Open {
    pub agent: AgentId,
    pub instance: InstanceId,
    /// Grows with every stream of the agent, over all replicas.
    pub epoch: u64,
    /// Cancelled when the stream is to end.
    pub cut: CancellationToken,
    out: mpsc::Sender<Result<FromHub, Status>>,
    told: Arc<Mutex<Told>>,
}

impl Open {
    /// Tells the agent to run a session.
    pub fn assign(&self, session: &SessionRow, inputs: &Inputs) {
        self.told().assigned(session);
        self.send(messages::assign(session, inputs));
    }

    /// Tells the agent of a session's deadline and keep-alive, unless it knows.
    pub fn adjust(&self, session: &SessionRow) {
        if self.told().adjusts(session) {
            self.send(messages::adjust(session));
        }
    }

    /// Asks the agent for a browser's storage state, unless it was asked.
    pub fn capture(&self, capture: CaptureId, session: SessionId) {
        if self.told().captures(capture) {
            self.send(messages::capture(capture, session));
        }
    }

    /// Has the agent do something with an upload, unless it was asked.
    pub fn file(&self, order: &Order) {
        if self.told().orders(order.id) {
            self.send(messages::file(order));
        }
    }

    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message. If there is no room for it the stream ends, and the agent's next
    /// hello mends what was lost.
    pub fn send(&self, message: FromHub) {
        if self.out.try_send(Ok(message)).is_err() {
            self.cut.cancel();
        }
    }

    /// Ends the stream with a status, if there is room to say it.
    pub fn refuse(&self, status: Status) {
        let _ = self.out.try_send(Err(status));
        self.cut.cancel();
    }
}

impl Hub {
    /// Tells an agent to run a session.
    pub fn assign(&self, agent: AgentId, session: &SessionRow, inputs: &Inputs) {
        self.on(agent, |open| open.assign(session, inputs));
    }

    /// Tells an agent of a session's deadline and keep-alive.
    pub fn adjust(&self, agent: AgentId, session: &SessionRow) {
        self.on(agent, |open| open.adjust(session));
    }

    /// Asks an agent for the storage state of a session's browser.
    pub fn capture(&self, agent: AgentId, capture: CaptureId, session: SessionId) {
        self.on(agent, |open| open.capture(capture, session));
    }

    /// Has an agent do something with an upload.
    pub fn file(&self, agent: AgentId, order: &Order) {
        self.on(agent, |open| open.file(order));
    }

    /// Tells an agent to end a session.
    pub fn release(&self, agent: AgentId, session: SessionId, reason: EndReason) {
        self.on(agent, |open| open.send(messages::release(session, reason)));
    }

    /// Tells every agent which keys sign connect tokens now.
    pub fn keys_changed(&self, jwks: &str) {
        for open in self.open.iter() {
            open.send(messages::signing_keys(jwks));
        }
    }

    fn on(&self, agent: AgentId, push: impl FnOnce(&Open)) {
        if let Some(open) = self.open.get(&agent) {
            push(&open);
        }
    }

    /// Whether this very run of an agent has its stream here.
    fn has(&self, agent: AgentId, instance: InstanceId) -> bool {
        self.open.get(&agent).is_some_and(|open| open.instance == instance)
    }

    /// From now on pushes go to this stream; an older one of the same agent ends.
    fn add(&self, stream: &Open) {
        match self.open.entry(stream.agent) {
            Entry::Occupied(newer) if newer.get().epoch > stream.epoch => stream.cut.cancel(),
            Entry::Occupied(mut older) => {
                older.get().refuse(Status::aborted("the agent has a newer stream"));
                older.insert(stream.clone());
            }
            Entry::Vacant(place) => {
                place.insert(stream.clone());
            }
        }
    }

    pub(super) fn remove(&self, stream: &Open) {
        self.open.remove_if(&stream.agent, |_, open| open.epoch == stream.epoch);
    }
}

/// The agent protocol's service.
pub struct Service {
    app: App,
    stop: CancellationToken,
}

impl Service {
    /// Streams end with `stop`.
    pub fn new(app: App, stop: CancellationToken) -> Self {
        Self { app, stop }
    }

    async fn welcome(&self, hello: &Hello) -> Result<(Open, Outgoing), Status> {
        self.check_token(&hello.join_token)?;
        let agent = messages::registration(hello)?;
        let epoch = self.register(&agent).await?;
        info!(agent = %agent.id, region = %agent.region, epoch, capacity = agent.capacity, "agent attached");
        let (out, outgoing) = mpsc::channel(OUTGOING);
        let cut = self.stop.child_token();
        let told = Arc::default();
        let open = Open { agent: agent.id, instance: agent.instance, epoch, cut, out, told };
        // Before it takes pushes: the welcome comes first.
        open.send(messages::welcome(epoch, &self.app.signer.jwks()));
        open.send(messages::lease(0));
        self.app.hub.add(&open);
        self.app.queue.wake(&agent.region);
        Ok((open, ReceiverStream::new(outgoing)))
    }

    fn check_token(&self, given: &str) -> Result<(), Status> {
        if same(given, &self.app.config.join_token) {
            Ok(())
        } else {
            Err(Status::unauthenticated("the join token is wrong"))
        }
    }

    /// The agent that asks for a file or brings one.
    fn agent(&self, id: &str, join_token: &str) -> Result<AgentId, Status> {
        self.check_token(join_token)?;
        id.parse().map_err(|_| Status::failed_precondition("the agent's id is not valid"))
    }

    /// Gives the agent a lease, unless another run of it has one and its stream here.
    async fn register(&self, agent: &Registration) -> Result<u64, Status> {
        let registered = async {
            let mut tx = self.app.db.begin().await?;
            let now = tx.now_us().await?;
            let mut lost = sessions::Lost::default();
            if let Some(former) = store::lock(&mut tx, agent.id).await? {
                let lives = former.lease_expires_us > now;
                let other = former.instance != agent.instance;
                if lives && other && self.app.hub.has(agent.id, former.instance) {
                    return Ok(None);
                }
                if !lives {
                    // What it ran is over, whoever comes to say so first.
                    lost = sessions::lost_in(&mut tx, agent.id).await?;
                }
            }
            let epoch = store::register(&mut tx, agent).await?;
            tx.commit().await?;
            lost.announce(&self.app);
            Ok::<_, sqlx::Error>(Some(epoch))
        };
        match registered.await {
            Ok(Some(epoch)) => Ok(epoch),
            Ok(None) => Err(Status::already_exists("another process attached with this agent id")),
            Err(error) => {
                error!(?error, agent = %agent.id, "could not register the agent");
                Err(Status::unavailable("the database failed"))
            }
        }
    }
}

type Outgoing = ReceiverStream<Result<FromHub, Status>>;

#[tonic::async_trait]
impl hub_server::Hub for Service {
    type AttachStream = Outgoing;
    type FetchStream = Chunks;

    async fn attach(
        &self,
        request: Request<Streaming<FromAgent>>,
    ) -> Result<Response<Outgoing>, Status> {
        if self.stop.is_cancelled() {
            return Err(Status::unavailable("this hub is stopping"));
        }
        let mut inbound = request.into_inner();
        let first = timeout(HELLO_LIMIT, inbound.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no hello came"))??;
        let Some(FromAgent { message: Some(Message::Hello(hello)) }) = first else {
            return Err(Status::failed_precondition("the first message must be a hello"));
        };
        let (open, outgoing) = self.welcome(&hello).await.inspect_err(|status| {
            warn!(code = ?status.code(), reason = status.message(), "refused an agent");
        })?;
        let stream = Stream::new(self.app.clone(), open);
        self.app.tasks.spawn(stream.run(inbound, hello.sessions));
        Ok(Response::new(outgoing))
    }

    async fn fetch(&self, request: Request<FileRequest>) -> Result<Response<Chunks>, Status> {
        let request = request.into_inner();
        let agent = self.agent(&request.agent_id, &request.join_token)?;
        let chunks = transfer::fetch(&self.app, agent, &request.session_id, &request.name).await?;
        Ok(Response::new(chunks))
    }

    async fn keep(&self, request: Request<Streaming<KeepFile>>) -> Result<Response<Kept>, Status> {
        let mut inbound = request.into_inner();
        let first = timeout(HELLO_LIMIT, inbound.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no header came"))??;
        let Some(KeepFile { part: Some(Part::Header(header)) }) = first else {
            return Err(Status::failed_precondition("the first message must be a header"));
        };
        let agent = self.agent(&header.agent_id, &header.join_token)?;
        // In a task of its own: if the stream breaks, nothing is left half written.
        let app = self.app.clone();
        let keeping = async move { transfer::keep(&app, agent, header, inbound).await };
        let kept = self.app.tasks.spawn(keeping).await;
        kept.map_err(|_| Status::internal("the hub failed to keep the file"))?.map(Response::new)
    }
}

/// Compares without telling by its duration where two texts differ.
fn same(given: &str, expected: &str) -> bool {
    let [given, expected] = [given, expected].map(Sha256::digest);
    given.as_slice().ct_eq(expected.as_slice()).into()
}
