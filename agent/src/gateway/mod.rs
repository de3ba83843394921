//! The way of a browser to the network: one gateway a browser, up before it and gone with it.
//!
//! ```text
//! Chrome ── SOCKS5, loopback ──▶ gateway ──▶ the site
//!                                   └──────▶ the session's upstream proxy ──▶ the site
//! ```
//!
//! Chrome knows no other proxy and resolves no name: it hands over host names, and every page,
//! `https` or WebSocket is a tunnel of bytes. SOCKS5 and not HTTP, so that a site that cannot
//! be reached is a failed navigation, as without a proxy, and not a page of the gateway's.
//!
//! Kept true: nothing leaves a browser before it is lent, and what it does then goes where its
//! session wants; no gateway can be reached through another, or a page could use the upstream
//! proxy of another session; all that passes is counted; and with the browser every
//! connection ends.

mod dial;
mod forward;
mod near;
mod route;
mod socks;
#[cfg(test)]
mod tests;
mod upstream;

use std::{
    fmt, io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::{Instrument, debug, warn};

pub use self::{
    dial::Gateways,
    near::Meter,
    upstream::{NotAnUpstream, Upstream},
};
use self::{
    dial::{CONNECTIONS_MAX, Claim},
    near::{Near, Opening},
    route::{Lane, RouteError},
    socks::{Reply, Target},
};

/// How long Chrome may take to say where it wants to go: it does so in one breath.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Wait after an accept that failed for want of something, such as descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One browser's gateway. Dropping it ends its connections, in the background.
pub struct Gateway {
    port: u16,
    /// Where connections go; `None` until the browser is lent.
    lane: Arc<Mutex<Option<Arc<Lane>>>>,
    gateways: Gateways,
    tasks: TaskTracker,
    stop: CancellationToken,
    _ends_all: DropGuard,
}

impl Gateways {
    /// Opens a gateway on a loopback port of its own. It refuses everything until it is lent.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub async fn open(&self) -> io::Result<Gateway> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let stop = CancellationToken::new();
        let gateway = Gateway {
            port,
            lane: Arc::default(),
            gateways: self.clone(),
            tasks: TaskTracker::new(),
            _ends_all: stop.clone().drop_guard(),
            stop,
        };
        let accepting = accept(listener, gateway.lane.clone(), gateway.tasks.clone());
        let (stop, claim) = (gateway.stop.clone(), self.claim(port));
        gateway.tasks.spawn(async move {
            stop.run_until_cancelled_owned(accepting).await;
            drop::<Claim>(claim); // only when nothing listens there any more
        });
        gateway.tasks.close();
        Ok(gateway)
    }
}

impl Gateway {
    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Opens the way for a session: by its upstream proxy, or straight. The meter counts what
    /// passes from now on. To be called in the session's span, which its log lines get.
    pub fn lend(&self, upstream: Option<Upstream>) -> Meter {
        let lane = Lane::new(self.gateways.clone(), upstream, &self.stop, self.tasks.clone());
        let meter = lane.meter.clone();
        *self.lane.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(lane));
        meter
    }

    /// Ends all its connections, and waits until none is left.
    pub async fn close(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("port", &self.port).finish_non_exhaustive()
    }
}

async fn accept(listener: TcpListener, lane: Arc<Mutex<Option<Arc<Lane>>>>, tasks: TaskTracker) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "a browser's gateway could not accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // An idle browser has no business on the network: its connections are just closed.
        let Some(lane) = lane.lock().unwrap_or_else(PoisonError::into_inner).clone() else {
            continue;
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            lane.span.in_scope(|| debug!("too many connections; closing a new one"));
            continue;
        };
        let (stop, span) = (lane.stop.clone(), lane.span.clone());
        let serving = async move {
            stop.run_until_cancelled_owned(serve(&lane, stream)).await;
            drop(slot);
        };
        tasks.spawn(serving.instrument(span));
    }
}

/// Serves one connection of the browser, to its end.
async fn serve(lane: &Lane, mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let target = match timeout(HANDSHAKE_LIMIT, socks::request(&mut stream)).await {
        Ok(Ok(target)) => target,
        Ok(Err(fault)) => return debug!(%fault, "a connection that is not a browser's"),
        Err(_) => return debug!("a connection without a request"),
    };
    lane.meter.asked_for(&target);
    let near = Near::new(stream, lane.meter.clone());
    let ended = match lane.asked_for_pages(&target) {
        None => tunnel(lane, near, &target).await,
        Some(upstream) => judged(lane, upstream, near, &target).await,
    };
    if let Err(error) = ended {
        lane.failed(&error);
    }
}

/// Connects first, so that the browser hears whether that worked.
async fn tunnel(lane: &Lane, mut near: Near, target: &Target) -> Result<(), RouteError> {
    match lane.connect(target).await {
        Ok(far) => {
            if near.reply(Reply::Succeeded).await.is_ok() {
                near.relay(far).await;
            }
            Ok(())
        }
        Err(error) => {
            let _ = near.reply(error.reply()).await;
            Err(error)
        }
    }
}

/// Lets the browser speak first: its first words say how an HTTP proxy must be asked. A
/// failure can then only be told by breaking off.
async fn judged(
    lane: &Lane,
    upstream: &Upstream,
    mut near: Near,
    target: &Target,
) -> Result<(), RouteError> {
    if near.reply(Reply::Succeeded).await.is_err() {
        return Ok(());
    }
    match near.opening().await {
        Ok(Opening::Request) => {
            forward::serve(lane, upstream, near, target).await;
            Ok(())
        }
        Ok(Opening::Other) => match lane.connect(target).await {
            Ok(far) => {
                near.relay(far).await;
                Ok(())
            }
            Err(error) => {
                near.reset();
                Err(error)
            }
        },
        Err(_) => Ok(()), // it was opened ahead, and not needed
    }
}
