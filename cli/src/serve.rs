//! The accept loop of every HTTP listener: HTTP/1.1 with upgrades, and limits on what a
//! client may hold without saying anything.
//!
//! Connections are served on the plain `TcpStream`, unwrapped: the data plane takes that
//! very type back out of an upgrade. An upgraded connection no longer counts here; the
//! agent bounds the clients of each session.

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
use tokio::{
    net::{TcpListener, TcpStream},
    pin,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;
use tracing::{debug, warn};

/// Connections at once, over all clients.
const CONNECTIONS: usize = 16_384;
/// Pause after a failed accept, for instance when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Most bytes of headers, and of one read.
const BUFFER_BYTES: usize = 64 << 10;

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

/// Serves until `stop` is cancelled and the requests in flight are answered, or their time
/// is up.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let slots = Arc::new(Slots::new(CONNECTIONS, limits.per_address));
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
        let Some(slot) = slots.take(peer) else {
            debug!(peer = %peer.ip(), "too many connections; closing a new one");
            continue;
        };
        let (router, stop, abort) = (router.clone(), stop.clone(), abort.clone());
        connections.spawn(async move {
            tokio::select! {
                () = abort.cancelled() => (),
                () = connection(stream, peer, router, limits, stop) => (),
            }
            drop(slot);
        });
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
    let spoke = CancellationToken::new();
    let heard = spoke.clone();
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        heard.cancel();
        request.extensions_mut().insert(ConnectInfo(peer));
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

/// Room for connections. A slot frees itself when dropped.
struct Slots {
    all: Arc<Semaphore>,
    per_address: u32,
    addresses: Mutex<HashMap<IpAddr, u32>>,
}

struct Slot {
    counted: Option<(Arc<Slots>, IpAddr)>,
    _one_of_all: OwnedSemaphorePermit,
}

impl Slots {
    fn new(all: usize, per_address: u32) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), per_address, addresses: Mutex::default() }
    }

    fn take(self: &Arc<Self>, peer: SocketAddr) -> Option<Slot> {
        let one_of_all = self.all.clone().try_acquire_owned().ok()?;
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
mod tests {
    use std::future::pending;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Long enough to be met, short enough to be waited for.
    const SHORT: Duration = Duration::from_millis(200);

    async fn start(router: Router) -> (SocketAddr, CancellationToken, TaskTracker) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = TaskTracker::new();
        let limits = Limits { first_request: SHORT, drain: SHORT, ..Limits::with_per_address(0) };
        server.spawn(serve(listener, router, limits, stop.clone()));
        server.close();
        (address, stop, server)
    }

    async fn read_all(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    #[tokio::test]
    async fn a_request_in_flight_is_answered_before_the_server_ends() {
        let begun = CancellationToken::new();
        let answer = CancellationToken::new();
        let (tell, wait) = (begun.clone(), answer.clone());
        let router = Router::new().route(
            "/",
            get(move || async move {
                tell.cancel();
                wait.cancelled().await;
                "done"
            }),
        );
        let (address, stop, server) = start(router).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        begun.cancelled().await;
        stop.cancel();
        answer.cancel();
        let text = read_all(&mut client).await;
        assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("done"), "{text}");
        server.wait().await;
    }

    #[tokio::test]
    async fn a_request_that_never_ends_does_not_hold_the_server() {
        let begun = CancellationToken::new();
        let tell = begun.clone();
        let router = Router::new().route(
            "/",
            get(move || async move {
                tell.cancel();
                pending::<()>().await;
            }),
        );
        let (address, stop, server) = start(router).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        begun.cancelled().await;
        stop.cancel();
        server.wait().await;
    }

    #[tokio::test]
    async fn a_request_may_take_longer_than_its_headers_may() {
        let router = Router::new().route(
            "/",
            get(async || {
                sleep(SHORT * 2).await;
                "done"
            }),
        );
        let (address, _stop, _server) = start(router).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        client.write_all(request).await.unwrap();
        assert_eq!(read_all(&mut client).await.matches("done").count(), 2);
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_is_let_go() {
        for part in ["", "GET / HTTP/1.1\r\nHost:"] {
            let (address, _stop, _server) = start(Router::new()).await;
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(part.as_bytes()).await.unwrap();
            assert_eq!(read_all(&mut client).await, "");
        }
    }

    #[test]
    fn one_address_cannot_take_all_connections() {
        let slots = Arc::new(Slots::new(5, 2));
        let peer = |text: &str| SocketAddr::new(text.parse().unwrap(), 1);
        let held = [slots.take(peer("192.0.2.1")), slots.take(peer("::ffff:192.0.2.1"))];
        assert!(held.iter().all(Option::is_some));
        assert!(slots.take(peer("192.0.2.1")).is_none());
        assert!(slots.take(peer("192.0.2.2")).is_some());
        drop(held);
        assert!(slots.take(peer("192.0.2.1")).is_some());
        assert!(slots.addresses.lock().unwrap().is_empty());
    }

    #[test]
    fn this_machine_is_bounded_only_by_the_total() {
        let slots = Arc::new(Slots::new(3, 1));
        let peer: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let held: Vec<_> = (0..3).map(|_| slots.take(peer)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(slots.take(peer).is_none());
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let one = one_client("2001:db8:1:2::1".parse().unwrap());
        assert_eq!(one, one_client("2001:db8:1:2:ffff::9".parse().unwrap()));
        assert_ne!(one, one_client("2001:db8:1:3::1".parse().unwrap()));
    }
}
