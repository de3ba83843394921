//! API keys: `vs_<ULID>.<secret>`, for programs. The ULID names the key's record.
//!
//! A key allows what it was made for, and never more than its maker may do now. A key that
//! the server made itself has no maker.

pub mod create;
pub mod list;
pub mod revoke;
pub mod store;

#[cfg(test)]
mod tests;

use std::marker::PhantomData;

use anyhow::Context;
use axum::extract::FromRequestParts;
use http::{HeaderMap, header, request::Parts};
use proto::{
    id::{KeyId, UserId, WorkspaceId},
    problem::{Problem, Slug},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::App, audit::Actor, credential, db::Tx, error::Error, people::Role, rate_limits::Limits,
    sessions::object::rfc3339,
};

/// What a key begins with.
const PREFIX: &str = "vs";
/// Lets its holder list and read sessions.
pub const READ: &str = "sessions:read";
/// Lets its holder create and release sessions.
pub const WRITE: &str = "sessions:write";
/// Lets its holder do what an administrator may: stop any session at once, for instance.
pub const ADMIN: &str = "admin";
/// Lets its holder rename and delete the workspace, and make others owner. No key has it.
pub const OWNER: &str = "workspace:owner";

/// What a route needs its caller to be allowed.
pub trait Needs: Send {
    /// The scope.
    const SCOPE: &'static str;
    /// Whether the workspace must be the operator's: it is about the server itself.
    const OF_OPERATOR: bool = false;
}

/// Needs [`READ`].
pub enum Read {}
/// Needs [`WRITE`].
pub enum Write {}
/// Needs [`ADMIN`].
pub enum Admin {}
/// Needs [`OWNER`].
pub enum Owner {}
/// Needs [`ADMIN`], and a key of the operator's workspace.
pub enum Operator {}

impl Needs for Read {
    const SCOPE: &'static str = READ;
}
impl Needs for Write {
    const SCOPE: &'static str = WRITE;
}
impl Needs for Admin {
    const SCOPE: &'static str = ADMIN;
}
impl Needs for Owner {
    const SCOPE: &'static str = OWNER;
}
impl Needs for Operator {
    const SCOPE: &'static str = ADMIN;
    const OF_OPERATOR: bool = true;
}

/// Whose request this is: its API key is good, is within its rate limit, and allows what the
/// route needs, in this order. Depends on the key alone, so it answers before anything else of
/// the request is looked at.
pub struct Caller<S> {
    /// Whose things the request is about.
    pub workspace: WorkspaceId,
    /// Who is to be named for what it does.
    pub actor: Actor,
    /// How many sessions the workspace may have at once; `None`: as many as there is room for.
    pub sessions_at_once: Option<u32>,
    scope: PhantomData<S>,
}

impl<S: Needs> FromRequestParts<App> for Caller<S> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let (id, secret) = presented(&parts.headers)?;
        let mut tx = app.db.read().await.map_err(Error::from)?;
        let record = store::find(&mut tx, id).await.map_err(Error::from)?;
        let known = record.as_ref().map(|record| record.secret_hash.as_slice());
        let matches = credential::matches(secret, known);
        let Some(record) = record.filter(|record| matches && record.is_good()) else {
            return Err(Problem::new(Slug::Unauthorized, "the API key is unknown or revoked"));
        };
        let limits = Limits::of(record.plan, &app.config);
        let verdict = app.rate_limits.take(&mut tx, id, limits).await.map_err(Error::from)?;
        verdict.admit(&parts.extensions)?;
        if !record.scopes.allow(S::SCOPE) {
            let detail = format!("the API key lacks the scope {}", S::SCOPE);
            return Err(Problem::new(Slug::Forbidden, detail));
        }
        if S::OF_OPERATOR && !record.of_operator {
            let detail = "agents belong to the server: only keys of its operator's workspace may \
                          see and drain them (`ventus operator workspace list` says which it is)";
            return Err(Problem::new(Slug::Forbidden, detail));
        }
        let actor = Actor::api_key(id, parts);
        let store::KeyRow { workspace_id: workspace, sessions_at_once, .. } = record;
        Ok(Self { workspace, actor, sessions_at_once, scope: PhantomData })
    }
}

/// The key of a request, in its two parts.
fn presented(headers: &HeaderMap) -> Result<(KeyId, &str), Problem> {
    let refused = |detail| Problem::new(Slug::Unauthorized, detail);
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        return Err(refused("send one Authorization header with an API key: Bearer vs_…"));
    };
    let authorization = value.to_str().unwrap_or_default();
    credential::bearer(authorization)
        .and_then(|key| credential::parse(PREFIX, key))
        .ok_or_else(|| refused("the Authorization header must be: Bearer vs_<ULID>.<secret>"))
}

/// What a key allows: what it was made for, within what its maker may do.
#[derive(Clone, Debug)]
pub struct Scopes {
    given: String,
    bound: Bound,
}

/// How far a key's maker goes.
#[derive(Clone, Copy, Debug)]
enum Bound {
    /// The server made it.
    None,
    /// What the maker is in the workspace; nothing, if they do not belong to it any more.
    Maker(Option<Role>),
}

impl Scopes {
    /// Whether a scope is among them.
    pub fn allow(&self, scope: &str) -> bool {
        self.list().any(|allowed| allowed == scope)
    }

    /// All of them.
    pub fn list(&self) -> impl Iterator<Item = &str> {
        self.given.split_whitespace().filter(|scope| match self.bound {
            Bound::None => true,
            Bound::Maker(role) => role.is_some_and(|role| role.allows(scope)),
        })
    }
}

/// A program's access to a workspace. Its secret is shown once, when it is made.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApiKey {
    /// A ULID, and a part of the key itself.
    #[schema(example = "01KAW3ZJ8E5T7M1V9C4X2N6R0S")]
    id: String,
    #[schema(example = "ci")]
    label: String,
    /// What it allows now: what it was made for, within its maker's role.
    #[schema(example = json!(["sessions:read", "sessions:write"]))]
    scopes: Vec<String>,
    #[schema(format = DateTime, example = "2026-11-22T12:00:00.000Z")]
    created_at: String,
    /// The id of the person who made it; null if the server did.
    #[schema(example = "01KAW40Q2V8D6M3T7B9N5R1XKE")]
    created_by: Option<String>,
    /// Since when it no longer works. Revoked keys stay listed for 90 days.
    #[schema(format = DateTime)]
    revoked_at: Option<String>,
}

impl From<store::KeyRow> for ApiKey {
    fn from(row: store::KeyRow) -> Self {
        Self {
            id: row.id.to_string(),
            scopes: row.scopes.list().map(str::to_owned).collect(),
            label: row.label,
            created_at: rfc3339(row.created_us),
            created_by: row.created_by.map(|id| id.to_string()),
            revoked_at: row.revoked_us.map(rfc3339),
        }
    }
}

/// Makes a key in the server's own name and returns it. It is a secret and cannot be had again.
pub async fn create(
    tx: &mut Tx,
    workspace: WorkspaceId,
    label: &str,
    scopes: &[&str],
) -> anyhow::Result<String> {
    let (_, key) = make(tx, workspace, None, label, scopes).await?;
    Ok(key)
}

/// A key that somebody else made. Has no `Debug`: its hash is not for logs either.
pub struct Given {
    id: KeyId,
    hash: Vec<u8>,
}

impl Given {
    /// Reads `vs_<ULID>.<32 characters>`.
    ///
    /// # Errors
    ///
    /// When it is none; what it is instead is not said.
    pub fn parse(key: &str) -> anyhow::Result<Self> {
        let parsed = credential::parse(PREFIX, key);
        let (id, secret) = parsed
            .context("the first API key must be vs_, a ULID, a point, and 32 letters and digits")?;
        Ok(Self { id, hash: credential::hash(secret) })
    }
}

/// Records a key that was given, for nobody.
pub(crate) async fn record(
    tx: &mut Tx,
    workspace: WorkspaceId,
    given: &Given,
    label: &str,
    scopes: &[&str],
) -> sqlx::Result<()> {
    let Given { id, hash } = given;
    let new = store::NewKey { id: *id, workspace, maker: None, label, hash, scopes };
    store::insert(tx, &new).await
}

/// Makes a key for a person, or for nobody: its id, and the key itself.
pub(crate) async fn make(
    tx: &mut Tx,
    workspace: WorkspaceId,
    maker: Option<UserId>,
    label: &str,
    scopes: &[&str],
) -> anyhow::Result<(KeyId, String)> {
    let id = KeyId::generate();
    let key = credential::mint(PREFIX, id)?;
    let new = store::NewKey { id, workspace, maker, label, hash: &key.hash, scopes };
    store::insert(tx, &new).await?;
    Ok((id, key.text))
}
