//! Who did what: rows that are only ever added, each in the transaction of what it tells of.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use http::{header, request::Parts};
use proto::id::{KeyId, WorkspaceId};
use serde_json::{Map, Value};
use sqlx::types::Json;
use ulid::Ulid;

use crate::db::{Tx, on};

/// Longest `User-Agent` that is kept, in bytes.
const USER_AGENT_MAX: usize = 512;

/// Who does something, and from where.
#[derive(Clone, Debug)]
pub struct Actor {
    kind: &'static str,
    id: String,
    email: Option<String>,
    ip: Option<IpAddr>,
    user_agent: Option<String>,
}

impl Actor {
    /// The holder of an API key.
    pub fn api_key(id: KeyId, request: &Parts) -> Self {
        Self::from_request("api_key", id.to_string(), None, request)
    }

    /// The server itself.
    pub fn system() -> Self {
        Self { kind: "system", id: "ventus".to_owned(), email: None, ip: None, user_agent: None }
    }

    fn from_request(
        kind: &'static str,
        id: String,
        email: Option<String>,
        request: &Parts,
    ) -> Self {
        let peer = request.extensions.get::<ConnectInfo<SocketAddr>>();
        let user_agent = request.headers.get(header::USER_AGENT);
        let user_agent = user_agent.and_then(|value| value.to_str().ok());
        Self {
            kind,
            id,
            email,
            ip: peer.map(|peer| peer.0.ip().to_canonical()),
            // `to_str` lets only ASCII pass, so any byte is a boundary.
            user_agent: user_agent.map(|text| text[..text.len().min(USER_AGENT_MAX)].to_owned()),
        }
    }
}

/// Something that was done.
#[derive(Clone, Copy, Debug)]
pub struct Deed<'a> {
    /// A dotted verb: `api_key.create`.
    pub action: &'static str,
    /// What kind of thing it was done to: `api_key`.
    pub target_kind: &'static str,
    /// Which one.
    pub target_id: &'a str,
    /// More of it. Each field is named where the deed is, so nothing secret slips in.
    pub detail: &'a [(&'static str, Value)],
}

const INSERT: &str = "INSERT INTO audit \
     (id, workspace_id, at_us, actor_kind, actor_id, actor_email, action, target_kind, \
     target_id, detail, ip, user_agent) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

/// Records a deed in its own transaction.
pub async fn record(
    tx: &mut Tx,
    workspace: WorkspaceId,
    actor: &Actor,
    deed: Deed<'_>,
) -> sqlx::Result<()> {
    let now = tx.now_us().await?;
    let detail: Map<_, _> =
        deed.detail.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    on!(tx, |db| {
        sqlx::query(INSERT)
            .bind(Ulid::generate().to_string())
            .bind(workspace.to_string())
            .bind(now)
            .bind(actor.kind)
            .bind(&actor.id)
            .bind(&actor.email)
            .bind(deed.action)
            .bind(deed.target_kind)
            .bind(deed.target_id)
            .bind(Json(&detail))
            .bind(actor.ip.map(|ip| ip.to_string()))
            .bind(&actor.user_agent)
            .execute(db)
            .await
            .map(drop)
    })
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[INSERT];
