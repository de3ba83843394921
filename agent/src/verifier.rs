//! Knows a good connect token.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use proto::token::{AUDIENCE, ConnectClaims, ISSUER};

use crate::clock::Clock;

/// How far the clocks of control plane and agent may differ, in seconds.
const LEEWAY_SECONDS: i64 = 5;

/// Checks connect tokens with the public keys that the hub sent.
pub struct Verifier {
    keys: RwLock<HashMap<String, DecodingKey>>,
    clock: Arc<Clock>,
}

/// The keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Not a key set (RFC 7517).
    #[error("not a key set")]
    Malformed(#[from] serde_json::Error),
    /// A key of it is not usable.
    #[error("a key of the set cannot be used")]
    Unusable(#[from] jsonwebtoken::errors::Error),
}

impl Verifier {
    /// Knows no key yet, so no token is good. Tokens end by this clock.
    pub(crate) fn new(clock: Arc<Clock>) -> Self {
        Self { keys: RwLock::default(), clock }
    }

    /// Takes these keys from now on, and no others.
    pub fn replace(&self, jwks: &str) -> Result<(), KeysError> {
        let set: JwkSet = serde_json::from_str(jwks)?;
        let mut keys = HashMap::new();
        for key in &set.keys {
            let id = key.common.key_id.clone().unwrap_or_default();
            keys.insert(id, DecodingKey::from_jwk(key)?);
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// What a token says, if one of our keys signed it and it still counts.
    pub fn verify(&self, token: &str) -> Option<ConnectClaims> {
        // The header only picks the key; the algorithm is fixed here.
        let id = jsonwebtoken::decode_header(token).ok()?.kid?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        // Not by this machine's clock, which is all that the crate knows.
        validation.validate_exp = false;
        let token = jsonwebtoken::decode::<ConnectClaims>(token, keys.get(&id)?, &validation);
        let claims = token.ok()?.claims;
        let counts = self.clock.now_ms() / 1_000 < claims.exp.saturating_add(LEEWAY_SECONDS);
        counts.then_some(claims)
    }
}
