//! What the agent asks the hub beside its stream: on a connection of its own, for what is large
//! or waits must not hold up the heartbeats.

use std::{sync::Arc, time::Duration};

use proto::{
    agent::{LocateRequest, hub_client::HubClient},
    id::{AgentId, SessionId},
};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use tonic::{Status, transport::Channel};
use tracing::debug;

use crate::control::Dialer;

/// How long the hub may take to say where a session is.
const LOCATE_LIMIT: Duration = Duration::from_secs(2);
/// How soon it is asked again about a session that moves.
const LOCATE_AGAIN: Duration = Duration::from_millis(250);
/// How many may ask at once where a session is: clients cause it, and the database answers.
const LOCATES_MAX: usize = 16;

/// The hub, for questions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Hub {
    dialer: Arc<Dialer>,
    pub agent: Arc<str>,
    pub join_token: Arc<str>,
    locating: Arc<Semaphore>,
}

impl Hub {
    /// Connects when it is needed.
    pub fn new(dialer: Arc<Dialer>, agent: AgentId, join_token: &str) -> Self {
        Self {
            dialer,
            agent: agent.to_string().into(),
            join_token: join_token.into(),
            locating: Arc::new(Semaphore::new(LOCATES_MAX)),
        }
    }

    pub fn client(&self) -> Result<HubClient<Channel>, Status> {
        let channel = self.dialer.for_questions();
        channel.map(HubClient::new).map_err(|error| Status::from_error(error.into()))
    }

    /// The agent of this region that has a session now, waited for up to `limit` while there is
    /// none yet, or only the `former` one. `None`: the session is over, or the hub does not say.
    pub async fn locate(
        &self,
        session: SessionId,
        former: Option<AgentId>,
        limit: Duration,
    ) -> Option<AgentId> {
        let located = async {
            loop {
                match self.ask_for(session).await {
                    Ok(Some(agent)) if former != Some(agent) => return Some(agent),
                    Ok(_) => sleep(LOCATE_AGAIN).await,
                    Err(status) => {
                        debug!(%session, code = ?status.code(), "the hub names no agent of it");
                        return None;
                    }
                }
            }
        };
        timeout(limit, located).await.ok()?
    }

    /// `None`: none yet.
    async fn ask_for(&self, session: SessionId) -> Result<Option<AgentId>, Status> {
        // Never closed.
        let _turn = self.locating.acquire().await;
        let request = LocateRequest {
            agent_id: self.agent.to_string(),
            join_token: self.join_token.to_string(),
            session_id: session.to_string(),
        };
        let mut hub = self.client()?;
        let located = timeout(LOCATE_LIMIT, hub.locate(request)).await;
        let located = located.map_err(|_| Status::deadline_exceeded("the hub says nothing"))??;
        match located.into_inner().agent_id.as_str() {
            "" => Ok(None),
            id => id.parse().map(Some).map_err(|_| Status::internal("the hub names no agent")),
        }
    }
}
