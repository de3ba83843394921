//! Reads the headers that proxies add.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, header, uri::Authority};
use proto::reached::ReachedAt;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// What trusted proxies say of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The first address that is no trusted proxy's, from the right; `None`: not told.
    pub client: Option<IpAddr>,
    /// Where that client sent its request; `None`: not told, or not in full.
    pub at: Option<ReachedAt>,
}

/// What one proxy says of whoever connected to it.
#[derive(Debug, Default)]
struct Hop {
    address: Option<IpAddr>,
    proto: Option<String>,
    host: Option<String>,
}

/// Reads `Forwarded`, or where there is none `X-Forwarded-…`.
pub fn read(headers: &HeaderMap, trusts: impl Fn(IpAddr) -> bool) -> Said {
    let hops = if headers.contains_key(header::FORWARDED) {
        forwarded(headers).unwrap_or_default()
    } else {
        x_forwarded(headers)
    };
    // Of a chain of trusted proxies it is the outermost that the client talked to.
    let outermost = hops.iter().rev().find(|hop| !hop.address.is_some_and(&trusts));
    let Some(hop) = outermost.or(hops.first()) else { return Said::default() };
    Said { client: hop.address, at: hop.at() }
}

impl Hop {
    fn at(&self) -> Option<ReachedAt> {
        let is_tls = match self.proto.as_deref()?.to_ascii_lowercase().as_str() {
            "https" | "wss" => true,
            "http" | "ws" => false,
            _ => return None,
        };
        let authority: Authority = self.host.as_deref()?.parse().ok()?;
        let is_plain = !authority.host().is_empty() && !authority.as_str().contains('@');
        is_plain.then(|| ReachedAt::new(is_tls, &authority))
    }
}

/// All elements of all `Forwarded` headers, in their order; `None` if they are not well-formed.
fn forwarded(headers: &HeaderMap) -> Option<Vec<Hop>> {
    let mut hops = Vec::new();
    for value in headers.get_all(header::FORWARDED) {
        for element in split(value.to_str().ok()?, ',')? {
            let mut hop = Hop::default();
            for pair in split(element, ';')? {
                let (name, value) = pair.split_once('=')?;
                let value = unquoted(value.trim())?;
                match name.trim().to_ascii_lowercase().as_str() {
                    "for" => hop.address = address(&value),
                    "proto" => hop.proto = Some(value),
                    "host" => hop.host = Some(value),
                    _ => (),
                }
            }
            hops.push(hop);
        }
    }
    Some(hops)
}

/// The older headers, put together from their right ends: a proxy that adds to one adds to all
/// of them, and one that only passes a single value on means the outermost hop.
fn x_forwarded(headers: &HeaderMap) -> Vec<Hop> {
    let list = |name: HeaderName| -> Vec<String> {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let items = values.flat_map(|value| value.split(','));
        items.map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
    };
    let [addresses, protos, hosts, ports] = [FOR, PROTO, HOST, PORT].map(list);
    let from_right = |list: &[String], n: usize| -> Option<String> {
        list.iter().rev().nth(n).or(list.first()).cloned()
    };
    let hop = |n: usize| Hop {
        address: from_right(&addresses, n).and_then(|text| address(&text)),
        host: from_right(&hosts, n).map(|host| with_port(host, from_right(&ports, n))),
        proto: from_right(&protos, n),
    };
    let told = !(addresses.is_empty() && protos.is_empty() && hosts.is_empty());
    (0..addresses.len().max(usize::from(told))).rev().map(hop).collect()
}

/// A host with the port that it lacks. The usual ones say nothing.
fn with_port(host: String, port: Option<String>) -> String {
    let has_port = host.parse::<Authority>().is_ok_and(|host| host.port().is_some());
    match port.and_then(|port| port.parse::<u16>().ok()) {
        Some(port) if !has_port && ![80, 443].contains(&port) => format!("{host}:{port}"),
        _ => host,
    }
}

/// `192.0.2.43`, `192.0.2.43:47011`, `[2001:db8::17]`, `[2001:db8::17]:47011` or `2001:db8::17`.
/// `unknown` and hidden names are none.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse::<IpAddr>().ok();
    let found = ip.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    found.map(|ip| ip.to_canonical())
}

/// The parts between separators that are not in quotes; `None` if a quote does not end.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut from) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                parts.push(&text[from..at]);
                from = at + c.len_utf8();
            }
            _ => (),
        }
    }
    parts.push(&text[from..]);
    let parts = parts.into_iter().map(str::trim).filter(|part| !part.is_empty());
    (!quoted).then(|| parts.collect())
}

/// A value without its quotes; `None` if those are not around the whole of it.
fn unquoted(value: &str) -> Option<String> {
    let Some(rest) = value.strip_prefix('"') else {
        return (!value.contains('"')).then(|| value.to_owned());
    };
    let mut text = String::new();
    let mut rest = rest.chars();
    loop {
        match rest.next()? {
            '"' => return rest.next().is_none().then_some(text),
            '\\' => text.push(rest.next()?),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proxies are in 10.0.0.0/8.
    fn read_all(headers: &[(HeaderName, &str)]) -> (String, String) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.clone(), value.parse().unwrap());
        }
        let trusts = |ip: IpAddr| matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 10);
        let said = read(&map, trusts);
        let client = said.client.map(|ip| ip.to_string()).unwrap_or_default();
        (client, said.at.map(|at| at.data_plane_url()).unwrap_or_default())
    }

    fn of(forwarded: &str) -> (String, String) {
        read_all(&[(header::FORWARDED, forwarded)])
    }

    fn pair(client: &str, at: &str) -> (String, String) {
        (client.to_owned(), at.to_owned())
    }

    #[test]
    fn the_outermost_trusted_proxy_counts_and_what_its_client_invents_does_not() {
        let forged = "for=192.0.2.1;proto=http;host=evil.example";
        let outer = "for=203.0.113.5;proto=https;host=v.example";
        let inner = "for=10.0.0.1;proto=http;host=inner";
        let expected = pair("203.0.113.5", "wss://v.example");
        assert_eq!(of(outer), expected);
        assert_eq!(of(&format!("{forged}, {outer}")), expected);
        assert_eq!(of(&format!("{forged}, {outer}, {inner}")), expected);
        let two = [(header::FORWARDED, forged), (header::FORWARDED, outer)];
        assert_eq!(read_all(&two), expected);
        assert_eq!(of(inner), pair("10.0.0.1", "ws://inner"), "all of them are proxies");
    }

    #[test]
    fn addresses_come_in_many_forms() {
        for (text, client) in [
            (r#"For="[2001:db8::17]:4711""#, "2001:db8::17"),
            (r#"for="192.0.2.43:47011""#, "192.0.2.43"),
            (r#"for="\1\92.0.2.43""#, "192.0.2.43"),
            ("for=unknown", ""),
            ("for=_hidden", ""),
            ("proto=https", ""),
        ] {
            assert_eq!(of(text).0, client, "{text}");
        }
    }

    #[test]
    fn what_is_broken_or_strange_is_as_good_as_nothing() {
        for text in [
            r#"for="192.0.2.1"#,
            r#"for=192.0.2.1;host="v.example"#,
            r#"for=192.0.2.1;host=v"x""#,
            "for",
        ] {
            assert_eq!(of(text), pair("", ""), "{text}");
        }
        for host in ["u:p@v.example", "v.example/path", "\"\"", "\"v example\""] {
            let said = of(&format!("for=192.0.2.1;proto=https;host={host}"));
            assert_eq!(said, pair("192.0.2.1", ""), "{host}");
        }
        assert_eq!(of("for=192.0.2.1;host=v.example;proto=ftp").1, "");
    }

    #[test]
    fn the_older_headers_are_read_from_the_right_too() {
        let both = [
            (FOR, "192.0.2.1, 203.0.113.5, 10.0.0.1"),
            (PROTO, "http, https, http"),
            (HOST, "evil.example, v.example, inner"),
        ];
        assert_eq!(read_all(&both), pair("203.0.113.5", "wss://v.example"));
        let passed_on =
            [(FOR, "203.0.113.5, 10.0.0.1"), (PROTO, "https"), (HOST, "v.example"), (PORT, "8443")];
        assert_eq!(read_all(&passed_on), pair("203.0.113.5", "wss://v.example:8443"));
        let usual = [(PROTO, "https"), (HOST, "v.example"), (PORT, "443")];
        assert_eq!(read_all(&usual), pair("", "wss://v.example"));
        assert_eq!(read_all(&[(FOR, "203.0.113.5")]), pair("203.0.113.5", ""));
        assert_eq!(read_all(&[]), pair("", ""));
    }

    #[test]
    fn forwarded_makes_the_older_headers_void() {
        let both = [(header::FORWARDED, "for=203.0.113.5"), (FOR, "192.0.2.1"), (HOST, "v")];
        assert_eq!(read_all(&both), pair("203.0.113.5", ""));
    }
}
