//! Which origins may hold something, of all that a browser asked the network for.

use std::collections::BTreeSet;

use url::{Host, Url};

use crate::cdp::web_origin;

/// Origins where pages have been, and those of the same sites that may be behind `places`,
/// `host:port` each. What pages of other sites use stores nothing that a visit could find:
/// browsers keep it apart for each site that a page shows.
pub(super) fn of(visited: Vec<String>, places: &[String]) -> BTreeSet<String> {
    let sites: BTreeSet<String> = visited.iter().filter_map(|origin| site(origin)).collect();
    let near = places.iter().flat_map(|place| origins(place));
    let near = near.filter(|origin| site(origin).is_some_and(|site| sites.contains(&site)));
    let near: Vec<_> = near.collect();
    visited.into_iter().chain(near).collect()
}

/// Whoever connects to a port does not say whether it is for `http` or `https`; where nothing
/// was stored, a visit finds nothing.
fn origins(place: &str) -> Vec<String> {
    let schemes: &[&str] = match place.rsplit_once(':') {
        Some((_, "80")) => &["http"],
        Some((_, "443")) => &["https"],
        _ => &["http", "https"],
    };
    schemes.iter().filter_map(|scheme| web_origin(&format!("{scheme}://{place}/"))).collect()
}

/// What tells sites apart here: an address, or the last two labels of a name. For names below
/// a suffix of two labels, such as `co.uk`, that is too much, which costs only visits.
fn site(origin: &str) -> Option<String> {
    let url = Url::parse(origin).ok()?;
    match url.host()? {
        Host::Domain(name) => {
            let labels = name.trim_end_matches('.').rsplit('.').take(2);
            Some(labels.collect::<Vec<_>>().join("."))
        }
        address => Some(address.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_the_same_site_is_looked_at() {
        let visited = ["https://shop.example", "http://127.0.0.1:8080", "http://[::1]:9"];
        let places = [
            "login.shop.example:443",
            "shop.example:80",
            "tracker.test:443",
            "127.0.0.1:8081",
            "127.0.0.2:8081",
            "[::1]:10",
            "not a place",
        ];
        let found = of(visited.map(String::from).to_vec(), &places.map(String::from));
        let expected = [
            "https://shop.example",
            "http://127.0.0.1:8080",
            "http://[::1]:9",
            "https://login.shop.example",
            "http://shop.example",
            "http://127.0.0.1:8081",
            "https://127.0.0.1:8081",
            "http://[::1]:10",
            "https://[::1]:10",
        ];
        assert_eq!(found, BTreeSet::from(expected.map(String::from)));
    }

    #[test]
    fn without_a_visit_no_place_is_looked_at() {
        assert!(of(Vec::new(), &["shop.example:443".to_owned()]).is_empty());
    }
}
