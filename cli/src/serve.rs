//! The accept loop of every HTTP listener: HTTP/1.1 with upgrades, and limits on what a
//! client may hold without saying anything.
//!
//! Connections are served on the plain `TcpStream`, unwrapped: the data plane takes that
//! very type back out of an upgrade. An upgraded connection no longer counts here; the
//! agent bounds the clients of each session.
//!
//! However many connections there are, a few more are taken for a moment to answer health
//! probes: a server that is only busy must not be taken for dead.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, extract::ConnectInfo};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, getrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    pin,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;
use tracing::{debug, warn};

/// Connections at once, over all clients, unless the process may open too few files for it.
const CONNECTIONS: usize = 16_384;
/// Connections beyond those, one request each, for health probes alone.
const SPARE: usize = 256;
/// How long a connection of those may take.
const SPARE_LIMIT: Duration = Duration::from_secs(2);
/// What probes ask for.
const PROBES: [&str; 5] = ["/healthz", "/livez", "/readyz", "/startupz", "/v1/health"];
/// Pause after a failed accept, for instance when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Most bytes of headers, and of one read.
const BUFFER_BYTES: usize = 64 << 10;
/// The same for a health probe: the least that hyper takes.
const PROBE_BYTES: usize = 8 << 10;

/// What a client may hold, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections of one address; 0 is no bound, and loopback addresses have none.
    pub per_address: u32,
    /// From the connection's first moment to the end of its first request's headers.
    pub first_request: Duration,
    /// From one answer to the end of the next request's headers. Longer than load balancers
    /// keep an idle connection (60 s is common), so that they close first.
    pub idle: Duration,
    /// How long requests in flight may take once the server stops.
    pub drain: Duration,
}

impl Limits {
    /// The limits of a server, with the one that depends on what is before it.
    pub fn with_per_address(per_address: u32) -> Self {
        Self {
            per_address,
            first_request: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            drain: Duration::from_secs(5),
        }
    }
}

/// Where a request's connection ends: this machine's address, as the client dialled it. In the
/// request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Local(pub SocketAddr);

/// Serves until `stop` is cancelled and the requests in flight are answered, or their time
/// is up.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let slots = Arc::new(Slots::new(connections_max(), limits.per_address));
    serve_within(slots, listener, router, limits, stop).await;
}

/// Leaves half of the files that may be open to browsers and their connections.
fn connections_max() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files / 2).unwrap_or(usize::MAX).min(CONNECTIONS)
}

async fn serve_within(
    slots: Arc<Slots>,
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    let abort = CancellationToken::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    accept_failed(&error).await;
                    continue;
                }
            },
        };
        let (router, stop, abort) = (router.clone(), stop.clone(), abort.clone());
        match slots.take(peer) {
            Taken::Slot(slot) => {
                connections.spawn(async move {
                    tokio::select! {
                        () = abort.cancelled() => (),
                        () = connection(stream, peer, router, limits, stop) => (),
                    }
                    drop(slot);
                });
            }
            Taken::Spare(slot) => {
                connections.spawn(async move {
                    let _ = timeout(SPARE_LIMIT, probe(stream, peer, router)).await;
                    drop(slot);
                });
            }
            Taken::None => debug!(peer = %peer.ip(), "too many connections; closing a new one"),
        }
    }
    drop(listener);
    connections.close();
    if timeout(limits.drain, connections.wait()).await.is_err() {
        warn!(requests = connections.len(), "requests were still in flight; dropping them");
        abort.cancel();
        connections.wait().await;
    }
}

async fn accept_failed(error: &io::Error) {
    let gone = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset];
    if !gone.contains(&error.kind()) {
        warn!(%error, "could not accept a connection");
        sleep(ACCEPT_PAUSE).await;
    }
}

/// Serves one connection until it ends, is upgraded, or outstays a limit.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    // Small answers must not wait for the client's acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().ok();
    let spoke = CancellationToken::new();
    let heard = spoke.clone();
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        heard.cancel();
        request.extensions_mut().insert(ConnectInfo(peer));
        if let Some(local) = local {
            request.extensions_mut().insert(Local(local));
        }
        router.clone().oneshot(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    pin!(serving);
    let first = sleep(limits.first_request);
    pin!(first);
    let (mut waiting, mut stopping) = (true, false);
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    debug!(%error, "a connection ended with an error");
                }
                return;
            }
            () = &mut first, if waiting => {
                waiting = false;
                if !spoke.is_cancelled() {
                    return;
                }
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Answers one request, if it is that of a health probe.
async fn probe(stream: TcpStream, peer: SocketAddr, router: Router) {
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let router = router.clone();
        async move {
            if !PROBES.contains(&request.uri().path()) {
                return Err(Full);
            }
            router.oneshot(request).await.map_err(|never| match never {})
        }
    });
    let _ = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(PROBE_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// There is no room for anything else; the connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("too many connections")]
struct Full;

/// Room for connections. A slot frees itself when dropped.
struct Slots {
    all: Arc<Semaphore>,
    spare: Arc<Semaphore>,
    per_address: u32,
    addresses: Mutex<HashMap<IpAddr, u32>>,
}

/// What a new connection gets.
enum Taken {
    Slot(Slot),
    /// There is no other room.
    Spare(OwnedSemaphorePermit),
    None,
}

struct Slot {
    counted: Option<(Arc<Slots>, IpAddr)>,
    _one_of_all: OwnedSemaphorePermit,
}

impl Slots {
    fn new(all: usize, per_address: u32) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all)),
            spare: Arc::new(Semaphore::new(SPARE)),
            per_address,
            addresses: Mutex::default(),
        }
    }

    fn take(self: &Arc<Self>, peer: SocketAddr) -> Taken {
        match self.all.clone().try_acquire_owned() {
            Ok(one_of_all) => self.of_address(peer, one_of_all).map_or(Taken::None, Taken::Slot),
            Err(_) => self.spare.clone().try_acquire_owned().map_or(Taken::None, Taken::Spare),
        }
    }

    fn of_address(
        self: &Arc<Self>,
        peer: SocketAddr,
        one_of_all: OwnedSemaphorePermit,
    ) -> Option<Slot> {
        let address = one_client(peer.ip());
        let counted = if address.is_loopback() || self.per_address == 0 {
            None
        } else {
            let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            let held = addresses.entry(address).or_default();
            if *held >= self.per_address {
                return None;
            }
            *held += 1;
            Some((self.clone(), address))
        };
        Some(Slot { counted, _one_of_all: one_of_all })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some((slots, address)) = self.counted.take() else { return };
        let mut addresses = slots.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = addresses.get_mut(&address) {
            *held -= 1;
            if *held == 0 {
                addresses.remove(&address);
            }
        }
    }
}

/// What counts as one client: an IPv4 address, or an IPv6 network of 64 bits, as that is
/// what one customer is given (RFC 6177).
fn one_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
