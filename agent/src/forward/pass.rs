//! What one agent shows another for a request that it forwards: who forwards it, and what the
//! client was found to be allowed. A JWT signed by the key that the forwarder made at its start
//! and that the hub has told to the others.
//!
//! A pass is good once, at one agent, for one method and path, and for minutes. So long, because
//! the clocks of two agents may be wrong; a pass that was used is remembered for as long.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    signature::{Ed25519KeyPair, KeyPair},
};
use http::{Method, Uri};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use proto::{
    id::{AgentId, SessionId},
    token::SCOPE_CDP,
};
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::Asked;

const AUDIENCE: &str = "ventus-forward";
/// How long a pass is good, by the clock of the agent that made it.
const LIFE: Duration = Duration::from_secs(30);
/// How far the clocks of two agents may differ.
const LEEWAY: Duration = Duration::from_secs(360);
/// How many used passes are remembered. More are refused.
const USED_MAX: usize = 65_536;

/// What a pass says.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    /// The agent that forwards.
    iss: AgentId,
    aud: String,
    /// The session.
    sub: SessionId,
    /// The agent that it is forwarded to.
    agt: AgentId,
    /// What the client's own token allows.
    scp: String,
    /// The method, and the path with its query.
    htm: String,
    htu: String,
    /// What URLs in the answer begin with.
    base: String,
    jti: String,
    iat: u64,
    exp: u64,
}

/// A request that another agent vouches for.
#[derive(Debug)]
pub struct Pass {
    pub session: SessionId,
    pub owner: AgentId,
    /// What URLs in the answer begin with.
    pub base: String,
    /// Stands in them for the connect token, which only the forwarder knows. Nobody else knows
    /// this text, so it is in the answer only where it was put.
    pub in_place_of_token: String,
}

/// A text that nobody can guess.
pub(super) fn new_id() -> String {
    // 80 random bits, twice.
    format!("{}{}", Ulid::generate(), Ulid::generate())
}

/// Whom a pass says it is from. Not yet proven.
pub(super) fn issuer(pass: &str) -> Option<AgentId> {
    jsonwebtoken::decode_header(pass).ok()?.kid?.parse().ok()
}

/// Makes passes.
pub(super) struct Signer {
    key: EncodingKey,
    public: Vec<u8>,
}

impl Signer {
    pub fn generate() -> anyhow::Result<Self> {
        let pair = Ed25519KeyPair::generate().context("cannot make a key")?;
        let private: Pkcs8V1Der<'_> = pair.as_der().context("cannot encode a key")?;
        let key = EncodingKey::from_ed_der(private.as_ref());
        Ok(Self { key, public: pair.public_key().as_ref().to_vec() })
    }

    pub fn public(&self) -> &[u8] {
        &self.public
    }

    pub fn sign(
        &self,
        from: AgentId,
        asked: &Asked<'_>,
        id: &str,
        method: &Method,
        target: &str,
        iat: u64,
    ) -> jsonwebtoken::errors::Result<String> {
        let claims = Claims {
            iss: from,
            aud: AUDIENCE.to_owned(),
            sub: asked.session,
            agt: asked.owner,
            scp: SCOPE_CDP.to_owned(),
            htm: method.to_string(),
            htu: target.to_owned(),
            base: asked.base.to_owned(),
            jti: id.to_owned(),
            iat,
            exp: iat + LIFE.as_secs(),
        };
        let header = Header { kid: Some(from.to_string()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &self.key)
    }
}

/// Checks passes, and remembers which were used.
#[derive(Default)]
pub(super) struct Checked {
    /// Ids, and when they are forgotten, Unix seconds.
    used: Mutex<HashMap<String, u64>>,
}

impl Checked {
    /// What a pass allows, this once.
    pub fn check(
        &self,
        pass: &str,
        key: &DecodingKey,
        from: AgentId,
        method: &Method,
        uri: &Uri,
        now: u64,
    ) -> Option<Pass> {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[from.to_string()]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        // Not by this machine's clock, which is all that the crate knows.
        validation.validate_exp = false;
        let Claims { sub, agt, scp, htm, htu, base, jti, iat, exp, .. } =
            jsonwebtoken::decode::<Claims>(pass, key, &validation).ok()?.claims;
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let fits = htm == method.as_str() && htu == target && scp == SCOPE_CDP;
        let leeway = LEEWAY.as_secs();
        let is_timely = iat <= now + leeway && now <= exp.saturating_add(leeway);
        if !fits || !is_timely || !self.use_up(&jti, now) {
            return None;
        }
        Some(Pass { session: sub, owner: agt, base, in_place_of_token: jti })
    }

    fn use_up(&self, id: &str, now: u64) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= USED_MAX {
            used.retain(|_, forgotten| *forgotten > now);
        }
        if used.len() >= USED_MAX || used.contains_key(id) {
            return false;
        }
        // It cannot be good for longer, whosever clock is wrong.
        let forgotten = now + LIFE.as_secs() + 2 * LEEWAY.as_secs();
        used.insert(id.to_owned(), forgotten);
        true
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    /// Unix seconds.
    const NOW: u64 = 1_800_000_000;

    fn key(signer: &Signer) -> DecodingKey {
        let public = URL_SAFE_NO_PAD.encode(signer.public());
        DecodingKey::from_ed_components(&public).unwrap()
    }

    fn asked() -> Asked<'static> {
        Asked {
            session: SessionId::generate(),
            owner: AgentId::generate(),
            token: "secret-token",
            path: "",
            query: "",
            base: "ws://here",
        }
    }

    #[test]
    fn a_pass_is_good_once_for_its_own_request_and_by_its_makers_key() {
        let (signer, other, from) =
            (Signer::generate().unwrap(), Signer::generate().unwrap(), AgentId::generate());
        let asked = asked();
        let (get, target) = (Method::GET, Uri::from_static("/v1/x?y"));
        let sign = |from| signer.sign(from, &asked, &new_id(), &get, "/v1/x?y", NOW).unwrap();
        let checked = Checked::default();
        let good = sign(from);
        assert!(!good.contains("secret-token"));
        assert_eq!(issuer(&good), Some(from));
        let check = |pass: &str, signer, method: &Method, target: &'static str| {
            let uri = Uri::from_static(target);
            checked.check(pass, &key(signer), from, method, &uri, NOW)
        };
        assert!(check(&good, &other, &get, "/v1/x?y").is_none(), "another key");
        assert!(check(&good, &signer, &Method::PUT, "/v1/x?y").is_none(), "another method");
        assert!(check(&good, &signer, &get, "/v1/x").is_none(), "another path");
        let foreign = sign(AgentId::generate());
        assert!(check(&foreign, &signer, &get, "/v1/x?y").is_none(), "in another's name");
        let pass = checked.check(&good, &key(&signer), from, &get, &target, NOW).unwrap();
        assert_eq!((pass.session, pass.owner), (asked.session, asked.owner));
        assert!(check(&good, &signer, &get, "/v1/x?y").is_none(), "used");
        assert!(check(&sign(from), &signer, &get, "/v1/x?y").is_some());
        for wrong in
            [LEEWAY.as_secs() + 1, 0_u64.wrapping_sub(LEEWAY.as_secs() + LIFE.as_secs() + 1)]
        {
            let iat = NOW.wrapping_add(wrong);
            let untimely = signer.sign(from, &asked, &new_id(), &get, "/v1/x?y", iat).unwrap();
            assert!(check(&untimely, &signer, &get, "/v1/x?y").is_none(), "{iat}");
        }
        for nonsense in ["", "a.b.c", "nonsense"] {
            assert_eq!(issuer(nonsense), None);
            assert!(check(nonsense, &signer, &get, "/v1/x?y").is_none());
        }
    }

    #[test]
    fn what_was_used_is_remembered_within_bounds() {
        let checked = Checked::default();
        for n in 0..USED_MAX {
            assert!(checked.use_up(&n.to_string(), NOW));
        }
        assert!(!checked.use_up("one more", NOW), "none is forgotten before its time");
        checked.used.lock().unwrap().values_mut().for_each(|forgotten| *forgotten = 1);
        assert!(checked.use_up("one more", NOW));
        assert_eq!(checked.used.lock().unwrap().len(), 1);
    }
}
