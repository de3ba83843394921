//! Where the connections of a session go: straight to the site, or by its upstream proxy.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use http::{
    Request, StatusCode,
    header::{HOST, PROXY_AUTHORIZATION},
};
use hyper::{body::Body, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::rustls::{self, pki_types::ServerName};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Span, debug, warn};

use super::{
    Gateways,
    dial::DialError,
    near::Meter,
    socks::{self, Denial, Host, Reply, Target},
    upstream::{Scheme, Upstream},
};

/// How long an upstream proxy may take to open a tunnel: under Chrome's own 30 s.
pub const UPSTREAM_LIMIT: Duration = Duration::from_secs(25);

/// Headers of one message. A page's own answers have fewer.
pub const HEADERS_MAX: usize = 256;

/// The other end of a connection: a site, or the proxy on the way to it.
pub type Far = Box<dyn Stream>;

/// A stream of bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why a connection of a browser came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The site.
    #[error(transparent)]
    Site(DialError),
    /// It cannot be connected to.
    #[error("the upstream proxy cannot be reached: {0}")]
    Unreachable(DialError),
    /// Its certificate is not trusted, or it does not speak TLS.
    #[error("there is no TLS with the upstream proxy: {0}")]
    Tls(io::Error),
    /// No certificates on this machine, say.
    #[error("there is no TLS on this machine: {0}")]
    NoTls(rustls::Error),
    /// Or it wants some, and the session has none.
    #[error("the upstream proxy does not accept the session's credentials")]
    Credentials,
    /// It opens no tunnel.
    #[error("the upstream proxy answers {0} when asked for a tunnel")]
    NoTunnel(StatusCode),
    /// The same with SOCKS5.
    #[error("the upstream proxy opens no connection: {0}")]
    Socks(#[from] Denial),
    /// It broke off, or did not speak HTTP.
    #[error("the upstream proxy does not answer as one: {0}")]
    Http(#[from] hyper::Error),
    /// It took the connection and said nothing.
    #[error("the upstream proxy did not answer within {} s", UPSTREAM_LIMIT.as_secs())]
    Silent,
    /// A name that is none where it must be asked for.
    #[error("the host's name cannot be asked for: {0}")]
    Name(#[from] http::Error),
}

impl RouteError {
    pub fn reply(&self) -> Reply {
        match self {
            Self::Site(error) => error.reply(),
            _ => Reply::Failed,
        }
    }
}

/// The way of one session's connections.
pub struct Lane {
    gateways: Gateways,
    upstream: Option<Upstream>,
    pub meter: Meter,
    /// The browser's end.
    pub stop: CancellationToken,
    /// The session's.
    pub span: Span,
    tasks: TaskTracker,
    /// The operator has heard that the upstream proxy fails.
    told: AtomicBool,
}

impl Lane {
    pub fn new(
        gateways: Gateways,
        upstream: Option<Upstream>,
        stop: &CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            gateways,
            upstream,
            meter: Meter::default(),
            stop: stop.child_token(),
            span: Span::current(),
            tasks,
            told: AtomicBool::new(false),
        }
    }

    /// The proxy that may have to be asked for plain pages as such: one for HTTP, except where
    /// TLS is sure to be spoken. Many of them open tunnels to no other port than 443.
    pub fn asked_for_pages(&self, target: &Target) -> Option<&Upstream> {
        let for_http = |upstream: &&Upstream| upstream.scheme != Scheme::Socks5;
        self.upstream.as_ref().filter(|_| target.port != 443).filter(for_http)
    }

    /// Opens a connection to a site, whatever is on the way.
    pub async fn connect(&self, target: &Target) -> Result<Far, RouteError> {
        let Some(upstream) = &self.upstream else {
            return Ok(Box::new(self.gateways.dial(target).await.map_err(RouteError::Site)?));
        };
        let connecting = async {
            match upstream.scheme {
                Scheme::Socks5 => self.socks(upstream, target).await,
                Scheme::Http | Scheme::Https => self.tunnel(upstream, target).await,
            }
        };
        timeout(UPSTREAM_LIMIT, connecting).await.unwrap_or(Err(RouteError::Silent))
    }

    /// A connection to an upstream proxy for HTTP, over which requests are sent. It ends with
    /// the sender, and with the browser.
    pub async fn requests<B>(
        &self,
        upstream: &Upstream,
    ) -> Result<http1::SendRequest<B>, RouteError>
    where
        B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let stream = TokioIo::new(self.reach(upstream).await?);
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .title_case_headers(true) // our own: some proxies know them in no other form
            .max_headers(HEADERS_MAX)
            .handshake(stream)
            .await?;
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                _ = connection.with_upgrades() => {} // whoever waits for an answer hears why
                () = stop.cancelled_owned() => {}
            }
        });
        Ok(sender)
    }

    /// To be called with what a connection came to. The operator hears of a failing proxy
    /// once, and of sites that cannot be reached never: pages ask for many.
    pub fn failed(&self, error: &RouteError) {
        match &self.upstream {
            Some(upstream) if !self.told.swap(true, Relaxed) => {
                warn!(%upstream, %error, "the session's upstream proxy fails");
            }
            _ => debug!(%error, "a connection of the browser came to nothing"),
        }
    }

    /// Connects to an upstream proxy.
    async fn reach(&self, upstream: &Upstream) -> Result<Far, RouteError> {
        let stream = self.gateways.dial(&upstream.proxy).await.map_err(RouteError::Unreachable)?;
        if upstream.scheme != Scheme::Https {
            return Ok(Box::new(stream));
        }
        let name = match &upstream.proxy.host {
            Host::Name(name) => ServerName::try_from(name.clone())
                .map_err(|error| RouteError::Tls(io::Error::other(error)))?,
            Host::Address(address) => ServerName::IpAddress((*address).into()),
        };
        let tls = self.gateways.tls().map_err(RouteError::NoTls)?;
        Ok(Box::new(tls.connect(name, stream).await.map_err(RouteError::Tls)?))
    }

    /// CONNECT (RFC 9110, section 9.3.6).
    async fn tunnel(&self, upstream: &Upstream, target: &Target) -> Result<Far, RouteError> {
        let mut sender = self.requests(upstream).await?;
        let authority = target.to_string();
        let mut request = Request::connect(&authority).header(HOST, &authority);
        if let Some(authorization) = upstream.authorization() {
            request = request.header(PROXY_AUTHORIZATION, authorization);
        }
        let response = sender.send_request(request.body(String::new())?).await?;
        match response.status() {
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(RouteError::Credentials),
            status if status.is_success() => {
                Ok(Box::new(TokioIo::new(hyper::upgrade::on(response).await?)))
            }
            status => Err(RouteError::NoTunnel(status)),
        }
    }

    async fn socks(&self, upstream: &Upstream, target: &Target) -> Result<Far, RouteError> {
        let mut stream = self.reach(upstream).await?;
        socks::ask(&mut stream, upstream.credentials.as_ref(), target).await?;
        Ok(stream)
    }
}
