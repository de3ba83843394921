//! Which origins the pages of a browser have been at: where its storage may hold something.

use url::Url;

use crate::latest::Latest;

/// Origins of pages, the latest last.
#[derive(Default)]
pub(super) struct Visited {
    origins: Latest,
    /// Those that count whether a page has been there or not.
    kept: Vec<String>,
}

impl Visited {
    /// A page is at this URL.
    pub fn note(&mut self, url: &str) {
        if let Some(origin) = web_origin(url) {
            self.origins.note(origin);
        }
    }

    /// Something was stored for these without a page of a client's.
    pub fn keep(&mut self, origins: Vec<String>) {
        self.kept = origins;
    }

    pub fn all(&self) -> Vec<String> {
        self.kept.iter().chain(self.origins.iter()).cloned().collect()
    }
}

/// The origin of an `http` or `https` URL as browsers write it; `None` for any other.
pub(crate) fn web_origin(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    matches!(url.scheme(), "http" | "https").then(|| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_scheme_host_and_a_port_of_its_own() {
        for (url, origin) in [
            ("https://Example.com:443/a?b#c", Some("https://example.com")),
            ("http://localhost:8080/", Some("http://localhost:8080")),
            ("http://bücher.example/", Some("http://xn--bcher-kva.example")),
            ("about:blank", None),
            ("chrome://newtab/", None),
            ("", None),
        ] {
            assert_eq!(web_origin(url).as_deref(), origin, "{url}");
        }
    }
}
