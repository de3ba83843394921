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
use proto::egress::Egress;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::rustls::{self, pki_types::ServerName};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Span, debug, info, warn};

use super::{
    Gateways,
    denials::{Denials, Noted},
    dial::DialError,
    near::Meter,
    policy::Refusal,
    socks::{self, Denial, Host, Reply, Target},
    upstream::{Scheme, Upstream},
};
use crate::{metrics::COUNTS, tls};

/// How long an upstream proxy may take to open a tunnel: under Chrome's own 30 s.
pub const UPSTREAM_LIMIT: Duration = Duration::from_secs(25);

/// Headers of one message. A page's own answers have fewer.
pub const HEADERS_MAX: usize = 256;

/// The other end of a connection: a site, or the proxy on the way to it.
pub type Far = Box<dyn Stream>;

/// A stream of bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where a session's traffic is to go.
#[derive(Clone, Default, Debug)]
pub struct Way {
    /// Its proxy; `None`: straight to the sites.
    pub upstream: Option<Upstream>,
    /// Narrows what the server's policy lets through.
    pub egress: Egress,
}

/// What a session's gateway counts, from its lending on. Clones share it.
#[derive(Clone, Default, Debug)]
pub struct Account {
    /// What passed.
    pub meter: Meter,
    /// What did not.
    pub denials: Denials,
}

/// Why a connection of a browser came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// Before anybody was asked for it.
    #[error("it is refused by policy: {0}")]
    Refused(Refusal),
    /// A browser knows better.
    #[error("the request is not for a proxy")]
    NotForAProxy,
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
            Self::Refused(_) => Reply::NotAllowed,
            _ => Reply::Failed,
        }
    }
}

/// The way of one session's connections, or of one of its contexts with a proxy of its own.
pub struct Lane {
    gateways: Gateways,
    egress: Egress,
    upstream: Option<Upstream>,
    /// The upstream proxy is a client's: Chrome speaks to it by us, and brings credentials.
    is_clients: bool,
    pub account: Account,
    /// The browser's end, or the context's.
    pub stop: CancellationToken,
    /// The session's.
    pub span: Span,
    tasks: TaskTracker,
    /// The operator has heard that the upstream proxy fails.
    told: AtomicBool,
}

impl Lane {
    pub fn new(gateways: Gateways, way: Way, stop: &CancellationToken, tasks: TaskTracker) -> Self {
        Self {
            account: Account { meter: gateways.meter(), ..Account::default() },
            gateways,
            egress: way.egress,
            upstream: way.upstream,
            is_clients: false,
            stop: stop.child_token(),
            span: Span::current(),
            tasks,
            told: AtomicBool::new(false),
        }
    }

    /// The same session's way by a proxy of the client's.
    pub fn by(&self, upstream: Upstream) -> Self {
        Self {
            gateways: self.gateways.clone(),
            egress: self.egress.clone(),
            upstream: Some(upstream),
            is_clients: true,
            account: self.account.clone(),
            stop: self.stop.child_token(),
            span: self.span.clone(),
            tasks: self.tasks.clone(),
            told: AtomicBool::new(false),
        }
    }

    /// The client's proxy, if Chrome speaks to it by HTTP.
    pub fn fronted(&self) -> Option<&Upstream> {
        let for_http = |upstream: &&Upstream| upstream.scheme != Scheme::Socks5;
        self.upstream.as_ref().filter(|_| self.is_clients).filter(for_http)
    }

    /// Judges what can be judged of a target without resolving its name.
    pub fn judge(&self, target: &Target) -> Result<(), Refusal> {
        self.gateways.judge(target, &self.egress)
    }

    /// The proxy that may have to be asked for plain pages as such: one for HTTP, except where
    /// TLS is sure to be spoken. Many of them open tunnels to no other port than 443.
    pub fn asked_for_pages(&self, target: &Target) -> Option<&Upstream> {
        let for_http = |upstream: &&Upstream| upstream.scheme != Scheme::Socks5;
        self.upstream.as_ref().filter(|_| target.port != 443).filter(for_http)
    }

    /// Opens a connection to a site, whatever is on the way.
    pub async fn connect(&self, target: &Target) -> Result<Far, RouteError> {
        let far = self.open(target).await?;
        COUNTS.egress.opened.inc();
        Ok(far)
    }

    async fn open(&self, target: &Target) -> Result<Far, RouteError> {
        let Some(upstream) = &self.upstream else {
            let dialled = self.gateways.dial(target, &self.egress).await;
            return Ok(Box::new(dialled.map_err(RouteError::Site)?));
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
    /// once, of each thing that was refused once, and of sites that cannot be reached never:
    /// pages ask for many.
    pub fn failed(&self, target: &Target, error: &RouteError) {
        match error {
            RouteError::Refused(refusal) | RouteError::Site(DialError::Refused(refusal)) => {
                return self.refused(target, *refusal);
            }
            RouteError::Unreachable(DialError::Refused(refusal)) => {
                if let Some(upstream) = &self.upstream {
                    self.refused(&upstream.proxy, *refusal);
                }
            }
            _ => {
                COUNTS.egress.failed.inc();
            }
        }
        match &self.upstream {
            Some(upstream) if !self.told.swap(true, Relaxed) => {
                warn!(%upstream, %error, "the session's upstream proxy fails");
            }
            _ => debug!(%error, "a connection of the browser came to nothing"),
        }
    }

    fn refused(&self, target: &Target, rule: Refusal) {
        let Target { host, port } = target;
        COUNTS.egress.refused.inc();
        match self.account.denials.note(target, rule) {
            Noted::New => info!(%host, port, %rule, "the browser may not connect"),
            Noted::Full => {
                info!("the browser may not connect to more than is listed; it is only counted");
            }
            Noted::Again => {}
        }
    }

    /// Connects to an upstream proxy. One that came with the session need not be among what
    /// the session allows its pages.
    async fn reach(&self, upstream: &Upstream) -> Result<Far, RouteError> {
        let all = Egress::default();
        let egress = if self.is_clients { &self.egress } else { &all };
        let dialled = self.gateways.dial(&upstream.proxy, egress).await;
        let stream = dialled.map_err(RouteError::Unreachable)?;
        if upstream.scheme != Scheme::Https {
            return Ok(Box::new(stream));
        }
        let name = match &upstream.proxy.host {
            Host::Name(name) => ServerName::try_from(name.clone())
                .map_err(|error| RouteError::Tls(io::Error::other(error)))?,
            Host::Address(address) => ServerName::IpAddress((*address).into()),
        };
        let tls = tls::connector().map_err(RouteError::NoTls)?;
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
