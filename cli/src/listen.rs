//! Where a server listens, and under which address others know it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
};

use anyhow::Context;
use axum::http::Uri;
use clap::Args;
use tokio::net::TcpListener;

/// What the commands that serve have in common.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Options {
    /// Address other programs reach this server at, if not the one it listens on
    #[arg(long, env = "VENTUS_PUBLIC_URL", value_name = "URL", value_parser = public_url)]
    pub public_url: Option<String>,
    /// Write `{base_url, api_key, pid}` to this file once the server is ready
    #[arg(long, env = "VENTUS_READY_FILE", value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
    /// Connections that one address may hold open; 0 is no bound
    #[arg(long, env = "VENTUS_CONNECTIONS_PER_ADDRESS", value_name = "N", default_value_t = 1024)]
    pub connections_per_address: u32,
}

impl Options {
    /// Scheme and authority that this server is reached at.
    pub fn base_url(&self, listening: SocketAddr) -> String {
        self.public_url.clone().unwrap_or_else(|| format!("http://{}", reachable(listening)))
    }
}

/// Reads `127.0.0.1:8080`, `[::1]:8080` or `localhost:8080`.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|_| "not an address like 127.0.0.1:8080")?;
    // A name may stand for both families; the older one is what `base_url` promises.
    let found: Vec<_> = found.by_ref().collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| "this name has no address".into())
}

/// Reads the URL that others reach this server at.
fn public_url(text: &str) -> Result<String, String> {
    base_url(text).and_then(a_place)
}

/// Refuses "any address", which nobody can dial.
fn a_place(url: String) -> Result<String, String> {
    let parsed: Uri = url.parse().map_err(|_| "not a URL")?;
    let host = parsed.host().unwrap_or_default().trim_matches(['[', ']']);
    match host.parse().is_ok_and(is_any) {
        true => Err(format!("nobody can dial {host}: name an address of this machine")),
        false => Ok(url),
    }
}

/// Reads an http or https URL without a path, and drops its trailing slash.
pub fn base_url(text: &str) -> Result<String, String> {
    url(text, &["http", "https"])
}

/// The same for the data plane: ws or wss.
pub fn data_plane_url(text: &str) -> Result<String, String> {
    url(text, &["ws", "wss"]).and_then(a_place)
}

/// Reads the origin of web pages, as browsers send it (RFC 6454), or `*`.
pub fn origin(text: &str) -> Result<String, String> {
    match text.trim() {
        "*" => Ok("*".to_owned()),
        origin => url(origin, &["https", "http", "chrome-extension", "devtools"])
            .map(|origin| origin.to_ascii_lowercase()),
    }
}

fn url(text: &str, schemes: &[&str]) -> Result<String, String> {
    let wanted = || format!("not a URL like {}://host:8080, without a path", schemes[0]);
    let url: Uri = text.parse().map_err(|_| wanted())?;
    let scheme = url.scheme_str().filter(|scheme| schemes.contains(scheme)).ok_or_else(wanted)?;
    let authority = url.authority().filter(|a| !a.as_str().contains('@')).ok_or_else(wanted)?;
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        return Err(wanted());
    }
    Ok(format!("{scheme}://{authority}"))
}

/// The data plane's URL on the same host as a base URL.
pub fn websocket(base_url: &str) -> String {
    base_url.replacen("http", "ws", 1)
}

/// Whether a server listens on any address of its machine: that is no place to go to.
pub fn is_any(listening: IpAddr) -> bool {
    listening.to_canonical().is_unspecified()
}

/// An address to dial for one to listen on: "any" is no place to go to.
pub fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

/// Listens, or says why not in a line that helps.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_scheme_and_authority() {
        assert_eq!(base_url("https://v.example/"), Ok("https://v.example".into()));
        assert_eq!(base_url("http://[::1]:8080"), Ok("http://[::1]:8080".into()));
        for bad in
            ["", "v.example", "ws://v.example", "http://v.example/a", "http://u:p@v", "http:"]
        {
            assert!(base_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_read_as_browsers_write_it() {
        assert_eq!(origin(" https://Tools.example/"), Ok("https://tools.example".into()));
        assert_eq!(origin("*"), Ok("*".into()));
        for bad in ["", "null", "tools.example", "https://tools.example/a"] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_data_plane_is_beside_the_api() {
        assert_eq!(websocket("http://a:1"), "ws://a:1");
        assert_eq!(websocket("https://a"), "wss://a");
    }

    #[test]
    fn nobody_is_sent_to_any_address() {
        assert_eq!(data_plane_url("wss://a.example:8082/"), Ok("wss://a.example:8082".into()));
        for bad in ["ws://0.0.0.0:8082", "ws://[::]:8082", "ws://[::ffff:0.0.0.0]:8082"] {
            assert!(data_plane_url(bad).unwrap_err().starts_with("nobody can dial "), "{bad}");
        }
        assert!(public_url("http://0.0.0.0:8080").is_err());
    }

    #[test]
    fn an_address_may_be_a_name() {
        assert_eq!(address("localhost:80").unwrap(), "127.0.0.1:80".parse().unwrap());
        assert_eq!(address("[::]:1").unwrap(), "[::]:1".parse().unwrap());
        assert!(address("8080").is_err());
    }

    #[test]
    fn any_address_is_reached_at_loopback() {
        assert_eq!(reachable("0.0.0.0:5".parse().unwrap()), "127.0.0.1:5".parse().unwrap());
        assert_eq!(reachable("[::]:5".parse().unwrap()), "[::1]:5".parse().unwrap());
    }
}
