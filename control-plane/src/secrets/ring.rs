//! Where master keys are kept: one or several in base64, in `VENTUS_MASTER_KEY` or in
//! `<data_dir>/master.key`, between commas or on lines of their own.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hmac::Mac;

use super::{Hmac256, Undecryptable, keyed};

/// Gives the master keys instead of the file.
const VARIABLE: &str = "VENTUS_MASTER_KEY";
const FILE: &str = "master.key";
/// Length of XChaCha20's nonce: long enough to be drawn at random each time.
const NONCE_BYTES: usize = 24;
/// Length of the name at the head of what a key wrapped.
const NAME_BYTES: usize = 8;

/// Where the keys come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// Given once; another set of keys takes a restart.
    Fixed(Vec<[u8; 32]>),
    /// Looked at again whenever it changes.
    File(PathBuf),
}

impl Source {
    /// The environment's keys if it has any, else the file, which the first start makes.
    pub fn open(data_dir: &Path) -> anyhow::Result<Self> {
        if let Ok(text) = std::env::var(VARIABLE) {
            return Ok(Self::Fixed(parse(&text).context(VARIABLE)?));
        }
        let path = data_dir.join(FILE);
        make_if_missing(&path).context("could not open the master key")?;
        Ok(Self::File(path))
    }

    /// The keys as they are now, the one that wraps first.
    pub fn read(&self) -> anyhow::Result<Vec<[u8; 32]>> {
        match self {
            Self::Fixed(keys) => Ok(keys.clone()),
            Self::File(path) => {
                let text = fs::read_to_string(path).context("could not read the master key")?;
                parse(&text).with_context(|| path.display().to_string())
            }
        }
    }

    /// What differs when the file was written anew.
    pub fn stamp(&self) -> Option<Stamp> {
        let Self::File(path) = self else { return None };
        let file = fs::metadata(path).ok()?;
        Some(Stamp { inode: file.ino(), length: file.len(), modified: file.modified().ok()? })
    }
}

/// Tells one state of the file from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    inode: u64,
    length: u64,
    modified: SystemTime,
}

fn parse(text: &str) -> anyhow::Result<Vec<[u8; 32]>> {
    let key = |word: &str| STANDARD.decode(word).ok()?.try_into().ok();
    let words = text.split([',', '\n']).map(str::trim).filter(|word| !word.is_empty());
    let keys: Option<Vec<[u8; 32]>> = words.map(key).collect();
    keys.filter(|keys| !keys.is_empty()).context("a master key must be 32 bytes in base64")
}

/// The keys in use, the one that wraps first.
pub(super) struct Ring(Vec<MasterKey>);

/// One master key, and the keys for single purposes that come of it.
pub(super) struct MasterKey {
    /// The head of what it wraps. Tells nothing of the key.
    name: [u8; NAME_BYTES],
    wrapping: XChaCha20Poly1305,
    cursor: [u8; 32],
    exchange: [u8; 32],
}

impl Ring {
    pub fn new(keys: &[[u8; 32]]) -> Self {
        Self(keys.iter().map(MasterKey::derive).collect())
    }

    /// The key that wraps.
    pub fn first(&self) -> &MasterKey {
        self.0.first().expect("a ring has a key")
    }

    /// Opens what any of the keys wrapped.
    pub fn unwrap(&self, purpose: &str, wrapped: &[u8]) -> Result<Vec<u8>, Undecryptable> {
        let named = wrapped.split_first_chunk::<NAME_BYTES>().and_then(|(name, sealed)| {
            let key = self.0.iter().find(|key| key.name == *name)?;
            key.open(purpose, sealed).ok()
        });
        // What was wrapped before keys had names begins with its nonce.
        let found = named.or_else(|| self.0.iter().find_map(|key| key.open(purpose, wrapped).ok()));
        found.ok_or(Undecryptable)
    }

    /// A fresh MAC for cursors for each of the keys.
    pub fn cursor_macs(&self) -> Vec<Hmac256> {
        self.0.iter().map(MasterKey::cursor_mac).collect()
    }

    /// A fresh MAC for tokens for each of the keys.
    pub fn exchange_macs(&self) -> Vec<Hmac256> {
        self.0.iter().map(MasterKey::exchange_mac).collect()
    }
}

impl MasterKey {
    fn derive(master: &[u8; 32]) -> Self {
        let derived = |purpose: &str| -> [u8; 32] {
            let mut mac = keyed(master);
            mac.update(purpose.as_bytes());
            mac.finalize().into_bytes().into()
        };
        let mut name = [0; NAME_BYTES];
        name.copy_from_slice(&derived("ventus key name v1")[..NAME_BYTES]);
        Self {
            name,
            wrapping: XChaCha20Poly1305::new(&derived("ventus wrapping v1").into()),
            cursor: derived("ventus cursor v1"),
            exchange: derived("ventus token exchange v1"),
        }
    }

    /// Its name in the store: 16 hexadecimal digits.
    pub fn id(&self) -> String {
        self.name.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn wrap(&self, purpose: &str, secret: &[u8]) -> anyhow::Result<Vec<u8>> {
        Ok([self.name.as_slice(), &seal(&self.wrapping, purpose, secret)?].concat())
    }

    pub fn cursor_mac(&self) -> Hmac256 {
        keyed(&self.cursor)
    }

    pub fn exchange_mac(&self) -> Hmac256 {
        keyed(&self.exchange)
    }

    fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Vec<u8>, Undecryptable> {
        open(&self.wrapping, purpose, sealed)
    }
}

/// A fresh nonce, and what was encrypted with it. `purpose` must be given again to open it.
pub(super) fn seal(
    cipher: &XChaCha20Poly1305,
    purpose: &str,
    secret: &[u8],
) -> anyhow::Result<Vec<u8>> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce)?;
    let payload = Payload { msg: secret, aad: purpose.as_bytes() };
    let sealed = cipher.encrypt(&XNonce::from(nonce), payload);
    let sealed = sealed.map_err(|_| anyhow::anyhow!("the secret is too long"))?;
    Ok([nonce.as_slice(), &sealed].concat())
}

/// The reverse of [`seal`].
pub(super) fn open(
    cipher: &XChaCha20Poly1305,
    purpose: &str,
    sealed: &[u8],
) -> Result<Vec<u8>, Undecryptable> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(Undecryptable)?;
    let payload = Payload { msg: sealed, aad: purpose.as_bytes() };
    cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| Undecryptable)
}

/// 32 random bytes.
pub(super) fn random_key() -> anyhow::Result<[u8; 32]> {
    let mut key = [0; 32];
    getrandom::fill(&mut key)?;
    Ok(key)
}

/// Makes the file whole or not at all, and leaves one that is there alone.
fn make_if_missing(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let directory = path.parent().context("no data directory")?;
    fs::create_dir_all(directory)?;
    let draft = draft(path, &[random_key()?])?;
    // A link fails when another process was faster; then its key counts.
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    fs::File::open(directory)?.sync_all()?;
    ensure!(linked.is_ok() || path.exists(), "could not write {}", path.display());
    Ok(())
}

/// Puts other keys into the file, whole or not at all.
pub(super) fn replace(path: &Path, keys: &[[u8; 32]]) -> anyhow::Result<()> {
    let directory = path.parent().context("no data directory")?;
    let draft = draft(path, keys)?;
    fs::rename(&draft, path)?;
    fs::File::open(directory)?.sync_all()?;
    Ok(())
}

fn draft(path: &Path, keys: &[[u8; 32]]) -> io::Result<PathBuf> {
    let draft = path.with_file_name(format!("{FILE}.{}", ulid::Ulid::generate()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    for key in keys {
        writeln!(file, "{}", STANDARD.encode(key))?;
    }
    file.sync_all()?;
    Ok(draft)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_start_makes_a_key_that_stays_and_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data").join(FILE);
        make_if_missing(&path).unwrap();
        let key = fs::read(&path).unwrap();
        make_if_missing(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), key);
        replace(&path, &[[1; 32], [2; 32]]).unwrap();
        assert_eq!(Source::File(path.clone()).read().unwrap(), [[1; 32], [2; 32]]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn keys_stand_between_commas_or_on_lines() {
        let [one, two] = [[1; 32], [2; 32]].map(|key: [u8; 32]| STANDARD.encode(key));
        assert_eq!(parse(&format!("{one}\n")).unwrap(), [[1; 32]]);
        assert_eq!(parse(&format!("{two},{one}")).unwrap(), [[2; 32], [1; 32]]);
        assert_eq!(parse(&format!(" {two}\r\n{one}\n\n")).unwrap(), [[2; 32], [1; 32]]);
        for bad in ["", ",", "AAAA", &format!("{one},x"), &one[1..]] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_key_wraps_and_every_key_unwraps() {
        let (old, both, new) =
            (Ring::new(&[[1; 32]]), Ring::new(&[[2; 32], [1; 32]]), Ring::new(&[[2; 32]]));
        let before = old.first().wrap("a", b"secret").unwrap();
        let after = both.first().wrap("a", b"secret").unwrap();
        assert_eq!(both.unwrap("a", &before).unwrap(), b"secret");
        assert_eq!(new.unwrap("a", &after).unwrap(), b"secret");
        assert!(new.unwrap("a", &before).is_err());
        assert!(old.unwrap("a", &after).is_err());
        assert_ne!(old.first().id(), new.first().id());
        // As it was written before keys had names.
        let nameless = &before[NAME_BYTES..];
        assert_eq!(both.unwrap("a", nameless).unwrap(), b"secret");
        assert!(new.unwrap("a", nameless).is_err());
    }
}
