//! Who did what: rows that are only ever added, each in the transaction of what it tells of.

pub mod list;
mod store;

#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
};

use axum::extract::{ConnectInfo, FromRequestParts};
use http::{header, request::Parts};
use proto::id::{KeyId, UserId, WorkspaceId};
use serde_json::{Map, Value};
use ulid::Ulid;

use crate::{
    db::{Tx, on, parse},
    retention::old,
};

/// Longest `User-Agent` that is kept, in bytes.
const USER_AGENT_MAX: usize = 512;

/// Where a request comes from.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    ip: Option<IpAddr>,
    user_agent: Option<String>,
}

impl Peer {
    /// That of a request.
    pub fn of(request: &Parts) -> Self {
        let peer = request.extensions.get::<ConnectInfo<SocketAddr>>();
        let user_agent = request.headers.get(header::USER_AGENT);
        let user_agent = user_agent.and_then(|value| value.to_str().ok());
        Self {
            ip: peer.map(|peer| peer.0.ip().to_canonical()),
            // `to_str` lets only ASCII pass, so any byte is a boundary.
            user_agent: user_agent.map(|text| text[..text.len().min(USER_AGENT_MAX)].to_owned()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

/// Who does something, and from where.
#[derive(Clone, Debug)]
pub struct Actor {
    kind: &'static str,
    id: String,
    email: Option<String>,
    peer: Peer,
}

impl Actor {
    /// The holder of an API key.
    pub fn api_key(id: KeyId, request: &Parts) -> Self {
        Self { kind: "api_key", id: id.to_string(), email: None, peer: Peer::of(request) }
    }

    /// A person.
    pub fn user(id: UserId, email: &str, peer: Peer) -> Self {
        Self { kind: "user", id: id.to_string(), email: Some(email.to_owned()), peer }
    }

    /// The server itself.
    pub fn system() -> Self {
        Self { kind: "system", id: "ventus".to_owned(), email: None, peer: Peer::default() }
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
    let binds = [
        Ulid::generate().to_string().into(),
        workspace.to_string().into(),
        now.into(),
        actor.kind.into(),
        actor.id.clone().into(),
        actor.email.clone().into(),
        deed.action.into(),
        deed.target_kind.into(),
        deed.target_id.into(),
        Value::from(detail).into(),
        actor.peer.ip.map(|ip| ip.to_string()).into(),
        actor.peer.user_agent.clone().into(),
    ];
    tx.add(INSERT, binds).await
}

const EVERYWHERE: &str = "SELECT workspace_id FROM memberships WHERE user_id = $1";

/// Records what a person did as themselves, such as signing in, with each workspace that they
/// belong to.
pub async fn record_everywhere(
    tx: &mut Tx,
    user: UserId,
    actor: &Actor,
    action: &'static str,
) -> sqlx::Result<()> {
    let id = user.to_string();
    let workspaces: Vec<String> =
        on!(tx, |db| sqlx::query_scalar(EVERYWHERE).bind(&id).fetch_all(db).await)?;
    for workspace in workspaces {
        let deed = Deed { action, target_kind: "user", target_id: &id, detail: &[] };
        record(tx, parse(&workspace)?, actor, deed).await?;
    }
    Ok(())
}

/// Rows of long ago.
pub const OLD: [&str; 2] = old!("audit", "at_us < $1");

const PURGE: &str = "DELETE FROM audit WHERE id IN \
     (SELECT id FROM audit WHERE workspace_id = $1 LIMIT 500)";

/// Deletes some of what was done in a workspace that is deleted for good. Says how many; 0:
/// none was left.
pub async fn purge(tx: &mut Tx, workspace: WorkspaceId) -> sqlx::Result<u64> {
    on!(tx, |db| {
        let purge = sqlx::query(PURGE).bind(workspace.to_string());
        purge.execute(db).await.map(|done| done.rows_affected())
    })
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[INSERT, EVERYWHERE, PURGE, store::PAGE];
