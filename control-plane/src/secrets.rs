//! The master key, and what is made from it.
//!
//! 32 random bytes, in `VENTUS_MASTER_KEY` (base64) or in `<data_dir>/master.key`, which the
//! first start makes. Replicas of one database need the same one. Keys for single purposes
//! are derived from it by HMAC-SHA-256, so none of them gives another away.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Gives the master key instead of the file.
const VARIABLE: &str = "VENTUS_MASTER_KEY";
const FILE: &str = "master.key";
/// Length of XChaCha20's nonce: long enough to be drawn at random each time.
const NONCE_BYTES: usize = 24;

/// HMAC-SHA-256.
pub type Hmac256 = Hmac<Sha256>;

/// Encrypts what the store must not show, and authenticates what callers carry around.
pub struct Secrets {
    wrapping: XChaCha20Poly1305,
    cursor: [u8; 32],
}

/// What was wrapped cannot be unwrapped: another master key, another purpose, or damage.
#[derive(Debug, thiserror::Error)]
#[error("could not decrypt; was it encrypted with another master key?")]
pub struct Undecryptable;

impl Secrets {
    /// Reads the master key, or makes one at the first start.
    pub fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let text = match std::env::var(VARIABLE) {
            Ok(text) => text,
            Err(_) => {
                read_or_make(&data_dir.join(FILE)).context("could not open the master key")?
            }
        };
        let key = STANDARD.decode(text.trim()).ok().and_then(|key| <[u8; 32]>::try_from(key).ok());
        Ok(Self::derive(&key.context("the master key must be 32 bytes in base64")?))
    }

    fn derive(master: &[u8; 32]) -> Self {
        let derived = |purpose: &str| -> [u8; 32] {
            let mut mac = keyed(master);
            mac.update(purpose.as_bytes());
            mac.finalize().into_bytes().into()
        };
        Self {
            wrapping: XChaCha20Poly1305::new(&derived("ventus wrapping v1").into()),
            cursor: derived("ventus cursor v1"),
        }
    }

    /// Encrypts for the store. `purpose` must be given again to read it.
    pub fn wrap(&self, purpose: &str, secret: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)?;
        let payload = Payload { msg: secret, aad: purpose.as_bytes() };
        let sealed = self.wrapping.encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| anyhow::anyhow!("the secret is too long"))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// The reverse of [`Secrets::wrap`].
    pub fn unwrap(&self, purpose: &str, wrapped: &[u8]) -> Result<Vec<u8>, Undecryptable> {
        let (nonce, sealed) = wrapped.split_first_chunk::<NONCE_BYTES>().ok_or(Undecryptable)?;
        let payload = Payload { msg: sealed, aad: purpose.as_bytes() };
        self.wrapping.decrypt(&XNonce::from(*nonce), payload).map_err(|_| Undecryptable)
    }

    /// A fresh MAC for cursors.
    pub fn cursor_mac(&self) -> Hmac256 {
        keyed(&self.cursor)
    }

    /// Secrets of no consequence.
    #[cfg(test)]
    pub fn for_tests() -> Self {
        Self::derive(&[7; 32])
    }
}

fn keyed(key: &[u8; 32]) -> Hmac256 {
    Hmac256::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// Makes the file whole or not at all, and leaves one that is there alone.
fn read_or_make(path: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => (),
        read => return Ok(read?),
    }
    let directory = path.parent().context("no data directory")?;
    fs::create_dir_all(directory)?;
    let mut key = [0; 32];
    getrandom::fill(&mut key)?;
    let draft = directory.join(format!("{FILE}.{}", ulid::Ulid::generate()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    writeln!(file, "{}", STANDARD.encode(key))?;
    file.sync_all()?;
    // A link fails when another process was faster; then its key counts.
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    fs::File::open(directory)?.sync_all()?;
    ensure!(linked.is_ok() || path.exists(), "could not write {}", path.display());
    Ok(fs::read_to_string(path)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_wrapped_can_be_unwrapped_for_the_same_purpose_only() {
        let secrets = Secrets::for_tests();
        let wrapped = secrets.wrap("a", b"secret").unwrap();
        assert_eq!(secrets.unwrap("a", &wrapped).unwrap(), b"secret");
        assert!(secrets.unwrap("b", &wrapped).is_err());
        assert!(Secrets::derive(&[8; 32]).unwrap("a", &wrapped).is_err());
        assert!(secrets.unwrap("a", &wrapped[..10]).is_err());
        let mut changed = wrapped;
        changed[30] ^= 1;
        assert!(secrets.unwrap("a", &changed).is_err());
    }

    #[test]
    fn the_first_start_makes_a_key_that_stays_and_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data").join(FILE);
        let key = read_or_make(&path).unwrap();
        assert_eq!(read_or_make(&path).unwrap(), key);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
