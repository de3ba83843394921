//! Which web pages may talk to the data plane.
//!
//! A browser says which page makes a request (`Origin`, RFC 6454); other clients say nothing,
//! and those need no permission: the connect token is theirs to show. A page that got hold of
//! a token is still refused unless the operator knows its origin.

use http::{HeaderMap, header};
use url::{Host, Url};

/// Whether a request may come from where it says it does. `own` is the data plane's URL.
pub fn is_allowed(headers: &HeaderMap, allowed: &[String], own: &str) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    if origins.next().is_some() {
        return false;
    }
    let listed = |allowed: &String| allowed == "*" || allowed.eq_ignore_ascii_case(origin.trim());
    allowed.iter().any(listed) || is_own(origin, headers, own)
}

/// Whether the origin is the host that is asked. Some clients that are no pages say so, among
/// them Python's websocket-client. A name that a stranger's DNS made ours does not count:
/// only an address, `localhost` and the name that we are known by.
fn is_own(origin: &str, headers: &HeaderMap, own: &str) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let (Ok(origin), Some(host), Ok(own)) = (Url::parse(origin), host, Url::parse(own)) else {
        return false;
    };
    let Ok(asked) = Url::parse(&format!("{}://{host}", origin.scheme())) else { return false };
    let same = asked.host() == origin.host()
        && asked.port_or_known_default() == origin.port_or_known_default();
    let is_web = matches!(origin.scheme(), "http" | "https");
    same && is_web
        && match origin.host() {
            Some(Host::Domain(name)) => name == "localhost" || own.host_str() == Some(name),
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
            None => false,
        }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn judged(origins: &[&'static str], host: &'static str, allowed: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        for origin in origins {
            headers.append(header::ORIGIN, HeaderValue::from_static(origin));
        }
        let allowed: Vec<_> = allowed.iter().map(ToString::to_string).collect();
        is_allowed(&headers, &allowed, "wss://agent.example")
    }

    #[test]
    fn who_is_no_page_needs_no_permission() {
        assert!(judged(&[], "agent.example", &[]));
    }

    #[test]
    fn a_page_needs_one() {
        let tools = "https://tools.example";
        assert!(!judged(&[tools], "agent.example", &[]));
        assert!(judged(&[tools], "agent.example", &["https://other.example", tools]));
        assert!(judged(&[tools], "agent.example", &["*"]));
        assert!(judged(&["null"], "agent.example", &["*"]));
        for near in [
            "https://tools.example.evil.example",
            "http://tools.example",
            "https://tools.example:444",
            "null",
            "",
        ] {
            assert!(!judged(&[near], "agent.example", &[tools]), "{near}");
        }
        assert!(!judged(&[tools, "https://evil.example"], "agent.example", &[tools]));
    }

    #[test]
    fn the_host_that_is_asked_may_be_its_own_origin() {
        assert!(judged(&["http://127.0.0.1:8080"], "127.0.0.1:8080", &[]));
        assert!(judged(&["http://[::1]:8080"], "[::1]:8080", &[]));
        assert!(judged(&["http://localhost:8080"], "localhost:8080", &[]));
        assert!(judged(&["https://agent.example"], "agent.example", &[]));
        assert!(!judged(&["http://127.0.0.1:8081"], "127.0.0.1:8080", &[]));
    }

    #[test]
    fn a_name_that_strangers_point_at_us_is_none() {
        assert!(!judged(&["http://evil.example:8080"], "evil.example:8080", &[]));
    }
}
