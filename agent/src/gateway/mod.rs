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
//! session wants and [`policy`] allows, judged on the address that is connected to; nobody but
//! the browser's own user is served, and no gateway can be reached through another, or a page
//! could use the upstream proxy of another session; all that passes is counted, and all that
//! does not is listed; and with the browser every connection ends.

mod bucket;
mod contexts;
mod denials;
mod dial;
#[cfg(test)]
mod egress_tests;
mod forward;
mod near;
mod peer;
mod policy;
mod relay;
mod route;
mod socks;
pub(crate) mod strangers;
#[cfg(test)]
mod tests;
mod upstream;

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rustix::process::geteuid;

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
    contexts::{CONTEXT_PROXIES_MAX, ContextProxy, Contexts, NoContextProxy},
    denials::{Denial, Denials},
    dial::Gateways,
    near::Meter,
    policy::{Policy, Refusal},
    route::{Account, Way},
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
    shared: Arc<Shared>,
    contexts: Contexts,
    _ends_all: DropGuard,
}

/// What the listeners of one gateway share.
struct Shared {
    port: u16,
    /// Whom it serves; this process's own user until that is said.
    user: OnceLock<u32>,
    /// Somebody else has tried, and the operator has heard of it.
    told: AtomicBool,
    /// Where connections go; `None` until the browser is lent.
    lane: Mutex<Option<Arc<Lane>>>,
    slots: Arc<Semaphore>,
    gateways: Gateways,
    tasks: TaskTracker,
    stop: CancellationToken,
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
        let shared = Arc::new(Shared {
            port,
            user: OnceLock::new(),
            told: AtomicBool::new(false),
            lane: Mutex::default(),
            slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            gateways: self.clone(),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        });
        let accepting = accept(listener, shared.clone(), None);
        let (until, claim) = (stop.clone(), self.claim(port));
        shared.tasks.spawn(async move {
            until.run_until_cancelled_owned(accepting).await;
            drop::<Claim>(claim); // only when nothing listens there any more
        });
        shared.tasks.close();
        let contexts = Contexts::new(shared.clone());
        Ok(Gateway { shared, contexts, _ends_all: stop.drop_guard() })
    }
}

impl Gateway {
    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.shared.port
    }

    /// Serves this user and nobody else. Once said it stays so.
    pub fn serve_only(&self, user: u32) {
        self.shared.user.get_or_init(|| user);
    }

    /// Opens the way for a session. The account counts what is done from now on. To be called
    /// in the session's span, which its log lines get.
    pub fn lend(&self, way: Way) -> Account {
        let Shared { gateways, stop, tasks, .. } = &*self.shared;
        let lane = Lane::new(gateways.clone(), way, stop, tasks.clone());
        let account = lane.account.clone();
        *self.shared.lane.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(lane));
        account
    }

    /// Where the proxies of its browser's contexts are set up.
    pub fn contexts(&self) -> Contexts {
        self.contexts.clone()
    }

    /// Ends all its connections, and waits until none is left.
    pub async fn close(self) {
        self.shared.stop.cancel();
        self.shared.tasks.wait().await;
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("port", &self.port()).finish_non_exhaustive()
    }
}

impl Shared {
    fn lane(&self) -> Option<Arc<Lane>> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a connection is of whom this gateway is for.
    fn serves(&self, stream: &TcpStream, from: SocketAddr) -> bool {
        let (SocketAddr::V4(from), Ok(SocketAddr::V4(to))) = (from, stream.local_addr()) else {
            return false; // it listens nowhere else
        };
        let user = self.user.get().copied().unwrap_or_else(|| geteuid().as_raw());
        match peer::user_of(from, to) {
            Ok(Some(found)) if found == user => true,
            Ok(None) => false, // it has left
            Ok(Some(found)) => {
                if !self.told.swap(true, Relaxed) {
                    warn!(user, found, "another user's process tries to use a browser's gateway");
                }
                false
            }
            // Then it is the jail alone that keeps others out.
            Err(error) => {
                if !self.told.swap(true, Relaxed) {
                    warn!(%error, "the kernel does not say whose a connection to a gateway is");
                }
                true
            }
        }
    }
}

/// Takes connections, for the gateway's present lane or for one of its own.
async fn accept(listener: TcpListener, shared: Arc<Shared>, own: Option<Arc<Lane>>) {
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a browser's gateway could not accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // An idle browser has no business on the network: its connections are just closed.
        let Some(lane) = own.clone().or_else(|| shared.lane()) else { continue };
        let Ok(slot) = shared.slots.clone().try_acquire_owned() else {
            lane.span.in_scope(|| debug!("too many connections; closing a new one"));
            continue;
        };
        if !lane.span.in_scope(|| shared.serves(&stream, from)) {
            continue;
        }
        let (stop, span) = (lane.stop.clone(), lane.span.clone());
        let serving = async move {
            stop.run_until_cancelled_owned(serve(&lane, stream)).await;
            drop(slot);
        };
        shared.tasks.spawn(serving.instrument(span));
    }
}

/// Serves one connection of the browser, to its end.
async fn serve(lane: &Lane, mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    if let Some(upstream) = lane.fronted() {
        return relay::serve(lane, upstream, Near::new(stream, lane.account.meter.clone())).await;
    }
    let target = match timeout(HANDSHAKE_LIMIT, socks::request(&mut stream)).await {
        Ok(Ok(target)) => target,
        Ok(Err(fault)) => return debug!(%fault, "a connection that is not a browser's"),
        Err(_) => return debug!("a connection without a request"),
    };
    let mut near = Near::new(stream, lane.account.meter.clone());
    if target.is_nowhere() {
        let _ = near.reply(Reply::HostUnreachable).await;
        return;
    }
    let judgement = lane.judge(&target);
    if judgement.is_ok() {
        lane.account.meter.asked_for(&target);
    }
    let ended = match (judgement, lane.asked_for_pages(&target)) {
        (Err(refusal), _) => {
            let refused = RouteError::Refused(refusal);
            let _ = near.reply(refused.reply()).await;
            Err(refused)
        }
        (Ok(()), None) => tunnel(lane, near, &target).await,
        (Ok(()), Some(upstream)) => judged(lane, upstream, near, &target).await,
    };
    if let Err(error) = ended {
        lane.failed(&target, &error);
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
