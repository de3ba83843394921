//! TLS of the hub's listener. The files are looked at with every handshake and read again when
//! they have changed, so that certificates are renewed without a restart; a file that is broken
//! meanwhile is said to be, and what was read before stays in use.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use proto::pem;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, InvalidMessage, ServerConfig, crypto::aws_lc_rs, server::WebPkiClientVerifier},
    server::TlsStream,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once; more wait to be accepted.
const HANDSHAKES: usize = 1_024;
/// Pause after a failed accept, for instance when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the hub shows and asks for, PEM all of them.
#[derive(Debug)]
pub struct Files {
    /// The hub's certificate, and those that lead to its root.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who signs agents' certificates; `None`: they need none.
    pub client_ca: Option<PathBuf>,
}

impl Files {
    fn read(&self) -> anyhow::Result<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let roots = Arc::new(pem::roots(ca)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build()?)
            }
        };
        let (certificate, key) = (pem::certificates(&self.certificate)?, pem::key(&self.key)?);
        let mut config = builder.with_single_cert(certificate, key).with_context(|| {
            let [certificate, key] = [&self.certificate, &self.key].map(|path| path.display());
            format!("{certificate} and {key} do not go together")
        })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    /// Changes whenever a file does. Links are followed: whoever replaces certificates by
    /// moving a link is noticed too.
    fn stamp(&self) -> Stamp {
        let files = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        files.map(|path| {
            let about = fs::metadata(path?).ok()?;
            Some((about.dev(), about.ino(), about.size(), about.mtime(), about.mtime_nsec()))
        })
    }
}

/// Device, inode, size and time of each file; `None`: it is not there.
type Stamp = [Option<(u64, u64, u64, i64, i64)>; 3];

/// The files as they were read last.
pub struct Acceptor {
    files: Files,
    read: Mutex<(Stamp, Arc<ServerConfig>)>,
}

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// When one is not as it should be.
    pub fn open(files: Files) -> anyhow::Result<Self> {
        let stamp = files.stamp();
        let config = files.read().context("the hub's TLS")?;
        Ok(Self { files, read: Mutex::new((stamp, Arc::new(config))) })
    }

    /// What the next handshake goes by.
    fn config(&self) -> Arc<ServerConfig> {
        let stamp = self.files.stamp();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.0 != stamp {
            read.0 = stamp;
            match self.files.read() {
                Ok(config) => {
                    read.1 = Arc::new(config);
                    info!("the hub's certificates were read again");
                }
                Err(error) => {
                    let why = format!("{error:#}");
                    warn!(why, "the hub's certificates have changed and cannot be used");
                }
            }
        }
        read.1.clone()
    }
}

/// Connections whose handshake is done. Ends with `stop`.
pub fn incoming(
    listener: TcpListener,
    acceptor: Arc<Acceptor>,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<TlsStream<TcpStream>>> {
    let (done, incoming) = mpsc::channel(1);
    tokio::spawn(async move {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        let accepting = async {
            while let Ok(permit) = handshakes.clone().acquire_owned().await {
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        let (acceptor, done) = (acceptor.config(), done.clone());
                        let stop = stop.clone();
                        tokio::spawn(async move {
                            let shaking = stop.run_until_cancelled(handshake(stream, acceptor));
                            match shaking.await {
                                Some(Ok(stream)) => drop(done.send(Ok(stream)).await),
                                Some(Err(why)) => {
                                    warn!(peer = %peer.ip(), why, "no TLS with an agent");
                                }
                                None => (),
                            }
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        warn!(%error, "could not accept an agent's connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(accepting).await;
    });
    ReceiverStream::new(incoming)
}

async fn handshake(
    stream: TcpStream,
    config: Arc<ServerConfig>,
) -> Result<TlsStream<TcpStream>, String> {
    // Refused only by a socket that is broken, and that shows soon.
    let _ = stream.set_nodelay(true);
    match timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(told(&error)),
        Err(_) => Err("the handshake took too long".to_owned()),
    }
}

/// What people can do something about, in their words.
fn told(error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "it does not speak TLS: its --control-plane is to begin with https://".to_owned()
        }
        Some(rustls::Error::NoCertificatesPresented) => {
            "it has no certificate of its own: give it --tls-cert and --tls-key".to_owned()
        }
        _ => error.to_string(),
    }
}
