//! Certificates and keys as files, PEM (RFC 7468): both ends of the agent protocol read theirs
//! here. What is wrong with a file is told without any of its text, which may be a key.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};

/// A file that does not hold what it should.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// It cannot be read.
    #[error("cannot read {}", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// It holds nothing of the kind.
    #[error("{} holds no {}", .0.display(), .1)]
    Missing(PathBuf, &'static str),
    /// It is no PEM, or what is in it is broken.
    #[error("{} holds no well-formed {}", .0.display(), .1)]
    Broken(PathBuf, &'static str),
}

const CERTIFICATE: &str = "certificate";
const KEY: &str = "private key";

/// A certificate and those that lead from it to its root, in this order.
///
/// # Errors
///
/// When the file cannot be read, or does not hold at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| fault(path, CERTIFICATE, error))?;
    if read.is_empty() {
        return Err(PemError::Missing(path.to_owned(), CERTIFICATE));
    }
    Ok(read)
}

/// A private key.
///
/// # Errors
///
/// When the file cannot be read, or does not hold one.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| fault(path, KEY, error))
}

/// Certificates to trust.
///
/// # Errors
///
/// When the file cannot be read, or does not hold at least one that can be trusted.
pub fn roots(path: &Path) -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|_| PemError::Broken(path.to_owned(), CERTIFICATE))?;
    }
    Ok(roots)
}

fn fault(path: &Path, what: &'static str, error: pem::Error) -> PemError {
    match error {
        pem::Error::Io(error) => PemError::Unreadable(path.to_owned(), error),
        pem::Error::NoItemsFound => PemError::Missing(path.to_owned(), what),
        _ => PemError::Broken(path.to_owned(), what),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn with(text: &str, read: impl Fn(&Path) -> Option<PemError>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pem");
        fs::write(&path, text).unwrap();
        let fault = read(&path).expect("a fault").to_string();
        fault.replace(path.to_str().unwrap(), "x.pem")
    }

    #[test]
    fn a_fault_names_the_file_and_never_repeats_it() {
        let of_key = |path: &Path| key(path).err();
        let of_certificate = |path: &Path| certificates(path).err();
        assert_eq!(with("nothing", of_certificate), "x.pem holds no certificate");
        assert_eq!(with("", of_key), "x.pem holds no private key");
        let broken = "-----BEGIN PRIVATE KEY-----\n!secret!\n-----END PRIVATE KEY-----\n";
        assert_eq!(with(broken, of_key), "x.pem holds no well-formed private key");
        let unended = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n";
        assert_eq!(with(unended, of_key), "x.pem holds no well-formed private key");
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let of_roots = |path: &Path| roots(path).err();
        assert_eq!(with(no_certificate, of_roots), "x.pem holds no well-formed certificate");
        assert!(matches!(key(Path::new("/nowhere/x.pem")), Err(PemError::Unreadable(..))));
    }
}
