//! The other agents of the region, as the hub tells of them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use proto::{agent, id::AgentId};
use tokio::{sync::watch, time::timeout};
use tracing::warn;

use super::dial::Address;

/// How long an agent that is not known yet is waited for: a new one is told of within a second.
const PATIENCE: Duration = Duration::from_secs(2);

/// Another agent.
pub(super) struct Peer {
    pub id: AgentId,
    pub address: Address,
    /// Its passes are signed by it.
    pub key: DecodingKey,
}

/// All that are known.
#[derive(Default)]
pub(super) struct Peers(watch::Sender<HashMap<AgentId, Arc<Peer>>>);

impl Peers {
    /// Only these from now on. One that cannot be used is left out.
    pub fn replace(&self, own: AgentId, told: agent::Peers) {
        let known = told.peers.into_iter().filter_map(|peer| {
            let id: AgentId = peer.agent_id.parse().ok()?;
            // Without a key it forwards nothing, and would not know what we forward.
            if id == own || peer.forwarding_key.is_empty() {
                return None;
            }
            let key = URL_SAFE_NO_PAD.encode(&peer.forwarding_key);
            let (address, key) =
                (Address::parse(&peer.data_plane_url), DecodingKey::from_ed_components(&key).ok());
            let (Some(address), Some(key)) = (address, key) else {
                warn!(peer = %id, "the hub told of an agent that cannot be used");
                return None;
            };
            Some((id, Arc::new(Peer { id, address, key })))
        });
        self.0.send_replace(known.collect());
    }

    /// One of them, waited for if need be; `None`: it is not in this region, or gone.
    pub async fn find(&self, id: AgentId) -> Option<Arc<Peer>> {
        let mut known = self.0.subscribe();
        let found = timeout(PATIENCE, known.wait_for(|known| known.contains_key(&id))).await;
        found.ok()?.ok()?.get(&id).cloned()
    }
}
