//! A site by `https`, with a certificate that nobody has signed, or an authority of the tests.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::authority::Signed;

/// A certificate of `localhost` and its key, made anew.
#[derive(Debug)]
pub struct Certificate(TempDir);

impl Certificate {
    /// Makes one that lasts a day.
    ///
    /// # Panics
    ///
    /// When there is no `openssl` on this machine.
    pub async fn new() -> Self {
        let certificate = Self(tempfile::tempdir().expect("a folder"));
        let mut command = Command::new("openssl");
        command.args("req -x509 -nodes -days 1 -newkey ec".split(' '));
        command.args("-pkeyopt ec_paramgen_curve:prime256v1 -subj /CN=localhost".split(' '));
        command.args("-addext basicConstraints=critical,CA:FALSE".split(' '));
        command.args("-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -out".split(' '));
        command.arg(certificate.certificate()).arg("-keyout").arg(certificate.key());
        let made = command.output().await.expect("openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        certificate
    }

    /// The certificate, as PEM.
    pub fn certificate(&self) -> PathBuf {
        self.0.path().join("certificate.pem")
    }

    /// Its key, as PEM.
    pub fn key(&self) -> PathBuf {
        self.0.path().join("key.pem")
    }
}

fn acceptor(certificate: &Path, key: &Path) -> TlsAcceptor {
    let read = |path: &Path| fs::read(path).expect("a file of openssl");
    let certificate = CertificateDer::from_pem_slice(&read(certificate));
    let key = PrivateKeyDer::from_pem_slice(&read(key)).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.expect("a certificate")], key);
    Arc::new(config.expect("a certificate with its key")).into()
}

/// Takes the TLS off and hands on what is inside; it ends when dropped.
#[derive(Debug)]
pub struct Front {
    /// `https://localhost:port`
    pub url: String,
    serving: JoinHandle<()>,
}

impl Front {
    /// Stands before a site at `http://localhost:port`.
    ///
    /// # Panics
    ///
    /// When there is no port left.
    pub async fn start(certificate: &Certificate, site: &str) -> Self {
        Self::with(acceptor(&certificate.certificate(), &certificate.key()), 0, site).await
    }

    /// Stands before it on this port, with a certificate that an authority signed.
    ///
    /// # Panics
    ///
    /// When the port is taken.
    pub async fn start_on(port: u16, signed: &Signed, site: &str) -> Self {
        Self::with(acceptor(&signed.certificate, &signed.key), port, site).await
    }

    async fn with(acceptor: TlsAcceptor, port: u16, site: &str) -> Self {
        let inside = site.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
        let port = listener.local_addr().expect("a bound address").port();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, inside) = (acceptor.clone(), inside.clone());
                tokio::spawn(async move {
                    let mut outer = acceptor.accept(stream).await?;
                    let mut inner = TcpStream::connect(inside).await?;
                    copy_bidirectional(&mut outer, &mut inner).await
                });
            }
        });
        Self { url: format!("https://localhost:{port}"), serving }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
