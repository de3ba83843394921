//! The front of a client's HTTP proxy: Chrome speaks to it as to the proxy, and it passes on
//! what policy lets through. Credentials, and the proxy's questions for them, pass as they are:
//! they are between the client and its proxy.

use std::sync::{Mutex, PoisonError};

use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header::HOST};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::{
    forward::{Kept, end_to_end, whole},
    near::Near,
    route::{Far, HEADERS_MAX, Lane, RouteError, UPSTREAM_LIMIT},
    socks::{Host, Target},
    upstream::Upstream,
};
use crate::metrics::COUNTS;

/// Serves one connection of Chrome to its proxy, to its end.
pub async fn serve(lane: &Lane, upstream: &Upstream, near: Near) {
    let relay = &Relay { lane, upstream, kept: Kept::default(), tunnel: Mutex::default() };
    // What fails or is refused ends the connection without an answer, so that the browser
    // shows an error and no page of the gateway's.
    let service = service_fn(async |request| relay.answer(request).await);
    let _ = http1::Builder::new()
        .preserve_header_case(true)
        .auto_date_header(false)
        .header_read_timeout(None)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(near), service)
        .with_upgrades()
        .await;
    let tunnel = relay.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(carrying) = tunnel {
        carrying.await;
    }
}

struct Relay<'a> {
    lane: &'a Lane,
    upstream: &'a Upstream,
    kept: Kept,
    /// What the connection has become.
    tunnel: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl Relay<'_> {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Incoming>, RouteError> {
        let target = target(request.method(), request.uri()).ok_or(RouteError::NotForAProxy)?;
        let asking = async {
            self.lane.judge(&target).map_err(RouteError::Refused)?;
            self.lane.account.meter.asked_for(&target);
            if request.method() == Method::CONNECT {
                self.open(request, &target).await
            } else {
                self.ask(request, &target).await
            }
        };
        asking.await.inspect_err(|error| self.lane.failed(&target, error))
    }

    async fn ask(
        &self,
        request: Request<Incoming>,
        target: &Target,
    ) -> Result<Response<Incoming>, RouteError> {
        let (mut parts, body) = request.into_parts();
        parts.uri = whole(target, parts.uri.path_and_query())?;
        parts.headers = end_to_end(&parts.headers);
        let request = Request::from_parts(parts, body);
        self.kept.send(self.lane, self.upstream, request).await.map(passed_on)
    }

    /// A tunnel has a connection of its own, unless the proxy does not open it.
    async fn open(
        &self,
        mut request: Request<Incoming>,
        target: &Target,
    ) -> Result<Response<Incoming>, RouteError> {
        let authority = target.to_string();
        let mut asked = Request::connect(&authority).header(HOST, &authority);
        if let Some(headers) = asked.headers_mut() {
            add(headers, end_to_end(request.headers()));
        }
        let opening = async {
            let mut sender = self.lane.requests(self.upstream).await?;
            Ok::<_, RouteError>(sender.send_request(asked.body(String::new())?).await?)
        };
        let opened = timeout(UPSTREAM_LIMIT, opening).await.unwrap_or(Err(RouteError::Silent));
        let mut response = opened?;
        if !response.status().is_success() {
            return Ok(passed_on(response));
        }
        COUNTS.egress.opened.inc();
        let (near, far) = (hyper::upgrade::on(&mut request), hyper::upgrade::on(&mut response));
        let carrying = async move {
            let (Ok(near), Ok(far)) = tokio::join!(near, far) else { return };
            if let Ok(parts) = near.downcast::<TokioIo<Near>>() {
                let far: Far = Box::new(TokioIo::new(far));
                parts.io.into_inner().after(&parts.read_buf).relay(far).await;
            }
        };
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(carrying.boxed());
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().clear();
        Ok(response)
    }
}

fn add(headers: &mut HeaderMap, given: HeaderMap) {
    for (name, value) in given.iter().filter(|(name, _)| **name != HOST) {
        headers.append(name, value.clone());
    }
}

/// As the proxy said it, but for what is of its connection to us.
fn passed_on(response: Response<Incoming>) -> Response<Incoming> {
    let (mut parts, body) = response.into_parts();
    parts.version = http::Version::HTTP_11;
    parts.headers = end_to_end(&parts.headers);
    Response::from_parts(parts, body)
}

/// Where a request to a proxy is to go (RFC 9112, section 3.2). `None`: it is not one.
fn target(method: &Method, uri: &Uri) -> Option<Target> {
    let authority = uri.authority()?;
    // No credentials: Chrome sends none, and hosts must be what they look like.
    let host = Some(authority.host()).filter(|_| !authority.as_str().contains('@'))?;
    let port = match (method, uri.scheme_str()) {
        (&Method::CONNECT, None) => authority.port_u16()?,
        (&Method::CONNECT, Some(_)) => return None,
        (_, Some("http")) => match authority.port() {
            Some(port) => port.as_u16(),
            None => 80,
        },
        _ => return None,
    };
    let host = Host::parse(host)?;
    (port != 0).then_some(Target { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_to_a_proxy_names_where_it_goes() {
        for (method, uri, shown) in [
            (Method::GET, "http://example.com/a?b", Some("example.com:80")),
            (Method::POST, "http://example.com:8080/", Some("example.com:8080")),
            (Method::GET, "http://[::1]:81/", Some("[::1]:81")),
            (Method::CONNECT, "example.com:443", Some("example.com:443")),
            (Method::CONNECT, "127.0.0.1:1", Some("127.0.0.1:1")),
            (Method::CONNECT, "[::1]:1", Some("[::1]:1")),
            (Method::CONNECT, "example.com", None),
            (Method::CONNECT, "example.com:0", None),
            (Method::CONNECT, "http://example.com:443", None),
            (Method::GET, "/path", None),
            (Method::GET, "https://example.com/", None),
            (Method::GET, "ftp://example.com/", None),
            (Method::GET, "http://user@127.0.0.1/", None),
            (Method::GET, "*", None),
        ] {
            let found = target(&method, &uri.parse().unwrap()).map(|target| target.to_string());
            assert_eq!(found.as_deref(), shown, "{method} {uri}");
        }
    }
}
