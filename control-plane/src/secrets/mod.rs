//! The master keys, and what is made from them.
//!
//! A master key is 32 random bytes (see [`ring`] for where they are). Replicas of one database
//! need the same ones. The first of them wraps; the others only unwrap what [`rotate`] has not
//! come to yet. Keys for single purposes are derived by HMAC-SHA-256, so none of them gives
//! another away. What is wrapped begins with the name of its key, and its row in the store
//! refers to the key (see [`store`]).
//!
//! Large things are encrypted with a [`DataKey`] of their own, and only that is wrapped: so
//! another master key means 32 bytes to write anew, and without its data key a thing is gone.

mod ring;
mod rotate;
pub mod store;

use std::{
    fmt,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use anyhow::anyhow;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use chacha20poly1305::XChaCha20Poly1305;
use hmac::{Hmac, KeyInit};
use sha2::Sha256;
use tracing::{error, info};

use ring::{Ring, Source, Stamp};
pub use rotate::{Rotated, rotate_master};

/// HMAC-SHA-256.
pub type Hmac256 = Hmac<Sha256>;

/// Encrypts what the store must not show, and authenticates what callers carry around.
pub struct Secrets {
    source: Source,
    held: RwLock<Held>,
}

/// The keys as last read.
struct Held {
    ring: Arc<Ring>,
    stamp: Option<Stamp>,
}

/// What was wrapped cannot be unwrapped: another master key, another purpose, or damage.
#[derive(Debug, thiserror::Error)]
#[error("could not decrypt; was it encrypted with another master key?")]
pub struct Undecryptable;

/// Something wrapped, and the key that did it, for the store.
#[derive(Debug)]
pub struct Wrapped {
    /// The name of the master key.
    pub key_id: String,
    /// Begins with that name too.
    pub bytes: Vec<u8>,
}

impl Secrets {
    /// Reads the master keys, or makes one at the first start.
    pub fn open(data_dir: &Path) -> anyhow::Result<Self> {
        Self::of(Source::open(data_dir)?)
    }

    fn of(source: Source) -> anyhow::Result<Self> {
        // The stamp first: a change while the keys are read shall be noticed later.
        let stamp = source.stamp();
        let ring = Arc::new(Ring::new(&source.read()?));
        Ok(Self { source, held: RwLock::new(Held { ring, stamp }) })
    }

    /// The name of the key that wraps.
    pub fn key_id(&self) -> String {
        self.fresh().first().id()
    }

    /// Encrypts a few bytes for the store. `purpose` must be given again to read them.
    pub fn wrap(&self, purpose: &str, secret: &[u8]) -> anyhow::Result<Wrapped> {
        let ring = self.fresh();
        let bytes = ring.first().wrap(purpose, secret)?;
        Ok(Wrapped { key_id: ring.first().id(), bytes })
    }

    /// The reverse of [`Secrets::wrap`].
    pub fn unwrap(&self, purpose: &str, wrapped: &[u8]) -> Result<Vec<u8>, Undecryptable> {
        self.held().unwrap(purpose, wrapped).or_else(|_| self.fresh().unwrap(purpose, wrapped))
    }

    /// [`Secrets::unwrap`] for a data key.
    pub fn unwrap_key(&self, purpose: &str, wrapped: &[u8]) -> Result<DataKey, Undecryptable> {
        let key = self.unwrap(purpose, wrapped)?;
        key.try_into().map(DataKey).map_err(|_| Undecryptable)
    }

    /// A fresh MAC to make a cursor with.
    pub fn cursor_mac(&self) -> Hmac256 {
        self.held().first().cursor_mac()
    }

    /// Fresh MACs to check a cursor with: a good one fits one of them.
    pub fn cursor_macs(&self) -> Vec<Hmac256> {
        self.fresh().cursor_macs()
    }

    /// A fresh MAC for the tokens that another is exchanged for.
    pub fn exchange_mac(&self) -> Hmac256 {
        self.fresh().first().exchange_mac()
    }

    /// Fresh MACs to make such tokens once more with: one of them made the first.
    pub fn exchange_macs(&self) -> Vec<Hmac256> {
        self.fresh().exchange_macs()
    }

    fn held(&self) -> Arc<Ring> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).ring.clone()
    }

    /// The keys as they are now: another process may have changed the file.
    fn fresh(&self) -> Arc<Ring> {
        let stamp = self.source.stamp();
        {
            let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
            if held.stamp == stamp || stamp.is_none() {
                return held.ring.clone();
            }
        }
        match self.source.read() {
            Ok(keys) => {
                let ring = Arc::new(Ring::new(&keys));
                info!(key = ring.first().id(), keys = keys.len(), "the master keys have changed");
                let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
                *held = Held { ring: ring.clone(), stamp };
                ring
            }
            Err(error) => {
                error!(?error, "could not read the master keys again; the old ones go on");
                self.held()
            }
        }
    }

    /// Secrets of no consequence.
    #[cfg(test)]
    pub fn for_tests() -> Self {
        Self::of(Source::Fixed(vec![[7; 32]])).unwrap()
    }
}

/// Encrypts one thing, once, with XChaCha20-Poly1305; or one large thing piece by piece, each
/// once, with AES-256-GCM, which processors do by themselves.
pub struct DataKey([u8; 32]);

impl DataKey {
    /// A new one.
    pub fn generate() -> anyhow::Result<Self> {
        ring::random_key().map(Self)
    }

    /// Encrypts for the store. `purpose` must be given again to read it.
    pub fn encrypt(&self, purpose: &str, content: &[u8]) -> anyhow::Result<Vec<u8>> {
        ring::seal(&self.cipher(), purpose, content)
    }

    /// The reverse of [`DataKey::encrypt`].
    pub fn decrypt(&self, purpose: &str, sealed: &[u8]) -> Result<Vec<u8>, Undecryptable> {
        ring::open(&self.cipher(), purpose, sealed)
    }

    /// Encrypts a piece of a large thing, in place. Its number is its nonce: no other piece of
    /// the thing may have it. It becomes longer by [`PIECE_OVERHEAD`].
    pub fn encrypt_piece(
        &self,
        number: u64,
        purpose: &str,
        piece: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        let (nonce, purpose) = (nonce_of(number), Aad::from(purpose));
        let sealed = self.gcm()?.seal_in_place_append_tag(nonce, purpose, piece);
        sealed.map_err(|_| anyhow!("could not encrypt"))
    }

    /// The reverse of [`DataKey::encrypt_piece`].
    pub fn decrypt_piece(
        &self,
        number: u64,
        purpose: &str,
        piece: &mut Vec<u8>,
    ) -> Result<(), Undecryptable> {
        let gcm = self.gcm().map_err(|_| Undecryptable)?;
        let opened = gcm.open_in_place(nonce_of(number), Aad::from(purpose), piece);
        let length = opened.map_err(|_| Undecryptable)?.len();
        piece.truncate(length);
        Ok(())
    }

    fn gcm(&self) -> anyhow::Result<LessSafeKey> {
        let key = UnboundKey::new(&AES_256_GCM, &self.0);
        Ok(LessSafeKey::new(key.map_err(|_| anyhow!("no key for AES-256-GCM"))?))
    }

    /// Itself, to be wrapped.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.0.into())
    }
}

/// How much longer an encrypted piece is, in bytes.
pub const PIECE_OVERHEAD: usize = 16;

fn nonce_of(number: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(…)")
    }
}

#[cfg(test)]
pub(crate) use rotate::texts;

fn keyed(key: &[u8; 32]) -> Hmac256 {
    Hmac256::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrapped_can_be_unwrapped_for_the_same_purpose_only() {
        let secrets = Secrets::for_tests();
        let wrapped = secrets.wrap("a", b"secret").unwrap().bytes;
        assert_eq!(secrets.unwrap("a", &wrapped).unwrap(), b"secret");
        assert!(secrets.unwrap("b", &wrapped).is_err());
        let other = Secrets::of(Source::Fixed(vec![[8; 32]])).unwrap();
        assert!(other.unwrap("a", &wrapped).is_err());
        assert!(secrets.unwrap("a", &wrapped[..10]).is_err());
        let mut changed = wrapped;
        changed[38] ^= 1;
        assert!(secrets.unwrap("a", &changed).is_err());
    }

    #[test]
    fn what_a_data_key_encrypts_only_that_key_decrypts() {
        let secrets = Secrets::for_tests();
        let key = DataKey::generate().unwrap();
        let sealed = key.encrypt("profile 1", b"content").unwrap();
        let wrapped = secrets.wrap("profile 1", key.as_bytes()).unwrap().bytes;
        let again = secrets.unwrap_key("profile 1", &wrapped).unwrap();
        assert_eq!(again.decrypt("profile 1", &sealed).unwrap(), b"content");
        assert!(again.decrypt("profile 2", &sealed).is_err());
        assert!(DataKey::generate().unwrap().decrypt("profile 1", &sealed).is_err());
        assert!(!format!("{key:?}").contains(&format!("{:?}", key.as_bytes())));
    }

    #[test]
    fn a_piece_is_read_only_in_its_own_place() {
        let key = DataKey::generate().unwrap();
        let mut sealed = b"piece".to_vec();
        key.encrypt_piece(7, "file 1", &mut sealed).unwrap();
        assert_eq!(sealed.len(), 5 + PIECE_OVERHEAD);
        assert!(!sealed.starts_with(b"piece"));
        let open = |key: &DataKey, number, purpose, mut piece: Vec<u8>| {
            key.decrypt_piece(number, purpose, &mut piece).map(|()| piece)
        };
        assert_eq!(open(&key, 7, "file 1", sealed.clone()).unwrap(), b"piece");
        assert!(open(&key, 8, "file 1", sealed.clone()).is_err());
        assert!(open(&key, 7, "file 2", sealed.clone()).is_err());
        assert!(open(&DataKey::generate().unwrap(), 7, "file 1", sealed.clone()).is_err());
        sealed[2] ^= 1;
        assert!(open(&key, 7, "file 1", sealed).is_err());
    }

    #[test]
    fn a_running_server_notices_keys_that_changed() {
        let directory = tempfile::tempdir().unwrap();
        let (running, other) = [(); 2].map(|()| Secrets::open(directory.path()).unwrap()).into();
        let before = running.wrap("a", b"secret").unwrap();
        let path = directory.path().join("master.key");
        let old = other.source.read().unwrap();
        ring::replace(&path, &[&[[9; 32]], old.as_slice()].concat()).unwrap();
        let after = other.wrap("a", b"secret").unwrap();
        assert_ne!(after.key_id, before.key_id);
        // It reads what the new key wrapped, and then wraps with it too.
        assert_eq!(running.unwrap("a", &after.bytes).unwrap(), b"secret");
        assert_eq!(running.wrap("a", b"secret").unwrap().key_id, after.key_id);
        assert_eq!(running.unwrap("a", &before.bytes).unwrap(), b"secret");
        // A file that cannot be read changes nothing.
        std::fs::write(&path, "nonsense").unwrap();
        assert_eq!(running.wrap("a", b"secret").unwrap().key_id, after.key_id);
    }
}
