//! API keys: `vs_<ULID>.<secret>`. The ULID names the key's record; of the secret, 32
//! characters with 190 random bits, only the SHA-256 is stored.

pub mod store;

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use http::{HeaderMap, header, request::Parts};
use proto::{
    id::{KeyId, WorkspaceId},
    problem::{Problem, Slug},
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{app::App, audit::Actor, db::Tx, error::Error, rate_limits::Limits};

/// Lets its holder list and read sessions.
pub const READ: &str = "sessions:read";
/// Lets its holder create and release sessions.
pub const WRITE: &str = "sessions:write";
/// Lets its holder do what an administrator may: stop any session at once, for instance.
pub const ADMIN: &str = "admin";

/// What a route needs its caller to be allowed.
pub trait Needs: Send {
    /// The scope.
    const SCOPE: &'static str;
}

/// Needs [`READ`].
pub enum Read {}
/// Needs [`WRITE`].
pub enum Write {}
/// Needs [`ADMIN`].
pub enum Admin {}

impl Needs for Read {
    const SCOPE: &'static str = READ;
}
impl Needs for Write {
    const SCOPE: &'static str = WRITE;
}
impl Needs for Admin {
    const SCOPE: &'static str = ADMIN;
}

/// Whose request this is: its API key is good, is within its rate limit, and allows what the
/// route needs, in this order. Depends on the key alone, so it answers before anything else of
/// the request is looked at.
pub struct Caller<S> {
    /// Whose things the request is about.
    pub workspace: WorkspaceId,
    /// Who is to be named for what it does.
    pub actor: Actor,
    scope: PhantomData<S>,
}

impl<S: Needs> FromRequestParts<App> for Caller<S> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let (id, secret) = presented(&parts.headers)?;
        let mut tx = app.db.read().await.map_err(Error::from)?;
        let record = store::find(&mut tx, id).await.map_err(Error::from)?;
        // An unknown key takes as long as a wrong secret.
        let expected = record.as_ref().map_or([0; 32].as_slice(), |record| &record.secret_hash);
        let matches = bool::from(hash(secret).as_slice().ct_eq(expected));
        let record = record.filter(|record| matches && record.revoked_us.is_none());
        let Some(record) = record else {
            return Err(Problem::new(Slug::Unauthorized, "the API key is unknown or revoked"));
        };
        let limits = Limits::of(&record.plan, &app.config);
        let verdict = app.rate_limits.take(&mut tx, id, limits).await.map_err(Error::from)?;
        verdict.admit(&parts.extensions)?;
        if !record.scopes.split_whitespace().any(|scope| scope == S::SCOPE) {
            let detail = format!("the API key lacks the scope {}", S::SCOPE);
            return Err(Problem::new(Slug::Forbidden, detail));
        }
        let actor = Actor::api_key(id, parts);
        Ok(Self { workspace: record.workspace_id, actor, scope: PhantomData })
    }
}

/// The key of a request, in its two parts.
fn presented(headers: &HeaderMap) -> Result<(KeyId, &str), Problem> {
    let refused = |detail| Problem::new(Slug::Unauthorized, detail);
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        return Err(refused("send one Authorization header with an API key: Bearer vs_…"));
    };
    parse(value.to_str().unwrap_or_default())
        .ok_or_else(|| refused("the Authorization header must be: Bearer vs_<ULID>.<secret>"))
}

fn parse(authorization: &str) -> Option<(KeyId, &str)> {
    let (scheme, key) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (id, secret) = key.trim().strip_prefix("vs_")?.split_once('.')?;
    let well_formed =
        secret.len() == SECRET_LENGTH && secret.bytes().all(|c| c.is_ascii_alphanumeric());
    well_formed.then_some((id.parse().ok()?, secret))
}

const SECRET_LENGTH: usize = 32;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Makes a key and returns it. It is a secret and cannot be had again.
pub async fn create(
    tx: &mut Tx,
    workspace: WorkspaceId,
    label: &str,
    scopes: &[&str],
) -> anyhow::Result<String> {
    let (id, secret) = (KeyId::generate(), secret()?);
    store::insert(tx, id, workspace, label, &hash(&secret), &scopes.join(" ")).await?;
    Ok(format!("vs_{id}.{secret}"))
}

fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret).to_vec()
}

fn secret() -> anyhow::Result<String> {
    let mut secret = String::with_capacity(SECRET_LENGTH);
    let mut bytes = [0_u8; 64];
    while secret.len() < SECRET_LENGTH {
        getrandom::fill(&mut bytes)?;
        // 248 is the largest multiple of 62 in a byte: beyond it some letters would be
        // more likely than others.
        let fair = bytes.iter().filter(|&&byte| byte < 248);
        let letters = fair.map(|&byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
        secret.extend(letters.take(SECRET_LENGTH - secret.len()));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_key_is_looked_up() {
        let id = KeyId::generate();
        let secret = secret().unwrap();
        assert_eq!(secret.len(), SECRET_LENGTH);
        let good = format!("Bearer vs_{id}.{secret}");
        assert_eq!(parse(&good), Some((id, secret.as_str())));
        assert_eq!(parse(&good.replace("Bearer", "bearer")), Some((id, secret.as_str())));
        for bad in [
            String::new(),
            "Bearer".to_owned(),
            format!("vs_{id}.{secret}"),
            format!("Basic vs_{id}.{secret}"),
            format!("Bearer {id}.{secret}"),
            format!("Bearer vs_{id}{secret}"),
            format!("Bearer vs_{id}.{secret}x"),
            format!("Bearer vs_{id}.{}", &secret[1..]),
            format!("Bearer vs_{}.{secret}", id.to_string().to_lowercase()),
            format!("Bearer vs_{id}.{}é", &secret[2..]),
        ] {
            assert_eq!(parse(&bad), None, "{bad}");
        }
    }
}
