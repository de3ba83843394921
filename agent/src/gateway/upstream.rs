//! A proxy that a session's traffic goes through.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderValue;
use url::Url;

use super::socks::{Host, TEXT_MAX, Target};

/// How a proxy is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// HTTP over TCP.
    Http,
    /// HTTP over TLS.
    Https,
    /// SOCKS5, which also resolves the names.
    Socks5,
}

/// A proxy that a session's traffic goes through. Nothing shows its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Upstream {
    pub(super) scheme: Scheme,
    pub(super) proxy: Target,
    /// User name and password.
    pub(super) credentials: Option<(String, String)>,
}

/// Why something is no proxy. Never repeats what was given: there may be a secret in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotAnUpstream {
    /// Not a URL, or one with more than a scheme, a host and a port.
    #[error("the proxy's address is not of the form scheme://host:port")]
    Address,
    /// Another scheme.
    #[error("the proxy's scheme is none of http, https and socks5")]
    Scheme,
    /// Longer than the protocol allows.
    #[error("a user name and a password for socks5 have {TEXT_MAX} bytes at most")]
    Credentials,
}

impl Upstream {
    /// From the proxy's address, `scheme://host:port`, and its credentials; an empty user
    /// name stands for none.
    ///
    /// # Errors
    ///
    /// When that is no proxy.
    pub fn new(url: &str, username: &str, password: &str) -> Result<Self, NotAnUpstream> {
        let url = Url::parse(url).map_err(|_| NotAnUpstream::Address)?;
        let (scheme, port) = match url.scheme() {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            "socks5" => (Scheme::Socks5, 1080),
            _ => return Err(NotAnUpstream::Scheme),
        };
        let bare = url.username().is_empty()
            && url.password().is_none()
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none();
        let host = url.host_str().and_then(Host::parse).filter(|_| bare);
        let port = url.port().unwrap_or(port);
        let proxy = Target { host: host.ok_or(NotAnUpstream::Address)?, port };
        if scheme == Scheme::Socks5 && username.len().max(password.len()) > TEXT_MAX {
            return Err(NotAnUpstream::Credentials);
        }
        let credentials =
            (!username.is_empty()).then(|| (username.to_owned(), password.to_owned()));
        Ok(Self { scheme, proxy, credentials })
    }

    /// The credentials as HTTP proxies want them (RFC 7617).
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        let (username, password) = self.credentials.as_ref()?;
        let basic = format!("Basic {}", STANDARD.encode(format!("{username}:{password}")));
        let mut value = HeaderValue::from_str(&basic).ok()?; // base64 always is one
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}", self.proxy)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upstream").field(&format_args!("{self}")).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_scheme_a_host_and_a_port() {
        for (given, shown) in [
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            ("http://proxy.example/", "http://proxy.example:80"),
            ("https://proxy.example", "https://proxy.example:443"),
            ("https://PROXY.example:8443", "https://proxy.example:8443"),
            ("socks5://127.0.0.1", "socks5://127.0.0.1:1080"),
            ("socks5://[::1]:1081", "socks5://[::1]:1081"),
        ] {
            assert_eq!(Upstream::new(given, "", "").unwrap().to_string(), shown);
        }
        for (given, fault) in [
            ("proxy.example:3128", NotAnUpstream::Scheme),
            ("ftp://proxy.example", NotAnUpstream::Scheme),
            ("socks4://proxy.example", NotAnUpstream::Scheme),
            ("", NotAnUpstream::Address),
            ("socks5:proxy.example", NotAnUpstream::Address),
            ("http://me@proxy.example", NotAnUpstream::Address),
            ("http://me:secret@proxy.example", NotAnUpstream::Address),
            ("http://proxy.example/path", NotAnUpstream::Address),
            ("http://proxy.example?query", NotAnUpstream::Address),
            ("http://proxy.example#fragment", NotAnUpstream::Address),
        ] {
            assert_eq!(Upstream::new(given, "", ""), Err(fault), "{given}");
        }
        let long = "x".repeat(256);
        let socks = Upstream::new("socks5://proxy.example", "me", &long);
        assert_eq!(socks, Err(NotAnUpstream::Credentials));
        assert!(Upstream::new("http://proxy.example", "me", &long).is_ok());
    }

    #[test]
    fn nothing_shows_the_credentials() {
        let upstream = Upstream::new("http://proxy.example:1", "mallory", "s3cret").unwrap();
        let authorization = upstream.authorization().unwrap();
        assert_eq!(authorization, "Basic bWFsbG9yeTpzM2NyZXQ=");
        let shown = format!("{upstream} {upstream:?} {authorization:?}");
        for secret in ["mallory", "s3cret", "bWFsbG9yeTpzM2NyZXQ="] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
