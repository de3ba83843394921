//! Connect URLs of other agents: any agent of a region takes them, and forwards each to the
//! agent that runs the session.
//!
//! One hop, and bytes from there on: nothing of CDP is looked at twice. The connect token goes
//! no further than here. What crosses to the other agent is a [`Pass`](pass::Pass), good for
//! this one request to that one agent, so whoever listens or answers in its place learns
//! nothing that opens a session later.

mod answer;
mod dial;
mod pass;
mod peers;
mod pump;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use axum::{body::Body, extract::Request, response::Response};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use proto::{
    agent,
    id::{AgentId, SessionId},
    problem::{Problem, RequestId, Slug},
};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

pub use self::pass::Pass;
use self::{
    pass::{Checked, Signer},
    peers::{Peer, Peers},
};
use crate::clock::Clock;

/// Holds a pass. A request with it is never forwarded again.
pub const FORWARDED: HeaderName = HeaderName::from_static("ventus-forwarded");
/// Connections that may be forwarded at once. Each takes two sockets and two small buffers.
const FORWARDS_MAX: usize = 4_096;
/// How long the other agent may take to answer: its browser may still have to come up.
const ANSWER_LIMIT: Duration = Duration::from_secs(35);
/// When to try again where the other agent is not reached, in seconds.
const RETRY_AFTER: u32 = 1;

/// What a client asks for that another agent has. Never shown: it holds the connect token.
pub struct Asked<'a> {
    /// Which session, and on which agent.
    pub session: SessionId,
    pub owner: AgentId,
    /// What the client showed.
    pub token: &'a str,
    /// Below `/v1/sessions/{id}/cdp`, without a slash before it.
    pub path: &'a str,
    /// Without the token.
    pub query: &'a str,
    /// What URLs in the answer begin with: where the client reaches this agent.
    pub base: &'a str,
}

/// Forwards to the other agents of the region, and knows what they forward.
pub struct Forwarder {
    agent: AgentId,
    clock: Arc<Clock>,
    signer: Signer,
    checked: Checked,
    peers: Peers,
    room: Arc<Semaphore>,
    /// Forwarded connections, which end with `stop`.
    open: TaskTracker,
    connections: TaskTracker,
    stop: CancellationToken,
}

impl Forwarder {
    /// With a key of its own, as long as the process lives. `connections` owns what it opens.
    ///
    /// # Errors
    ///
    /// When no key can be made.
    pub(crate) fn new(
        agent: AgentId,
        clock: Arc<Clock>,
        connections: TaskTracker,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            agent,
            clock,
            signer: Signer::generate()?,
            checked: Checked::default(),
            peers: Peers::default(),
            room: Arc::new(Semaphore::new(FORWARDS_MAX)),
            open: TaskTracker::new(),
            connections,
            stop,
        })
    }

    /// By what others know what this agent forwards: an Ed25519 public key.
    pub fn key(&self) -> Vec<u8> {
        self.signer.public().to_vec()
    }

    /// The agents of the region from now on.
    pub fn meet(&self, peers: agent::Peers) {
        self.peers.replace(self.agent, peers);
    }

    /// Waits until no connection is forwarded.
    pub async fn finished(&self) {
        self.open.close();
        self.open.wait().await;
    }

    /// Unix seconds.
    fn now(&self) -> u64 {
        u64::try_from(self.clock.now_ms() / 1_000).unwrap_or(0)
    }

    /// What a pass allows, if another agent of the region made it for this very request.
    pub async fn check(
        &self,
        pass: &HeaderValue,
        method: &Method,
        uri: &Uri,
    ) -> Result<Pass, Problem> {
        let refused = || Problem::new(Slug::Unauthorized, "the pass is malformed, forged or used");
        let text = pass.to_str().map_err(|_| refused())?;
        let from = pass::issuer(text).ok_or_else(refused)?;
        if from == self.agent {
            return Err(astray());
        }
        let peer = self.peers.find(from).await.ok_or_else(refused)?;
        let pass = self
            .checked
            .check(text, &peer.key, from, method, uri, self.now())
            .ok_or_else(refused)?;
        if pass.owner != self.agent {
            return Err(astray());
        }
        Ok(pass)
    }

    /// Asks the agent that runs the session.
    pub async fn forward(
        &self,
        asked: Asked<'_>,
        request: &mut Request,
    ) -> Result<Response, Problem> {
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            return Err(unreachable("too many connections are forwarded already"));
        };
        let Some(peer) = self.peers.find(asked.owner).await else {
            return Err(Problem::new(Slug::NotFound, "no agent of this region runs the session"));
        };
        let upgrades = request.headers().contains_key(header::UPGRADE);
        let id = pass::new_id();
        let onward = self.onward(&asked, &peer, &id, request)?;
        let mut answer = self.ask(&peer, onward).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return answer::translated(answer, &asked, &id).await;
        }
        if !upgrades {
            return Err(unreachable("the agent that runs the session broke the protocol"));
        }
        let client = hyper::upgrade::on(request);
        let owner = hyper::upgrade::on(&mut answer);
        let stop = self.stop.clone();
        self.connections.spawn(self.open.track_future(async move {
            match tokio::try_join!(client, owner) {
                Ok((client, owner)) => {
                    stop.run_until_cancelled(pump::between(client, owner)).await;
                }
                Err(error) => debug!(%error, "one side left during its upgrade"),
            }
            drop(room);
        }));
        Ok(answer::upgraded(&answer))
    }

    /// The request as the other agent gets it: nothing of the client's own but what a
    /// WebSocket's opening needs.
    fn onward(
        &self,
        asked: &Asked<'_>,
        peer: &Peer,
        id: &str,
        request: &Request,
    ) -> Result<Request, Problem> {
        let mut target = format!("/v1/sessions/{}/cdp", asked.session);
        for (before, part) in [('/', asked.path), ('?', asked.query)] {
            if !part.is_empty() {
                target.push(before);
                target.push_str(part);
            }
        }
        let malformed = |_| Problem::malformed("the request cannot be forwarded");
        let pass = self.signer.sign(self.agent, asked, id, request.method(), &target, self.now());
        let pass = pass.map_err(|error| {
            warn!(%error, "a pass could not be signed");
            Problem::new(Slug::Internal, "the request could not be forwarded")
        })?;
        let mut onward = http::Request::builder()
            .method(request.method().clone())
            .uri(target)
            .header(header::HOST, peer.address.authority())
            .header(FORWARDED, pass)
            .body(Body::empty())
            .map_err(malformed)?;
        let headers = onward.headers_mut();
        if let Some(RequestId(id)) = request.extensions().get()
            && let Ok(id) = HeaderValue::from_str(id)
        {
            headers.insert("x-request-id", id);
        }
        for name in [
            header::CONNECTION,
            header::UPGRADE,
            header::SEC_WEBSOCKET_KEY,
            header::SEC_WEBSOCKET_VERSION,
        ] {
            if let Some(value) = request.headers().get(&name)
                && request.headers().contains_key(header::UPGRADE)
            {
                headers.insert(name, value.clone());
            }
        }
        Ok(onward)
    }

    async fn ask(
        &self,
        peer: &Peer,
        onward: Request,
    ) -> Result<http::Response<hyper::body::Incoming>, Problem> {
        let asking = async {
            let (mut sender, connection) = dial::open(&peer.address).await?;
            // It ends with the answer, or with what the connection becomes after that.
            let stop = self.stop.clone();
            self.connections.spawn(async move {
                let _ = stop.run_until_cancelled(connection).await;
            });
            Ok::<_, dial::Error>(sender.send_request(onward).await?)
        };
        match timeout(ANSWER_LIMIT, asking).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                warn!(peer = %peer.id, %error, "another agent was not reached");
                Err(unreachable("the agent that runs the session cannot be reached"))
            }
            Err(_) => Err(unreachable("the agent that runs the session does not answer")),
        }
    }
}

/// The addresses that agents know of each other lead elsewhere: to a load balancer that they
/// share, for instance. What came here goes no further, so nothing goes round in circles.
fn astray() -> Problem {
    warn!("what was forwarded to another agent came here: see --peer-url");
    unreachable("what was forwarded came to the wrong agent")
}

fn unreachable(detail: &str) -> Problem {
    Problem::new(Slug::SessionNotReady, detail).with_retry_after(RETRY_AFTER)
}
