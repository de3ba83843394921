//! Join tokens: what agents show to be let in, `vj_<ULID>.<32 characters>`. Each is good for
//! the agents of one region. The operator makes them, on the server's own database: the admins
//! of a workspace have no say in where a server's browsers run.
//!
//! Beside them there is the server's own token, [`Config::join_token`](crate::Config): good for
//! any region, and meant for a server that one person tries out.
//!
//! An agent's lease is only as good as its token: see `agents::store::renew`.

pub mod operator;
pub mod store;
#[cfg(test)]
mod tests;

use proto::{id::JoinTokenId, region::Region};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{credential, db::Tx};

/// What every join token begins with.
pub const PREFIX: &str = "vj";

/// What a good token allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The server's own: any region.
    Any,
    /// One region's.
    Region(JoinTokenId, Region),
}

impl Grant {
    /// Whether it is good for a region.
    pub fn covers(&self, region: &Region) -> bool {
        match self {
            Self::Any => true,
            Self::Region(_, own) => own == region,
        }
    }

    /// Its record, if it has one.
    pub fn token(&self) -> Option<JoinTokenId> {
        match self {
            Self::Any => None,
            Self::Region(token, _) => Some(*token),
        }
    }
}

/// Why a token is not good. Only who has the secret is told more than that it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody made it.
    #[error("the join token is wrong")]
    Wrong,
    /// It was revoked.
    #[error("the join token was revoked")]
    Revoked,
    /// Its time is up.
    #[error("the join token has expired")]
    Expired,
}

/// What a token allows, if it is good. `own` is the server's.
pub async fn check(tx: &mut Tx, own: &str, given: &str) -> sqlx::Result<Result<Grant, Refusal>> {
    if same(given, own) {
        return Ok(Ok(Grant::Any));
    }
    let Some((id, secret)) = credential::parse::<JoinTokenId>(PREFIX, given) else {
        return Ok(Err(Refusal::Wrong));
    };
    let row = store::find(tx, id).await?;
    let known = row.as_ref().map(|row| row.secret_hash.as_slice());
    let Some(row) = row.as_ref().filter(|_| credential::matches(secret, known)) else {
        return Ok(Err(Refusal::Wrong));
    };
    let now = tx.now_us().await?;
    Ok(row.refusal(now).map_or_else(|| Ok(Grant::Region(id, row.region.clone())), Err))
}

/// Why agents that joined with a token lose their streams; `None`: they do not.
pub async fn refusal(tx: &mut Tx, id: JoinTokenId) -> sqlx::Result<Option<Refusal>> {
    let now = tx.now_us().await?;
    Ok(store::find(tx, id).await?.map_or(Some(Refusal::Wrong), |row| row.refusal(now)))
}

/// Compares without telling by its duration where two texts differ.
fn same(given: &str, expected: &str) -> bool {
    let [given, expected] = [given, expected].map(Sha256::digest);
    given.as_slice().ct_eq(expected.as_slice()).into()
}
