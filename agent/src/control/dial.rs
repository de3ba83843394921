//! The way to the hub: one of its addresses, in plain text or by TLS.
//!
//! The addresses are tried in turn: when there is no stream to one, or no longer, the next is
//! dialled. Certificates and keys are read anew with every connection, so that they can be
//! replaced while the agent runs.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use hyper_util::rt::TokioIo;
use proto::pem;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{self, ClientConfig, InvalidMessage, crypto::aws_lc_rs, pki_types::ServerName},
};
use tokio_util::either::Either;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use tracing::warn;
use url::{Host, Url};

use crate::config::HubTls;

/// How long a connection may take to come about, its TLS included.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How long HTTP/2 lets the stream's connection be silent, and then waits for the answer to a
/// ping.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// The same for the connection of questions.
const QUESTIONS_KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Opens connections to the hub.
pub(crate) struct Dialer {
    addresses: Vec<Url>,
    tls: HubTls,
    /// Which address is dialled now.
    at: AtomicUsize,
    /// The connection of questions, and which address it is to.
    questions: Mutex<Option<(usize, Channel)>>,
}

/// A connection that HTTP/2 is spoken on.
type Connection = TokioIo<Either<TcpStream, TlsStream<TcpStream>>>;

impl Dialer {
    /// For `http:` and `https:` addresses with a host, at least one. Checks them, and reads every file once: better to hear now what is wrong.
    pub fn new(addresses: Vec<Url>, tls: HubTls) -> anyhow::Result<Self> {
        let secured = addresses.iter().filter(|address| is_tls(address)).count();
        if tls != HubTls::default() {
            ensure!(secured > 0, "certificates are for https: addresses of the control plane");
        }
        if secured > 0 {
            client_config(&tls)?;
        }
        for address in &addresses {
            if !is_tls(address) && !is_loopback(address) {
                warn!(
                    %address,
                    "the control plane is dialled in plain text: the join token and what sessions \
                     begin with can be read on the way; give its hub --hub-tls-cert and dial https:"
                );
            }
        }
        let (at, questions) = (AtomicUsize::new(0), Mutex::new(None));
        Ok(Self { addresses, tls, at, questions })
    }

    /// The address that is dialled now: scheme, host and port.
    pub fn address(&self) -> &Url {
        &self.addresses[self.at.load(Ordering::Relaxed)]
    }

    /// From now on the next address is dialled.
    pub fn turn(&self) {
        let next = (self.at.load(Ordering::Relaxed) + 1) % self.addresses.len();
        self.at.store(next, Ordering::Relaxed);
    }

    /// Connects, without any delay for small messages.
    pub async fn connect(self: &Arc<Self>) -> Result<Channel, tonic::transport::Error> {
        let at = self.at.load(Ordering::Relaxed);
        let endpoint = endpoint(&self.addresses[at])?
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        let dialer = self.clone();
        endpoint.connect_with_connector(service_fn(move |_| open(dialer.clone(), at))).await
    }

    /// A connection for questions and files, to where the stream is; made when it is needed.
    pub fn for_questions(self: &Arc<Self>) -> Result<Channel, tonic::transport::Error> {
        let at = self.at.load(Ordering::Relaxed);
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, channel)) = questions.as_ref().filter(|(to, _)| *to == at) {
            return Ok(channel.clone());
        }
        let endpoint = endpoint(&self.addresses[at])?
            .http2_keep_alive_interval(QUESTIONS_KEEP_ALIVE)
            .keep_alive_timeout(QUESTIONS_KEEP_ALIVE);
        let dialer = self.clone();
        let connector = service_fn(move |_| open(dialer.clone(), at));
        let channel = endpoint.connect_with_connector_lazy(connector);
        *questions = Some((at, channel.clone()));
        Ok(channel)
    }
}

/// The TLS is ours: tonic is told of a plain address, and of the real one as the origin.
fn endpoint(address: &Url) -> Result<Endpoint, tonic::transport::Error> {
    let origin = address.as_str().trim_end_matches('/');
    let plain = origin.replacen("https:", "http:", 1);
    let endpoint = Endpoint::from_shared(plain)?.connect_timeout(CONNECT_LIMIT);
    // An address that is an endpoint is a URI.
    Ok(match origin.parse() {
        Ok(origin) => endpoint.origin(origin),
        Err(_) => endpoint,
    })
}

async fn open(dialer: Arc<Dialer>, at: usize) -> io::Result<Connection> {
    let address = &dialer.addresses[at];
    let (Some(host), Some(port)) = (address.host(), address.port_or_known_default()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput)); // never: see `hub_addresses`
    };
    let stream = match &host {
        Host::Domain(name) => TcpStream::connect((*name, port)).await,
        Host::Ipv4(ip) => TcpStream::connect((*ip, port)).await,
        Host::Ipv6(ip) => TcpStream::connect((*ip, port)).await,
    }?;
    stream.set_nodelay(true)?;
    if !is_tls(address) {
        return Ok(TokioIo::new(Either::Left(stream)));
    }
    let name = match host {
        Host::Domain(name) => ServerName::try_from(name.to_owned()).map_err(io::Error::other)?,
        Host::Ipv4(ip) => ServerName::IpAddress(ip.into()),
        Host::Ipv6(ip) => ServerName::IpAddress(ip.into()),
    };
    let config = client_config(&dialer.tls).map_err(io::Error::other)?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = connecting.await.map_err(told)?;
    Ok(TokioIo::new(Either::Right(stream)))
}

/// Without a CA of the hub's own it is the machine that says whom to trust.
fn client_config(tls: &HubTls) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match &tls.ca {
        Some(ca) => builder.with_root_certificates(pem::roots(ca)?),
        None => builder.with_platform_verifier().context("this machine's own certificates")?,
    };
    let mut config = match &tls.identity {
        Some((certificate, key)) => builder
            .with_client_auth_cert(pem::certificates(certificate)?, pem::key(key)?)
            .with_context(|| {
                format!("{} and {} do not go together", certificate.display(), key.display())
            })?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// What people can do something about, in their words.
fn told(error: io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            io::Error::other("it does not speak TLS: give the hub --hub-tls-cert, or dial http:")
        }
        _ => error,
    }
}

fn is_tls(address: &Url) -> bool {
    address.scheme() == "https"
}

/// Whether what is said there stays on this machine.
fn is_loopback(address: &Url) -> bool {
    match address.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn what_stays_on_this_machine_needs_no_tls() {
        for here in ["http://127.0.0.1:8081", "http://[::1]:8081", "http://localhost:8081"] {
            assert!(is_loopback(&url(here)), "{here}");
        }
        for there in ["http://10.0.0.1:8081", "http://localhost.example:1", "http://[fd00::1]:1"] {
            assert!(!is_loopback(&url(there)), "{there}");
        }
    }

    #[test]
    fn tonic_is_told_of_a_plain_address_with_the_real_origin() {
        let endpoint = endpoint(&url("https://hub.example:8081")).unwrap();
        assert_eq!(endpoint.uri().to_string(), "http://hub.example:8081/");
    }

    #[test]
    fn a_missing_file_is_named() {
        let ca = Some(PathBuf::from("/nowhere/ca.pem"));
        let error = client_config(&HubTls { ca, identity: None }).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot read /nowhere/ca.pem: "), "{error:#}");
    }
}
