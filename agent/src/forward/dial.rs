//! A connection to another agent: HTTP/1.1, over TLS where its address says so.

use std::{io, time::Duration};

use axum::body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::rustls::{self, pki_types::ServerName};
use url::Url;

use crate::tls;

/// How long a connection may take to come about, with TLS and all.
const DIAL_LIMIT: Duration = Duration::from_secs(2);

/// Where another agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    tls: bool,
    host: String,
    port: u16,
    authority: String,
}

impl Address {
    /// From `ws://` or `wss://`, a host and perhaps a port, and nothing more.
    pub fn parse(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        let tls = match url.scheme() {
            "ws" => false,
            "wss" => true,
            _ => return None,
        };
        let bare = url.path() == "/" && url.query().is_none() && url.username().is_empty();
        let host = url.host_str().filter(|_| bare)?;
        let authority = url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
        let host = host.trim_matches(['[', ']']).to_owned();
        Some(Self { tls, host, port: url.port_or_known_default()?, authority })
    }

    /// As in a `Host` header.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("no connection: {0}")]
    Connect(#[from] io::Error),
    #[error("no answer within {} s", DIAL_LIMIT.as_secs())]
    TimedOut,
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
}

/// What serves a connection, to its end.
pub(super) type Serving = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Opens a connection. It must be served for as long as anything is sent over it.
pub(super) async fn open(address: &Address) -> Result<(SendRequest<Body>, Serving), Error> {
    let opening = async {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        stream.set_nodelay(true)?;
        if !address.tls {
            return http(stream).await;
        }
        let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
        http(tls::connector()?.connect(name, stream).await?).await
    };
    timeout(DIAL_LIMIT, opening).await.map_err(|_| Error::TimedOut)?
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<(SendRequest<Body>, Serving), Error> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let serving = async move {
        // What goes wrong is seen by whoever waits for the answer.
        let _ = connection.with_upgrades().await;
    };
    Ok((sender, Box::pin(serving)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port() {
        let parse = |url| Address::parse(url).map(|a| (a.tls, a.host, a.port, a.authority));
        let found = |tls, host: &str, port, authority: &str| {
            Some((tls, host.to_owned(), port, authority.to_owned()))
        };
        assert_eq!(parse("ws://a.test:8082"), found(false, "a.test", 8082, "a.test:8082"));
        assert_eq!(parse("wss://a.test"), found(true, "a.test", 443, "a.test"));
        assert_eq!(parse("ws://[::1]:7"), found(false, "::1", 7, "[::1]:7"));
        for bad in ["http://a", "ws://", "ws://a/b", "ws://a?b", "ws://u@a", "", "a:1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
