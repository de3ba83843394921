//! Proxies that a client gives to browser contexts (`Target.createBrowserContext` with
//! `proxyServer`), by way of the gateway.
//!
//! Chrome would connect to such a proxy itself, past the gateway; its jail does not let it. So
//! each of them gets a front on another loopback address at the gateway's own port, which is
//! all that the jail looks at, and Chrome is told of that front instead:
//!
//! ```text
//! context ── HTTP or SOCKS5, 127.x.y.z ──▶ front ──▶ the client's proxy ──▶ the site
//! ```
//!
//! The front speaks what the proxy speaks, HTTP or SOCKS5: credentials come from the client
//! when Chrome asks it for them, so a proxy's question for them must reach Chrome as it is.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::DropGuard;
use url::Url;

use super::{
    Shared, accept,
    upstream::{NotAnUpstream, Scheme, Upstream},
};

/// Proxies of contexts that one browser has at once.
pub const CONTEXT_PROXIES_MAX: usize = 64;

/// Addresses that are tried for one front. Another program may listen on one or two.
const TRIES: u32 = 16;

/// Why a context cannot have a proxy. Never repeats what was given.
#[derive(Debug, thiserror::Error)]
pub enum NoContextProxy {
    /// Chrome would choose by the kind of URL, or try one after the other.
    #[error("proxyServer names several proxies: only one for everything is supported")]
    Several,
    /// Of another form.
    #[error("proxyServer: {0}")]
    Upstream(#[from] NotAnUpstream),
    /// There are too many.
    #[error("{CONTEXT_PROXIES_MAX} contexts of this browser have a proxy already")]
    TooMany,
    /// The browser is not lent yet.
    #[error("the browser has no way to the network")]
    NotLent,
    /// The system has no address left.
    #[error("no proxy can be set up: {0}")]
    Io(#[from] io::Error),
}

/// Sets fronts up for one browser's contexts. Does not keep the gateway open.
#[derive(Clone)]
pub struct Contexts(Arc<Fronts>);

struct Fronts {
    gateway: Arc<Shared>,
    room: Arc<Semaphore>,
    /// Of the last front. Addresses are not used twice: a context that is on its way out must
    /// not get into the next one's proxy.
    last: AtomicU32,
}

/// A way through a client's proxy. It ends, with its connections, when dropped.
pub struct ContextProxy {
    server: String,
    _ends_all: Option<DropGuard>,
    _room: Option<OwnedSemaphorePermit>,
}

impl ContextProxy {
    /// What Chrome must be told as `proxyServer`.
    pub fn server(&self) -> &str {
        &self.server
    }
}

impl Contexts {
    pub(super) fn new(gateway: Arc<Shared>) -> Self {
        let room = Arc::new(Semaphore::new(CONTEXT_PROXIES_MAX));
        Self(Arc::new(Fronts { gateway, room, last: AtomicU32::new(0) }))
    }

    /// Sets up a way through a proxy, in Chrome's notation: `host:port`, `http://…`,
    /// `https://…`, `socks5://…`, or `direct://` for the session's own way. Must be called
    /// within a runtime.
    ///
    /// # Errors
    ///
    /// When that is not one proxy, or there are too many of them.
    pub fn open(&self, server: &str) -> Result<ContextProxy, NoContextProxy> {
        let Fronts { gateway, room, .. } = &*self.0;
        let Some(upstream) = read(server)? else {
            let server = format!("socks5://127.0.0.1:{}", gateway.port);
            return Ok(ContextProxy { server, _ends_all: None, _room: None });
        };
        let lane = gateway.lane().ok_or(NoContextProxy::NotLent)?;
        let room = room.clone().try_acquire_owned().map_err(|_| NoContextProxy::TooMany)?;
        let (listener, address) = self.0.listen()?;
        let scheme = if upstream.scheme == Scheme::Socks5 { "socks5" } else { "http" };
        let lane = Arc::new(lane.by(upstream));
        let stop = lane.stop.clone();
        let accepting = accept(listener, gateway.clone(), Some(lane));
        let until = stop.clone();
        gateway.tasks.spawn(async move { until.run_until_cancelled_owned(accepting).await });
        let server = format!("{scheme}://{address}");
        Ok(ContextProxy { server, _ends_all: Some(stop.drop_guard()), _room: Some(room) })
    }
}

impl Fronts {
    fn listen(&self) -> io::Result<(TcpListener, SocketAddr)> {
        let mut fault = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..TRIES {
            // From 127.1.0.1 on: what is below is used by hand.
            let number = self.last.fetch_add(1, Relaxed) % 0xfd_ffff + 1;
            let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + number);
            let address = SocketAddr::from((ip, self.gateway.port));
            match StdListener::bind(address) {
                Ok(listener) => {
                    listener.set_nonblocking(true)?;
                    return Ok((TcpListener::from_std(listener)?, address));
                }
                Err(error) => fault = error,
            }
        }
        Err(fault)
    }
}

/// `None`: no proxy of the client's.
fn read(server: &str) -> Result<Option<Upstream>, NoContextProxy> {
    let server = server.trim();
    if server.contains([',', ';', '=']) {
        return Err(NoContextProxy::Several);
    }
    let lower = server.to_ascii_lowercase();
    if matches!(&*lower, "direct" | "direct://") {
        return Ok(None);
    }
    let url = match lower.strip_prefix("socks://") {
        Some(rest) => format!("socks5://{rest}"),
        None if lower.contains("://") => lower,
        None => format!("http://{lower}"),
    };
    // A URL's port 80 by http would be left out, which here means the same.
    if Url::parse(&url).is_ok_and(|url| url.port() == Some(0)) {
        return Err(NotAnUpstream::Address.into());
    }
    Ok(Some(Upstream::new(&url, "", "")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_proxy_for_everything_is_understood_as_chrome_would() {
        for (given, shown) in [
            ("proxy.example:3128", "http://proxy.example:3128"),
            ("proxy.example", "http://proxy.example:80"),
            (" HTTP://Proxy.Example:3128 ", "http://proxy.example:3128"),
            ("https://proxy.example", "https://proxy.example:443"),
            ("socks5://proxy.example", "socks5://proxy.example:1080"),
            ("socks://proxy.example:9", "socks5://proxy.example:9"),
            ("[::1]:3128", "http://[::1]:3128"),
        ] {
            assert_eq!(read(given).unwrap().unwrap().to_string(), shown, "{given}");
        }
        for direct in ["direct://", "DIRECT://", "direct"] {
            assert!(read(direct).unwrap().is_none());
        }
    }

    #[test]
    fn what_is_not_one_proxy_is_refused() {
        for several in ["http=a:80;https=b:80", "a:80,b:80", "a:80;b:80", "http=a:80"] {
            assert!(matches!(read(several), Err(NoContextProxy::Several)), "{several}");
        }
        for fault in [
            "",
            "socks4://a",
            "quic://a:443",
            "http://me:secret@a:80",
            "a:99999",
            "a:0",
            "file:///etc/passwd",
            "per-context-must-be-a-host/with/path",
        ] {
            let refused = read(fault).unwrap_err();
            assert!(matches!(refused, NoContextProxy::Upstream(_)), "{fault}: {refused:?}");
            assert!(!refused.to_string().contains("secret"));
        }
    }
}
