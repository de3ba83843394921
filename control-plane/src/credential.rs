//! What callers carry: `<prefix>_<ULID>.<secret>`. The ULID names a record; of the secret,
//! 32 characters with 190 random bits, only the SHA-256 is stored, which such a secret needs
//! no salt and no slowness for.

use std::{fmt::Display, str::FromStr};

use hmac::Mac;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::secrets::Hmac256;

/// Length of a secret, in characters.
const LENGTH: usize = 32;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A new credential. Has no `Debug`: its text is the secret itself.
pub struct Credential {
    /// What its holder is given, once.
    pub text: String,
    /// What is stored of its secret.
    pub hash: Vec<u8>,
}

/// Makes a credential for the record `id`.
pub fn mint(prefix: &str, id: impl Display) -> anyhow::Result<Credential> {
    let secret = spell(|| {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok::<_, getrandom::Error>(bytes)
    })?;
    Ok(Credential { text: format!("{prefix}_{id}.{secret}"), hash: hash(&secret) })
}

/// Makes the credential that follows from a keyed MAC: the same one each time.
pub fn derive(prefix: &str, id: impl Display, mac: &Hmac256) -> Credential {
    let mut block = 0_u8;
    let Ok(secret) = spell(|| {
        let mut mac = mac.clone();
        mac.update(&[block]);
        block = block.wrapping_add(1);
        Ok::<[u8; 32], std::convert::Infallible>(mac.finalize().into_bytes().into())
    });
    Credential { text: format!("{prefix}_{id}.{secret}"), hash: hash(&secret) }
}

fn spell<E>(mut source: impl FnMut() -> Result<[u8; 32], E>) -> Result<String, E> {
    let mut secret = String::with_capacity(LENGTH);
    while secret.len() < LENGTH {
        let bytes = source()?;
        // 248 is the largest multiple of 62 in a byte: beyond it some letters would be
        // more likely than others.
        let fair = bytes.iter().filter(|&&byte| byte < 248);
        let letters = fair.map(|&byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
        secret.extend(letters.take(LENGTH - secret.len()));
    }
    Ok(secret)
}

/// The id and the secret in a credential; `None` for what is not one of this prefix.
pub fn parse<'a, I: FromStr>(prefix: &str, text: &'a str) -> Option<(I, &'a str)> {
    let (id, secret) = text.strip_prefix(prefix)?.strip_prefix('_')?.split_once('.')?;
    let well_formed = secret.len() == LENGTH && secret.bytes().all(|c| c.is_ascii_alphanumeric());
    well_formed.then_some((id.parse().ok()?, secret))
}

/// The credential in the value of an `Authorization` header.
pub fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, credential) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(credential.trim())
}

/// Whether a secret is the one whose hash is stored. `None` takes as long as a wrong one.
pub fn matches(secret: &str, stored: Option<&[u8]>) -> bool {
    let equal = bool::from(hash(secret).as_slice().ct_eq(stored.unwrap_or(&[0; 32])));
    equal && stored.is_some()
}

/// What is stored of a secret.
pub fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret).to_vec()
}

#[cfg(test)]
mod tests {
    use proto::id::KeyId;

    use super::*;
    use crate::secrets::Secrets;

    #[test]
    fn only_a_well_formed_credential_is_looked_up() {
        let id = KeyId::generate();
        let minted = mint("vs", id).unwrap();
        let (parsed, secret) = parse::<KeyId>("vs", &minted.text).unwrap();
        assert_eq!((parsed, secret.len()), (id, LENGTH));
        assert!(matches(secret, Some(&minted.hash)));
        assert!(!matches(&secret.chars().rev().collect::<String>(), Some(&minted.hash)));
        assert!(!matches(secret, None));
        for bad in [
            String::new(),
            format!("vd_{id}.{secret}"),
            format!("{id}.{secret}"),
            format!("vs_{id}{secret}"),
            format!("vs_{id}.{secret}x"),
            format!("vs_{id}.{}", &secret[1..]),
            format!("vs_{}.{secret}", id.to_string().to_lowercase()),
            format!("vs_{id}.{}é", &secret[2..]),
        ] {
            assert_eq!(parse::<KeyId>("vs", &bad), None, "{bad}");
        }
    }

    #[test]
    fn a_header_must_name_the_scheme() {
        assert_eq!(bearer("Bearer x"), Some("x"));
        assert_eq!(bearer("bearer  x "), Some("x"));
        for bad in ["", "x", "Bearer", "Basic x"] {
            assert_eq!(bearer(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_derived_is_always_the_same() {
        let id = KeyId::generate();
        let derived = |text: &str| {
            let mut mac = Secrets::for_tests().exchange_mac();
            mac.update(text.as_bytes());
            derive("vr", id, &mac).text
        };
        assert_eq!(derived("a"), derived("a"));
        assert_ne!(derived("a"), derived("b"));
        assert!(parse::<KeyId>("vr", &derived("a")).is_some());
    }
}
