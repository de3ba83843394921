//! The upstream proxy of a session: what a caller may name, and what may be shown of it.

use std::fmt;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::{Host, Url};

use super::validate::Object;

/// Longest URL and longest password for HTTP proxies, in bytes.
const LONGEST: usize = 2_048;
/// Longest user name, and longest password for SOCKS5 proxies (RFC 1929), in bytes.
const LONGEST_NAME: usize = 255;

/// A proxy that an agent sends a session's traffic to. The credentials are secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Scheme, host and port, always all three; nothing of it is secret.
    pub url: String,
    /// Empty: none.
    pub username: String,
    /// Empty: none.
    pub password: String,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Takes the member `proxy` out of a body.
pub(crate) fn take(body: &mut Object<'_, '_>) -> Option<Upstream> {
    let mut proxy = body.object("proxy")?;
    let url = proxy.checked("url", true, "must be a string", Value::is_string);
    let [username, password] =
        ["username", "password"].map(|name| credential(&mut proxy, name).map(str::to_owned));
    let mut upstream = None;
    match url.and_then(Value::as_str).map(read) {
        Some(Ok(found)) => upstream = Some(found),
        Some(Err(rule)) => proxy.invalid("url", rule),
        None => (),
    }
    if let Some(upstream) = &mut upstream {
        if username.is_some() || password.is_some() {
            if upstream.has_credentials() {
                proxy.invalid("url", "has credentials, which are given beside it as well");
            }
            upstream.username = username.unwrap_or_default();
            upstream.password = password.unwrap_or_default();
        }
        for (name, rule) in upstream.faults() {
            proxy.invalid(name, rule);
        }
    }
    proxy.close();
    upstream
}

fn credential<'a>(proxy: &mut Object<'a, '_>, name: &str) -> Option<&'a str> {
    let rule = "must be a string of at least one character";
    let given =
        proxy.checked(name, false, rule, |text| text.as_str().is_some_and(|t| !t.is_empty()));
    given.and_then(Value::as_str)
}

/// Reads a URL, and takes it apart into what may be shown and what may not.
fn read(text: &str) -> Result<Upstream, &'static str> {
    if text.len() > LONGEST {
        return Err("must have at most 2048 bytes");
    }
    let url = Url::parse(text).map_err(|_| "must be a URL")?;
    let default_port = match url.scheme() {
        "http" => 80,
        "https" => 443,
        "socks5" => 1080,
        _ => return Err("must begin with http://, https:// or socks5://"),
    };
    // Of other schemes than the web's a URL's host is not looked at.
    let host = url.host_str().map(Host::parse).and_then(Result::ok).ok_or("must name a host")?;
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("must have no path, query or fragment");
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(String::from);
    let wrong = |_| "has credentials that are not UTF-8";
    let port = url.port().unwrap_or(default_port);
    if port == 0 {
        return Err("must not have port 0");
    }
    Ok(Upstream {
        url: format!("{}://{host}:{port}", url.scheme()),
        username: decoded(url.username()).map_err(wrong)?,
        password: decoded(url.password().unwrap_or_default()).map_err(wrong)?,
    })
}

impl Upstream {
    fn has_credentials(&self) -> bool {
        !self.username.is_empty() || !self.password.is_empty()
    }

    /// What the protocols cannot carry.
    fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let socks = self.url.starts_with("socks5");
        let mut faults = Vec::new();
        if self.username.is_empty() && !self.password.is_empty() {
            faults.push(("username", "is required with a password"));
        }
        if self.username.len() > LONGEST_NAME || self.username.chars().any(char::is_control) {
            faults.push(("username", "must have at most 255 bytes and no control characters"));
        } else if !socks && self.username.contains(':') {
            // RFC 7617, section 2.
            faults.push(("username", "must not contain a colon"));
        }
        let longest = if socks { LONGEST_NAME } else { LONGEST };
        if self.password.len() > longest || self.password.chars().any(char::is_control) {
            let rule = "must have at most 2048 bytes (255 for socks5) and no control characters";
            faults.push(("password", rule));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sessions::validate::Faults;

    fn taken(proxy: &Value) -> Result<Upstream, (u16, Vec<String>)> {
        let body = json!({ "proxy": proxy });
        let mut faults = Faults::default();
        let mut object = Object::read(&body, "", &mut faults);
        let upstream = take(&mut object);
        object.close();
        faults.settle(()).map_err(|problem| {
            let pointers = problem.errors().iter().map(|fault| fault.pointer.clone());
            (problem.status().as_u16(), pointers.collect::<Vec<_>>())
        })?;
        Ok(upstream.unwrap())
    }

    #[test]
    fn credentials_are_taken_out_of_the_url() {
        for (proxy, expected) in [
            (json!({"url": "http://proxy.example:3128"}), ["http://proxy.example:3128", "", ""]),
            (json!({"url": "https://Proxy.Example/"}), ["https://proxy.example:443", "", ""]),
            (json!({"url": "socks5://PROXY.example"}), ["socks5://proxy.example:1080", "", ""]),
            (json!({"url": "socks5://[::1]:9"}), ["socks5://[::1]:9", "", ""]),
            (json!({"url": "http://u%40x:p%3Aw@h"}), ["http://h:80", "u@x", "p:w"]),
            (
                json!({"url": "http://h", "username": "u", "password": "p"}),
                ["http://h:80", "u", "p"],
            ),
            (
                json!({"url": "http://h", "username": "u", "password": null}),
                ["http://h:80", "u", ""],
            ),
        ] {
            let [url, username, password] = expected.map(str::to_owned);
            assert_eq!(taken(&proxy).unwrap(), Upstream { url, username, password }, "{proxy}");
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused_with_its_place() {
        for (proxy, status, pointer) in [
            (json!("http://h"), 422, ""),
            (json!({}), 422, "/url"),
            (json!({"url": 7}), 422, "/url"),
            (json!({"url": ""}), 422, "/url"),
            (json!({"url": "h:80"}), 422, "/url"),
            (json!({"url": "ftp://h"}), 422, "/url"),
            (json!({"url": "socks5://"}), 422, "/url"),
            (json!({"url": "socks5://a b"}), 422, "/url"),
            (json!({"url": "http://h/path"}), 422, "/url"),
            (json!({"url": "http://h?q"}), 422, "/url"),
            (json!({"url": "http://h#f"}), 422, "/url"),
            (json!({"url": "http://h:0"}), 422, "/url"),
            (json!({"url": format!("http://{}", "h".repeat(2048))}), 422, "/url"),
            (json!({"url": "http://u:p@h", "username": "u"}), 422, "/url"),
            (json!({"url": "http://:p@h"}), 422, "/username"),
            (json!({"url": "http://h", "password": "p"}), 422, "/username"),
            (json!({"url": "http://h", "username": ""}), 422, "/username"),
            (json!({"url": "http://h", "username": "a:b"}), 422, "/username"),
            (json!({"url": "http://h", "username": "u".repeat(256)}), 422, "/username"),
            (json!({"url": "http://h", "username": "u", "password": "p\n"}), 422, "/password"),
            (
                json!({"url": "socks5://h", "username": "u", "password": "p".repeat(256)}),
                422,
                "/password",
            ),
            (json!({"url": "http://h", "port": 1}), 400, "/port"),
        ] {
            let refused = taken(&proxy).unwrap_err();
            assert_eq!(refused, (status, vec![format!("/proxy{pointer}")]), "{proxy}");
        }
    }

    #[test]
    fn credentials_are_never_shown() {
        let upstream = taken(&json!({"url": "http://alice:s3cret@h"})).unwrap();
        let shown = format!("{upstream:?}");
        assert!(!shown.contains("alice") && !shown.contains("s3cret"), "{shown}");
    }
}
