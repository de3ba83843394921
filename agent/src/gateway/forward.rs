//! Plain pages by an upstream proxy for HTTP: requests for whole URLs instead of a tunnel,
//! which many proxies open to no other port than 443.
//!
//! The browser's connection is served as the site would serve it, and one connection to the
//! proxy carries what it asks. Requests and answers pass as they are, but for what belongs to
//! one connection only (RFC 9110, section 7.6.1).

use http::{
    HeaderMap, HeaderName, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE},
    uri::PathAndQuery,
};
use hyper::{
    body::Incoming, client::conn::http1::SendRequest, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{sync::Mutex, time::timeout};

use super::{
    near::Near,
    route::{HEADERS_MAX, Lane, RouteError, UPSTREAM_LIMIT},
    socks::Target,
    upstream::Upstream,
};
use crate::metrics::COUNTS;

/// Headers of one connection, besides those that `Connection` names. Those about credentials
/// are the proxy's and who asks it.
const OF_A_CONNECTION: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Serves a connection of the browser to a plain site, to its end.
pub async fn serve(lane: &Lane, upstream: &Upstream, near: Near, target: &Target) {
    let forward = &Forward { lane, upstream, target, kept: Kept::default() };
    // A fault ends the connection without an answer: to the browser the navigation failed.
    let service = service_fn(async |request| {
        forward.ask(request).await.inspect_err(|error| lane.failed(target, error))
    });
    let _ = http1::Builder::new()
        .preserve_header_case(true)
        .auto_date_header(false)
        .header_read_timeout(None)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(near), service)
        .await;
}

/// The requests of one connection of the browser.
struct Forward<'a> {
    lane: &'a Lane,
    upstream: &'a Upstream,
    target: &'a Target,
    kept: Kept,
}

impl Forward<'_> {
    async fn ask(&self, request: Request<Incoming>) -> Result<Response<Incoming>, RouteError> {
        let request = self.for_proxy(request)?;
        for_browser(self.kept.send(self.lane, self.upstream, request).await?)
    }

    /// Asks for the whole URL, with the session's credentials.
    fn for_proxy(&self, request: Request<Incoming>) -> Result<Request<Incoming>, http::Error> {
        let (mut parts, body) = request.into_parts();
        parts.uri = whole(self.target, parts.uri.path_and_query())?;
        parts.version = Version::HTTP_11;
        parts.headers = end_to_end(&parts.headers);
        parts.headers.remove(PROXY_AUTHORIZATION);
        if let Some(authorization) = self.upstream.authorization() {
            parts.headers.insert(PROXY_AUTHORIZATION, authorization);
        }
        Ok(Request::from_parts(parts, body))
    }
}

/// The connection to an upstream proxy, between requests of one connection of the browser.
/// Chrome asks one thing after the other.
#[derive(Default)]
pub struct Kept(Mutex<Option<SendRequest<Incoming>>>);

impl Kept {
    /// Sends a request by the connection that there is, or by a new one.
    pub async fn send(
        &self,
        lane: &Lane,
        upstream: &Upstream,
        mut request: Request<Incoming>,
    ) -> Result<Response<Incoming>, RouteError> {
        let mut kept = self.0.lock().await;
        if let Some(mut sender) = kept.take()
            && sender.ready().await.is_ok()
        {
            match sender.try_send_request(request).await {
                Ok(response) => {
                    *kept = Some(sender);
                    return Ok(response);
                }
                // Closed by the proxy meanwhile: nothing of the request was sent.
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(failed.into_error().into()),
                },
            }
        }
        let opening = lane.requests(upstream);
        let mut sender =
            timeout(UPSTREAM_LIMIT, opening).await.unwrap_or(Err(RouteError::Silent))?;
        COUNTS.egress.opened.inc();
        let response = sender.send_request(request).await?;
        *kept = Some(sender);
        Ok(response)
    }
}

/// A page must not see that it came by a proxy, nor a proxy's question for credentials.
fn for_browser(response: Response<Incoming>) -> Result<Response<Incoming>, RouteError> {
    if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        return Err(RouteError::Credentials);
    }
    let (mut parts, body) = response.into_parts();
    parts.version = Version::HTTP_11;
    parts.headers = end_to_end(&parts.headers);
    parts.headers.remove(PROXY_AUTHENTICATE);
    Ok(Response::from_parts(parts, body))
}

/// The URL of a path on a plain site. The host is the one that was connected to.
pub fn whole(target: &Target, path: Option<&PathAndQuery>) -> Result<Uri, http::Error> {
    let authority = target.to_string();
    let authority = authority.strip_suffix(":80").unwrap_or(&authority);
    let path = path.map_or("/", PathAndQuery::as_str);
    Uri::builder().scheme("http").authority(authority).path_and_query(path).build()
}

/// The headers that are not of one connection only, in their order.
pub fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<HeaderName> = named
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if !OF_A_CONNECTION.contains(name) && !named.contains(name) {
            kept.append(name, value.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::socks::Host;

    #[test]
    fn a_proxy_is_asked_for_the_whole_url() {
        for (host, port, path, url) in [
            ("example.com", 80, "/a?b=c", "http://example.com/a?b=c"),
            ("example.com", 8080, "/", "http://example.com:8080/"),
            ("example.com", 180, "/", "http://example.com:180/"),
            ("::1", 80, "/", "http://[::1]/"),
            ("127.0.0.1", 8000, "/%20", "http://127.0.0.1:8000/%20"),
        ] {
            let target = Target { host: Host::parse(host).unwrap(), port };
            assert_eq!(whole(&target, Some(&path.parse().unwrap())).unwrap(), url);
        }
    }

    #[test]
    fn what_belongs_to_one_connection_stays_there() {
        let given = [
            ("host", "example.com"),
            ("connection", "keep-alive, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("cookie", "a=b"),
            ("cookie", "c=d"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("proxy-connection", "keep-alive"),
            ("content-length", "3"),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(name, value.parse().unwrap());
        }
        let left = end_to_end(&headers);
        let left: Vec<_> =
            left.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(
            left,
            [
                ("host", "example.com"),
                ("cookie", "a=b"),
                ("cookie", "c=d"),
                ("content-length", "3")
            ]
        );
    }
}
