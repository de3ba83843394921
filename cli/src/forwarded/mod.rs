//! Where a request comes from and where it was sent, when proxies stand before this server.
//!
//! `Forwarded` (RFC 7239) and `X-Forwarded-…` are believed only of proxies that the operator
//! names, from everybody else they are ignored: whoever could set them would steer where
//! connect URLs lead, and hide from the audit. Each proxy adds to the right; so they are read
//! from there, and what is left of the first address that is no trusted proxy is a caller's
//! own invention.

mod headers;

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    middleware::{self, Next},
    response::Response,
};
use clap::Args;
use ipnet::IpNet;
use proto::reached::ReachedAt;

use self::headers::Said;
use crate::serve::Local;

/// The flags of proxies.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Options {
    /// Addresses of the proxies before this server, such as 10.0.0.0/8,192.0.2.7
    ///
    /// What these say in `Forwarded` or `X-Forwarded-For`, `-Proto`, `-Host` and `-Port` counts:
    /// the audit names the client that they name, and connect URLs lead to the host that they
    /// were asked for.
    #[arg(
        long,
        env = "VENTUS_TRUSTED_PROXIES",
        value_name = "CIDR",
        value_delimiter = ',',
        value_parser = block
    )]
    pub trusted_proxies: Vec<IpNet>,
}

/// Reads a block of addresses, or one.
fn block(text: &str) -> Result<IpNet, &'static str> {
    let one = || IpAddr::from_str(text).map(IpNet::from);
    text.trim().parse().or_else(|_| one()).map_err(|_| "not addresses like 10.0.0.0/8 or 192.0.2.7")
}

/// What is known of the way to this server.
struct Way {
    trusted: Vec<IpNet>,
    /// Whether this server listens on any address and has no other name: then callers reach it
    /// where their connection ends.
    any_address: bool,
}

/// The routes, with requests that say where they come from and were sent.
pub fn told(routes: Router, options: &Options, any_address: bool) -> Router {
    let way = Way { trusted: options.trusted_proxies.clone(), any_address };
    routes.layer(middleware::from_fn_with_state(Arc::new(way), tell))
}

async fn tell(State(way): State<Arc<Way>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    if let Some(said) = peer.and_then(|peer| way.said(peer, &request)) {
        if let Some(client) = said.client {
            request.extensions_mut().insert(ConnectInfo(SocketAddr::new(client, 0)));
        }
        if let Some(at) = said.at {
            request.extensions_mut().insert(at);
        }
    } else if let Some(at) = way.here(&request) {
        request.extensions_mut().insert(at);
    }
    next.run(request).await
}

impl Way {
    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|block| block.contains(&address))
    }

    /// What a trusted proxy says of a request; `None` if it is not from one.
    fn said(&self, peer: IpAddr, request: &Request) -> Option<Said> {
        let trusts = |address| self.trusts(address);
        self.trusts(peer).then(|| headers::read(request.headers(), trusts))
    }

    /// Where the connection ends, if that is all that is known.
    fn here(&self, request: &Request) -> Option<ReachedAt> {
        let Local(address) = request.extensions().get().filter(|_| self.any_address)?;
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        Some(ReachedAt::new(false, &address.to_string().parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use tower::ServiceExt;

    use super::*;

    async fn seen(request: Request) -> String {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().unwrap().0.ip();
        let at = ReachedAt::of(request.extensions()).map(ReachedAt::data_plane_url);
        format!("{peer} {}", at.unwrap_or_default())
    }

    async fn ask(any_address: bool, peer: &str, headers: &[(&str, &str)]) -> String {
        let trusted = ["10.0.0.0/8", "127.0.0.1"].map(|text| block(text).unwrap()).to_vec();
        let options = Options { trusted_proxies: trusted };
        let routes = told(Router::new().route("/", get(seen)), &options, any_address);
        let mut request = Request::new(Body::empty());
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
        request.extensions_mut().insert(Local("192.0.2.80:8080".parse().unwrap()));
        let answer = routes.oneshot(request).await.unwrap();
        let body = axum::body::to_bytes(answer.into_body(), 1_000).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap().trim_end().to_owned()
    }

    const FORWARDED: [(&str, &str); 1] =
        [("forwarded", "for=203.0.113.5;proto=https;host=v.example")];
    const OLDER: [(&str, &str); 3] = [
        ("x-forwarded-for", "203.0.113.5"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "v.example"),
    ];

    #[tokio::test]
    async fn a_trusted_proxy_says_where_a_request_comes_from_and_was_sent() {
        for headers in [&FORWARDED[..], &OLDER[..]] {
            for proxy in ["10.1.2.3", "127.0.0.1", "::ffff:10.1.2.3"] {
                assert_eq!(ask(false, proxy, headers).await, "203.0.113.5 wss://v.example");
            }
        }
    }

    #[tokio::test]
    async fn nobody_else_does() {
        for headers in [&FORWARDED[..], &OLDER[..]] {
            for stranger in ["203.0.113.9", "::1", "192.0.2.80"] {
                assert_eq!(ask(false, stranger, headers).await, stranger);
            }
            // Then a connection itself says where it ends, if nothing else is known.
            assert_eq!(ask(true, "203.0.113.9", headers).await, "203.0.113.9 ws://192.0.2.80:8080");
        }
    }

    #[test]
    fn blocks_and_single_addresses_are_read() {
        assert_eq!(block("192.0.2.7").unwrap().to_string(), "192.0.2.7/32");
        assert_eq!(block(" 10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        for bad in ["", "10.0.0.0/33", "proxy.example"] {
            assert!(block(bad).is_err(), "{bad}");
        }
    }
}
