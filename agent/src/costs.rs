//! What the agent's part of every message and of every connection costs, held to the figures in
//! `costs/figures/agent.txt`.

use std::sync::Arc;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use costs::Meter;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proto::token::{AUDIENCE, ConnectClaims, ISSUER, SCOPE_CDP};
use serde_json::json;

use crate::{cdp, clock::Clock, verifier::Verifier};

#[test]
fn the_data_path_costs_what_it_did() {
    costs::hold("agent", "costs::the_data_path_costs_what_it_did", |meter| {
        cdp::costs::route(meter);
        cdp::costs::judge(meter);
        verify(meter);
    });
}

fn verify(meter: &mut Meter) {
    // The same key and the same claims each time: what a signature costs depends on its digits.
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = URL_SAFE_NO_PAD.encode(pair.public_key());
    let jwks = json!({ "keys": [
        { "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "one", "x": public }
    ] });
    let verifier = Verifier::new(Arc::new(Clock::new()));
    verifier.replace(&jwks.to_string()).unwrap();
    let claims = ConnectClaims {
        iss: ISSUER.to_owned(),
        aud: AUDIENCE.to_owned(),
        sub: "01KA9ZZZZZ0000000000000001".parse().unwrap(),
        wid: "01KA9ZZZZZ0000000000000002".parse().unwrap(),
        agt: "01KA9ZZZZZ0000000000000003".parse().unwrap(),
        scp: SCOPE_CDP.to_owned(),
        iat: 1_700_000_000,
        exp: 9_999_999_999,
    };
    let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::EdDSA) };
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let key = EncodingKey::from_ed_der(der.as_ref());
    let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    meter.case("a connect token that is verified", 1, |round| {
        let verified = round.counted(|| verifier.verify(&token));
        assert_eq!(verified.as_ref(), Some(&claims));
    });
}
