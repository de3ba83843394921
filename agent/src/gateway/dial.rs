//! Connecting to hosts: names resolved, addresses tried one beside the other.

use std::{
    collections::HashSet,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{self, ClientConfig, crypto::aws_lc_rs},
};

use super::socks::{Host, Reply, Target};

/// Connections of one browser at once. Chrome itself keeps fewer.
pub(super) const CONNECTIONS_MAX: usize = 1024;

/// How long reaching a site may take, its name included: Chrome gives up after 30 s.
pub(super) const DIAL_LIMIT: Duration = Duration::from_secs(25);

/// How long an address may be tried before the next one is, too (RFC 8305, section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// How many addresses of a name are tried.
const ADDRESSES_MAX: usize = 16;

/// Names that are resolved at once. Each takes a thread, and a server that does not answer
/// holds it for long.
const LOOKUPS_MAX: usize = 64;

/// After how much silence a connection is asked whether it lives: as Chrome's own.
const KEEP_ALIVE: Duration = Duration::from_secs(45);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address, or the name servers do not say.
    #[error("the name cannot be resolved")]
    Name(#[source] io::Error),
    /// The address is that of a browser's gateway.
    #[error("a gateway is not reached through a gateway")]
    Gateway,
    /// What the last address came to.
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// Nobody answered.
    #[error("no answer within {} s", DIAL_LIMIT.as_secs())]
    TimedOut,
}

impl DialError {
    pub(super) fn reply(&self) -> Reply {
        match self {
            Self::Name(_) => Reply::HostUnreachable,
            Self::Gateway => Reply::NotAllowed,
            Self::TimedOut => Reply::TimedOut,
            Self::Connect(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => Reply::Refused,
                io::ErrorKind::NetworkUnreachable => Reply::NetworkUnreachable,
                io::ErrorKind::HostUnreachable => Reply::HostUnreachable,
                io::ErrorKind::TimedOut => Reply::TimedOut,
                _ => Reply::Failed,
            },
        }
    }
}

/// The gateways of one agent, and what they share.
#[derive(Clone)]
pub struct Gateways(Arc<Shared>);

struct Shared {
    /// Where gateways listen now.
    ports: Mutex<HashSet<u16>>,
    lookups: Arc<Semaphore>,
    /// For proxies that are spoken to over TLS; made when the first one is.
    tls: OnceLock<TlsConnector>,
}

impl Default for Gateways {
    fn default() -> Self {
        let lookups = Arc::new(Semaphore::new(LOOKUPS_MAX));
        Self(Arc::new(Shared { ports: Mutex::default(), lookups, tls: OnceLock::new() }))
    }
}

impl fmt::Debug for Gateways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateways").field("ports", &*self.ports()).finish_non_exhaustive()
    }
}

/// A gateway's port, until dropped.
pub(super) struct Claim {
    gateways: Gateways,
    port: u16,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.gateways.ports().remove(&self.port);
    }
}

impl Gateways {
    pub(super) fn claim(&self, port: u16) -> Claim {
        self.ports().insert(port);
        Claim { gateways: self.clone(), port }
    }

    fn ports(&self) -> MutexGuard<'_, HashSet<u16>> {
        self.0.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects to a host.
    pub(super) async fn dial(&self, target: &Target) -> Result<TcpStream, DialError> {
        let dialling = async {
            let mut addresses = self.resolve(target).await.map_err(DialError::Name)?;
            addresses.retain(|address| !self.is_gateway(*address));
            if addresses.is_empty() {
                return Err(DialError::Gateway);
            }
            race(addresses).await.map_err(DialError::Connect)
        };
        timeout(DIAL_LIMIT, dialling).await.unwrap_or(Err(DialError::TimedOut))
    }

    /// The verifier is the machine's: its own certificates, or those that `SSL_CERT_FILE` names.
    pub(super) fn tls(&self) -> Result<TlsConnector, rustls::Error> {
        if let Some(tls) = self.0.tls.get() {
            return Ok(tls.clone());
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_platform_verifier()?
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(self.0.tls.get_or_init(|| Arc::new(config).into()).clone())
    }

    /// At least one address, or an error.
    async fn resolve(&self, target: &Target) -> io::Result<Vec<SocketAddr>> {
        let port = target.port;
        let name = match &target.host {
            Host::Address(address) => return Ok(vec![(*address, port).into()]),
            // Never a question for a name server (RFC 6761, section 6.3). In Chrome's order.
            Host::Name(name) if is_localhost(name) => {
                let both = [IpAddr::from(Ipv6Addr::LOCALHOST), Ipv4Addr::LOCALHOST.into()];
                return Ok(both.map(|address| (address, port).into()).to_vec());
            }
            Host::Name(name) => name.clone(),
        };
        let permit = self.0.lookups.clone().acquire_owned().await;
        let looking_up = spawn_blocking(move || {
            let _permit = permit; // until the thread is free again, whoever still waits for it
            (name.as_str(), port).to_socket_addrs()
        });
        let found = looking_up.await.map_err(io::Error::other)??;
        let addresses: Vec<_> = found.take(ADDRESSES_MAX).collect();
        if addresses.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(addresses) }
    }

    fn is_gateway(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        (ip.is_loopback() || ip.is_unspecified()) && self.ports().contains(&address.port())
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// The first of the addresses that answers; the next one is tried when one fails or takes long.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses = addresses.into_iter();
    let mut trying = FuturesUnordered::new();
    let mut fault = io::Error::from(io::ErrorKind::NotFound);
    loop {
        trying.extend(addresses.next().map(open));
        let patience = async {
            match addresses.len() {
                0 => std::future::pending().await,
                _ => sleep(NEXT_ADDRESS).await,
            }
        };
        tokio::select! {
            tried = trying.next() => match tried {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => fault = error,
                None => return Err(fault),
            },
            () = patience => {}
        }
    }
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    set_socket_keepalive(&stream, true)?;
    set_tcp_keepidle(&stream, KEEP_ALIVE)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn to(host: &str, port: u16) -> Target {
        Target { host: Host::parse(host).unwrap(), port }
    }

    #[test]
    fn localhost_is_known_by_all_its_names() {
        for name in ["localhost", "LocalHost", "localhost.", "a.localhost", "a.b.LOCALHOST."] {
            assert!(is_localhost(name), "{name}");
        }
        for name in ["localhost.example", "notlocalhost", "localhost..", ".", "example"] {
            assert!(!is_localhost(name), "{name}");
        }
    }

    #[tokio::test]
    async fn a_host_is_reached_by_whichever_address_answers() {
        let gateways = Gateways::default();
        for listening in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(listening).await.unwrap();
            let address = listener.local_addr().unwrap();
            let stream = gateways.dial(&to("a.localhost", address.port())).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), address);
        }
    }

    #[tokio::test]
    async fn nobody_and_no_such_name_are_told_apart() {
        let gateways = Gateways::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let refused = gateways.dial(&to("127.0.0.1", port)).await.unwrap_err();
        assert_eq!(refused.reply(), Reply::Refused, "{refused:?}");
        let unknown = gateways.dial(&to("no-such-host.invalid", 80)).await.unwrap_err();
        assert_eq!(unknown.reply(), Reply::HostUnreachable, "{unknown:?}");
    }

    #[tokio::test]
    async fn a_gateway_is_not_reached_through_another_by_any_of_its_names() {
        let gateways = Gateways::default();
        let (one, other) = (gateways.open().await.unwrap(), gateways.open().await.unwrap());
        for host in ["127.0.0.1", "localhost", "0.0.0.0", "::ffff:127.0.0.1", "::ffff:0.0.0.0"] {
            for port in [one.port(), other.port()] {
                let refused = gateways.dial(&to(host, port)).await.unwrap_err();
                assert_eq!(refused.reply(), Reply::NotAllowed, "{host}: {refused:?}");
            }
        }
        let port = other.port();
        other.close().await;
        let gone = gateways.dial(&to("127.0.0.1", port)).await.unwrap_err();
        assert_eq!(gone.reply(), Reply::Refused, "its port may be another's now");
    }
}
