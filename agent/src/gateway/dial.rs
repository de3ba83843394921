//! Connecting to hosts: names resolved, addresses tried one beside the other.

use std::{
    collections::HashSet,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use proto::egress::Egress;
use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{
    near::Meter,
    policy::{Destination, Policy, Refusal},
    socks::{Host, Reply, Target},
};

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
    /// The name, or every address that it has.
    #[error("it is refused by policy: {0}")]
    Refused(Refusal),
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
            Self::Refused(_) => Reply::NotAllowed,
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
    policy: Policy,
    /// Where gateways listen now.
    ports: Mutex<HashSet<u16>>,
    lookups: Arc<Semaphore>,
    /// What one browser may carry, in bytes a second.
    bandwidth: Option<u64>,
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
    /// Gateways that let through what a policy does.
    pub fn new(policy: Policy) -> Self {
        Self::limited(policy, None)
    }

    /// The same for so many bytes a second and browser; `None` is no bound.
    pub fn limited(policy: Policy, bandwidth: Option<u64>) -> Self {
        let lookups = Arc::new(Semaphore::new(LOOKUPS_MAX));
        let ports = Mutex::default();
        Self(Arc::new(Shared { policy, ports, lookups, bandwidth }))
    }

    pub(super) fn meter(&self) -> Meter {
        Meter::new(self.0.bandwidth)
    }

    pub(super) fn claim(&self, port: u16) -> Claim {
        self.ports().insert(port);
        Claim { gateways: self.clone(), port }
    }

    fn ports(&self) -> MutexGuard<'_, HashSet<u16>> {
        self.0.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects to a host, at one of those of its addresses that may be connected to.
    pub(super) async fn dial(
        &self,
        target: &Target,
        session: &Egress,
    ) -> Result<TcpStream, DialError> {
        self.judge(target, session).map_err(DialError::Refused)?;
        let dialling = async {
            let addresses = self.resolve(target).await.map_err(DialError::Name)?;
            let addresses = self.open_to(target, session, addresses).map_err(DialError::Refused)?;
            race(addresses).await.map_err(DialError::Connect)
        };
        timeout(DIAL_LIMIT, dialling).await.unwrap_or(Err(DialError::TimedOut))
    }

    /// Judges what can be judged of a target without asking anybody for it.
    pub(super) fn judge(&self, target: &Target, session: &Egress) -> Result<(), Refusal> {
        if let Host::Name(name) = &target.host {
            self.0.policy.judge_name(session, name, target.port)?;
        }
        match known(target) {
            Some(addresses) => self.open_to(target, session, addresses).map(drop),
            None => Ok(()),
        }
    }

    /// Those of a target's addresses that may be connected to; why not, when none may.
    fn open_to(
        &self,
        target: &Target,
        session: &Egress,
        addresses: Vec<SocketAddr>,
    ) -> Result<Vec<SocketAddr>, Refusal> {
        let name = match &target.host {
            Host::Name(name) => Some(name.as_str()),
            Host::Address(_) => None,
        };
        let mut refusal = None;
        let judge = |address: &SocketAddr| {
            let is_here = is_here(address.ip().to_canonical());
            if is_here && self.ports().contains(&address.port()) {
                return Err(Refusal::Own); // a gateway
            }
            let to = Destination { name, address: *address, is_here };
            self.0.policy.judge(session, to)
        };
        let mut open = addresses;
        open.retain(|address| {
            judge(address).inspect_err(|why| _ = refusal.get_or_insert(*why)).is_ok()
        });
        match refusal {
            Some(refusal) if open.is_empty() => Err(refusal),
            _ => Ok(open),
        }
    }

    /// At least one address, or an error.
    async fn resolve(&self, target: &Target) -> io::Result<Vec<SocketAddr>> {
        let name = match (known(target), &target.host) {
            (Some(addresses), _) => return Ok(addresses),
            (None, host) => host.to_string(),
        };
        let port = target.port;
        let permit = self.0.lookups.clone().acquire_owned().await;
        let looking_up = spawn_blocking(move || {
            let _permit = permit; // until the thread is free again, whoever still waits for it
            (name.as_str(), port).to_socket_addrs()
        });
        let found = looking_up.await.map_err(io::Error::other)??;
        let addresses: Vec<_> = found.take(ADDRESSES_MAX).collect();
        if addresses.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(addresses) }
    }
}

/// Its addresses, if nobody need be asked for them.
fn known(target: &Target) -> Option<Vec<SocketAddr>> {
    let port = target.port;
    match &target.host {
        Host::Address(address) => Some(vec![(*address, port).into()]),
        // Never a question for a name server (RFC 6761, section 6.3). In Chrome's order.
        Host::Name(name) if is_localhost(name) => {
            let both = [IpAddr::from(Ipv6Addr::LOCALHOST), Ipv4Addr::LOCALHOST.into()];
            Some(both.map(|address| (address, port).into()).to_vec())
        }
        Host::Name(_) => None,
    }
}

/// Whether an address is this machine's own: it would be connected to from itself. Nothing is
/// sent to find that out.
fn is_here(address: IpAddr) -> bool {
    const ANY_PORT: u16 = 9;
    if address.is_loopback() || address.is_unspecified() {
        return true;
    }
    let from: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let route = UdpSocket::bind((from, 0)).and_then(|socket| {
        socket.connect((address, ANY_PORT))?;
        socket.local_addr()
    });
    route.is_ok_and(|own| own.ip() == address)
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
#[path = "dial_tests.rs"]
mod tests;
