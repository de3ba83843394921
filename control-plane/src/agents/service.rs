//! The service that agents attach to: who may, and what they bring and fetch.

use std::{sync::Arc, time::Duration};

use proto::{
    agent::{
        FileRequest, FromAgent, FromHub, Hello, KeepFile, Kept, LocateRequest, Located,
        from_agent::Message, hub_server, keep_file::Part,
    },
    id::AgentId,
    region::Region,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{error, info, warn};

use super::{
    hub::Open,
    in_time, messages,
    store::{self, Registration},
    stream::Stream,
};
use crate::{
    app::App,
    files::transfer::{self, Chunks},
    join_tokens::{self, Grant},
    periodic::part_of,
    sessions,
};

/// How long an agent may take to say hello.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// How long the end of what an agent ran before may keep it waiting.
const REGISTER_LIMIT: Duration = Duration::from_secs(5);
/// How long to leave rows to those who hold them, at most.
const AGAIN: Duration = Duration::from_millis(20);
/// Messages that may wait to be sent. An agent that does not take them is as good as gone.
const OUTGOING: usize = 4_096;

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
        let grant = self.grant(&hello.join_token).await?;
        let agent = messages::registration(hello)?;
        let pod = messages::pod(hello)?;
        if !grant.covers(&agent.region) {
            return Err(Status::permission_denied(format!(
                "the join token is another region's: it is not good for {}",
                agent.region
            )));
        }
        let (epoch, now_us) = self.register(&agent, &grant).await?;
        info!(agent = %agent.id, region = %agent.region, epoch, capacity = agent.capacity, "agent attached");
        let (out, outgoing) = mpsc::channel(OUTGOING);
        let cut = self.stop.child_token();
        let told = Arc::default();
        let (id, instance, region) = (agent.id, agent.instance, agent.region.clone());
        let token = grant.token();
        let open = Open { agent: id, instance, region, pod, epoch, token, cut, out, told };
        // Before it takes pushes: the welcome comes first.
        open.send(messages::welcome(epoch, &self.app.signer.jwks()));
        open.send(messages::lease(0, now_us));
        open.peers(self.app.hub.roster());
        self.app.hub.add(&open);
        self.app.queue.wake(&agent.region);
        Ok((open, ReceiverStream::new(outgoing)))
    }

    /// What a join token allows.
    async fn grant(&self, given: &str) -> Result<Grant, Status> {
        let checked = async {
            let mut tx = self.app.db.read().await?;
            join_tokens::check(&mut tx, &self.app.config.join_token, given).await
        };
        let checked = self.answer(checked).await?;
        checked.map_err(|refusal| Status::unauthenticated(refusal.to_string()))
    }

    /// The agent that asks beside its stream, and its region.
    async fn agent(&self, id: &str, join_token: &str) -> Result<(AgentId, Region), Status> {
        let grant = self.grant(join_token).await?;
        let id = id.parse();
        let id = id.map_err(|_| Status::failed_precondition("the agent's id is not valid"))?;
        let region = async { store::region_of(&mut self.app.db.read().await?, id).await };
        match self.answer(region).await? {
            Some(region) if grant.covers(&region) => Ok((id, region)),
            _ => Err(Status::permission_denied("the join token is not good for this agent")),
        }
    }

    /// Gives the agent a lease, unless another run of it has one and a stream, or it belongs to
    /// another region: the stream's epoch, and when by the database's clock. What another run of
    /// it ran under a lease that has lapsed is over first; what it ran itself is what it says.
    async fn register(&self, agent: &Registration, grant: &Grant) -> Result<(u64, i64), Status> {
        let registered = async {
            loop {
                match self.answer(self.try_register(agent, grant)).await? {
                    Some(answer) => return answer,
                    None if self.lost(agent.id).await? => (),
                    // Others are at what is left of it.
                    None => sleep(part_of(AGAIN)).await,
                }
            }
        };
        let registered = timeout(REGISTER_LIMIT, registered).await;
        registered.map_err(|_| Status::unavailable("what it ran before is yet to be ended"))?
    }

    /// What the database says, if it does so before the agent gives up.
    async fn answer<T>(&self, asked: impl Future<Output = sqlx::Result<T>>) -> Result<T, Status> {
        in_time(asked).await.map_err(|error| self.away(&error))
    }

    /// Ends what another run of an agent ran, which may be much.
    async fn lost(&self, agent: AgentId) -> Result<bool, Status> {
        sessions::lost(&self.app, agent).await.map_err(|error| self.away(&error))
    }

    fn away(&self, error: &sqlx::Error) -> Status {
        error!(?error, "could not let an agent in");
        self.app.watch.failed();
        messages::away()
    }

    /// `None`: another run of it has a lapsed lease, and sessions that are to end first.
    async fn try_register(
        &self,
        agent: &Registration,
        grant: &Grant,
    ) -> sqlx::Result<Option<Result<(u64, i64), Status>>> {
        let mut tx = self.app.db.begin().await?;
        let now = tx.now_us().await?;
        // Before the agent's row: whoever revokes a token holds both in this order.
        if let Some(token) = grant.token() {
            join_tokens::store::used(&mut tx, token).await?;
        }
        if let Some(former) = store::lock(&mut tx, agent.id).await? {
            let lives = former.lease_expires_us > now;
            // Whoever has the server's own token may move what does not live.
            if former.region != agent.region && (lives || *grant != Grant::Any) {
                return Ok(Some(Err(elsewhere(agent))));
            }
            let other = former.instance != agent.instance;
            let is_heard = self.app.db.is_shared() && former.was_just_heard(now);
            let is_there = is_heard || self.app.hub.has(agent.id, former.instance);
            if lives && other && is_there {
                let text = "another process attached with this agent id";
                return Ok(Some(Err(Status::already_exists(text))));
            }
            if !lives && other && former.in_use > 0 {
                return Ok(None);
            }
        }
        let Some(epoch) = store::register(&mut tx, agent, grant.token()).await? else {
            return Ok(Some(Err(elsewhere(agent))));
        };
        tx.commit().await?;
        Ok(Some(Ok((epoch, now))))
    }
}

/// An id stays in the region that it was first seen in: whoever has another region's token
/// cannot speak for its agents.
fn elsewhere(agent: &Registration) -> Status {
    Status::permission_denied(format!(
        "agent {} belongs to another region than {}: an agent that moves needs a new data directory",
        agent.id, agent.region
    ))
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
        let (agent, _) = self.agent(&request.agent_id, &request.join_token).await?;
        let chunks = transfer::fetch(&self.app, agent, &request.session_id, &request.name).await?;
        Ok(Response::new(chunks))
    }

    async fn locate(&self, request: Request<LocateRequest>) -> Result<Response<Located>, Status> {
        let request = request.into_inner();
        let (_, region) = self.agent(&request.agent_id, &request.join_token).await?;
        let session = request.session_id.parse();
        let session = session.map_err(|_| Status::not_found("no session has such an id"))?;
        let found = async { sessions::store::get(&mut self.app.db.read().await?, session).await };
        let found = self.answer(found).await?;
        let live = found.filter(|row| row.region == region && !row.status.is_final());
        let live = live.ok_or_else(|| Status::not_found("no such session runs in this region"))?;
        let agent_id = live.agent_id.as_ref().map(ToString::to_string).unwrap_or_default();
        Ok(Response::new(Located { agent_id }))
    }

    async fn keep(&self, request: Request<Streaming<KeepFile>>) -> Result<Response<Kept>, Status> {
        let mut inbound = request.into_inner();
        let first = timeout(HELLO_LIMIT, inbound.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no header came"))??;
        let Some(KeepFile { part: Some(Part::Header(header)) }) = first else {
            return Err(Status::failed_precondition("the first message must be a header"));
        };
        let (agent, _) = self.agent(&header.agent_id, &header.join_token).await?;
        // In a task of its own: if the stream breaks, nothing is left half written.
        let app = self.app.clone();
        let keeping = async move { transfer::keep(&app, agent, header, inbound).await };
        let kept = self.app.tasks.spawn(keeping).await;
        kept.map_err(|_| Status::internal("the hub failed to keep the file"))?.map(Response::new)
    }
}
