//! Where a request was sent. URLs that are given out must lead there again, and proxies may
//! stand between: whoever serves requests says it in their extensions, and only where it is
//! sure. What a caller says of itself never comes here.

use std::sync::Arc;

use http::{Extensions, uri::Authority};

/// Scheme and authority that a caller reached this server at, such as `https://v.example`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReachedAt(Arc<str>);

impl ReachedAt {
    /// By `https`, or by `http`.
    pub fn new(is_tls: bool, authority: &Authority) -> Self {
        let scheme = if is_tls { "https" } else { "http" };
        Self(format!("{scheme}://{authority}").into())
    }

    /// Where a request was sent, if that is known.
    pub fn of(request: &Extensions) -> Option<&Self> {
        request.get()
    }

    /// The data plane on the same host: `ws://…` or `wss://…`, without a trailing slash.
    pub fn data_plane_url(&self) -> String {
        self.0.replacen("http", "ws", 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_plane_is_on_the_same_host() {
        let authority = "v.example:8443".parse().unwrap();
        assert_eq!(ReachedAt::new(true, &authority).data_plane_url(), "wss://v.example:8443");
        assert_eq!(ReachedAt::new(false, &authority).data_plane_url(), "ws://v.example:8443");
    }
}
