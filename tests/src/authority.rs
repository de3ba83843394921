//! Signs certificates of hubs and agents.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tokio::process::Command;

use crate::eventually;

/// An authority of a test's own, which `openssl` plays.
#[derive(Debug)]
pub struct Authority(TempDir);

/// A certificate that an authority signed, and its key.
#[derive(Clone, Debug)]
pub struct Signed {
    /// As PEM.
    pub certificate: PathBuf,
    /// As PEM.
    pub key: PathBuf,
}

const KEY: &str = "-nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1";

impl Authority {
    /// Makes one that lasts a day.
    ///
    /// # Panics
    ///
    /// When there is no `openssl` on this machine.
    pub async fn new() -> Self {
        let authority = Self(tempfile::tempdir().expect("a folder"));
        // Another authority of the same name would be taken for this one that signs wrongly.
        let name = ulid::Ulid::generate();
        let made = format!("req -x509 -days 1 {KEY} -subj /CN={name} -keyout ca.key -out ca.pem");
        authority.openssl(&made).await;
        authority
    }

    /// Its own certificate, as PEM.
    pub fn certificate(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// Signs a certificate for `localhost` and 127.0.0.1 that lasts a day.
    pub async fn sign(&self, name: &str) -> Signed {
        self.sign_for(name, 1).await
    }

    /// Signs one that has expired.
    pub async fn sign_expired(&self, name: &str) -> Signed {
        let signed = self.sign_for(name, 0).await;
        // It lasts to the end of this second.
        let end = SystemTime::now() + Duration::from_secs(1);
        let over = || async { (SystemTime::now() > end).then_some(()) };
        eventually("a second is over", Duration::from_secs(5), over).await;
        signed
    }

    async fn sign_for(&self, name: &str, days: u32) -> Signed {
        let request = format!(
            "req -new {KEY} -subj /CN={name} -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
             -keyout {name}.key -out {name}.csr"
        );
        self.openssl(&request).await;
        // A serial number of its own: a file of them cannot be shared by two at once.
        let serial = ulid::Ulid::generate().random() as u64;
        let sign = format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -set_serial 0x{serial:x} \
             -days {days} -copy_extensions copy -out {name}.pem"
        );
        self.openssl(&sign).await;
        let [certificate, key] = ["pem", "key"].map(|kind| self.file(&format!("{name}.{kind}")));
        Signed { certificate, key }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    async fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace()).current_dir(self.0.path());
        let made = command.output().await.expect("openssl");
        assert!(made.status.success(), "{arguments}: {}", String::from_utf8_lossy(&made.stderr));
    }
}

impl Signed {
    /// Puts this one where another is, the certificate last.
    ///
    /// # Panics
    ///
    /// When the files cannot be written.
    pub fn replace(&self, other: &Self) {
        let put = |from: &Path, to: &Path| {
            let beside = to.with_extension("new");
            std::fs::copy(from, &beside).expect("a copy");
            std::fs::rename(&beside, to).expect("a file in place of another");
        };
        put(&self.key, &other.key);
        put(&self.certificate, &other.certificate);
    }
}
