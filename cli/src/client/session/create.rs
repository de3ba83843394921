//! `ventus session create`

use std::{collections::BTreeMap, env, fs, io::Read, path::PathBuf, time::Duration};

use clap::Args;
use proto::{
    id::{ProfileId, SessionId},
    region::Region,
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Api, Error, Request, Result, Said, shown};

/// How long a browser may take to come, beyond the wait for a slot.
const LAUNCH: Duration = Duration::from_secs(90);
/// How long the server waits for a slot unless it is told otherwise.
const WAIT_SECONDS: u32 = 5;
/// The largest storage state that a server takes.
const STORAGE_STATE_MAX: u64 = 5 << 20;

/// The session that is wanted. What is left out, the server chooses.
#[derive(Debug, Default, Args)]
pub struct Wanted {
    /// Region to run in
    #[arg(long, value_name = "NAME")]
    region: Option<Region>,
    /// Longest life, from now on [default: 1800]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// How long it outlives its last client [default: 0, a reconnect grace of 10 s]
    #[arg(long, value_name = "SECONDS")]
    keep_alive: Option<u32>,
    /// Size of the pages [default: 1280x720]
    #[arg(long, value_name = "WxH", value_parser = viewport)]
    viewport: Option<Viewport>,
    /// User agent [default: the browser's]
    #[arg(long, value_name = "TEXT")]
    user_agent: Option<String>,
    /// Proxy for the browser's traffic (http, https, socks5), - reads it from standard input
    ///
    /// Its credentials come from VENTUS_PROXY_USERNAME and VENTUS_PROXY_PASSWORD, or with the
    /// URL from standard input: arguments can be seen by other users of the machine.
    #[arg(long, value_name = "URL", allow_hyphen_values = true)]
    proxy: Option<String>,
    /// Profile to begin with
    #[arg(long, value_name = "ID")]
    profile: Option<ProfileId>,
    /// Cookies and storage to begin with, as Playwright saves them; - reads standard input
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    storage_state: Option<PathBuf>,
    /// A mark of your own; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// How long to wait for a free slot, 0 to 60 [default: 5]
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u32>,
    /// Answer as soon as there is a slot, before the browser is there
    #[arg(long = "async")]
    respond_async: bool,
    /// Names this request: the same key again gives the same session [default: a new one]
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Viewport {
    width: u32,
    height: u32,
}

/// The body of `POST /v1/sessions`.
#[derive(Serialize)]
struct Body {
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<Region>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_alive_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    viewport: Option<Viewport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<Proxy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile_id: Option<ProfileId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_state: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
}

/// A proxy with its credentials.
#[derive(Serialize)]
struct Proxy {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

impl Wanted {
    /// Makes it.
    pub async fn create(self, api: &Api) -> Result<Said> {
        let request = self.request(|name| env::var(name).ok())?;
        let key = request.1;
        let made = api.send(request.0).await.map_err(|error| match error {
            // It may have been made all the same, and can be had by the same key.
            Error::Unreachable { url, cause } => Error::Unreachable {
                url,
                cause: format!("{cause}\n  to go on with it: --idempotency-key {key}"),
            },
            other => other,
        });
        shown(made?)
    }

    /// The request, and its idempotency key.
    fn request(self, env: impl Fn(&str) -> Option<String>) -> Result<(Request, String)> {
        let key = self.idempotency_key.clone();
        let key = key.unwrap_or_else(|| format!("ventus-cli-{}", SessionId::generate()));
        let wait = self.wait.map(|wait| format!("wait={wait}"));
        let respond_async = self.respond_async.then(|| "respond-async".to_owned());
        let prefer: Vec<_> = wait.into_iter().chain(respond_async).collect();
        let patience = Duration::from_secs(self.wait.unwrap_or(WAIT_SECONDS).into()) + LAUNCH;
        let mut request = Request::post("/v1/sessions")
            .header("idempotency-key", &key)
            .json(&self.body(env)?)?
            .patience(patience)
            .repeatable();
        if !prefer.is_empty() {
            request = request.header("prefer", prefer.join(", "));
        }
        Ok((request, key))
    }

    fn body(self, env: impl Fn(&str) -> Option<String>) -> Result<Body> {
        let from_stdin = |value: &str| value == "-";
        let state = self.storage_state.as_ref().and_then(|path| path.to_str());
        if state.is_some_and(from_stdin) && self.proxy.as_deref().is_some_and(from_stdin) {
            return Err(Error::usage("only one of --proxy and --storage-state can be -"));
        }
        Ok(Body {
            region: self.region,
            timeout_seconds: self.timeout,
            keep_alive_seconds: self.keep_alive,
            viewport: self.viewport,
            user_agent: self.user_agent,
            proxy: self.proxy.map(|given| proxy(given, env)).transpose()?,
            profile_id: self.profile,
            storage_state: self.storage_state.map(storage_state).transpose()?,
            labels: self.label.into_iter().collect(),
        })
    }
}

/// A proxy by its URL, or the one that standard input names.
fn proxy(given: String, env: impl Fn(&str) -> Option<String>) -> Result<Proxy> {
    let url = if given == "-" { read_stdin()?.trim().to_owned() } else { given.clone() };
    // The URL itself is not repeated: it holds the very thing that should not be seen.
    if given != "-" && given.contains('@') {
        return Err(Error::usage(
            "--proxy: no credentials in arguments, other users of the machine can see them: set \
             VENTUS_PROXY_USERNAME and VENTUS_PROXY_PASSWORD, or write the URL to --proxy -",
        ));
    }
    let (username, password) = (env("VENTUS_PROXY_USERNAME"), env("VENTUS_PROXY_PASSWORD"));
    Ok(Proxy { url, username, password })
}

/// Reads a storage state, from `-` for standard input.
pub fn storage_state(path: PathBuf) -> Result<Box<RawValue>> {
    let shown = path.display();
    let text = if path.as_os_str() == "-" {
        read_stdin()?
    } else {
        let file = fs::File::open(&path).map_err(|e| Error::usage(format!("{shown}: {e}")))?;
        read(file).map_err(|error| Error::usage(format!("{shown}: {error}")))?
    };
    RawValue::from_string(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Error::usage(format!("{shown} is no JSON from line {line}, column {column} on"))
    })
}

fn read_stdin() -> Result<String> {
    read(std::io::stdin()).map_err(|error| Error::usage(format!("standard input: {error}")))
}

fn read(source: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    source.take(STORAGE_STATE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > STORAGE_STATE_MAX {
        return Err(std::io::Error::other("more than 5 MiB"));
    }
    Ok(text)
}

fn viewport(text: &str) -> std::result::Result<Viewport, &'static str> {
    let read = || {
        let (width, height) = text.split_once(['x', 'X'])?;
        Some(Viewport { width: width.parse().ok()?, height: height.parse().ok()? })
    };
    read().ok_or("not a size like 1280x720")
}

/// Reads `key=value`.
pub fn label(text: &str) -> std::result::Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("not of the form key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn body(wanted: Wanted) -> Result<Value> {
        let env = |name: &str| (name == "VENTUS_PROXY_PASSWORD").then(|| "p".to_owned());
        Ok(serde_json::to_value(wanted.body(env)?).unwrap())
    }

    #[test]
    fn only_what_was_asked_for_is_sent() {
        assert_eq!(body(Wanted::default()).unwrap(), json!({}));
        let wanted = Wanted {
            timeout: Some(60),
            viewport: Some(viewport("800x600").unwrap()),
            label: vec![label("team=a=b").unwrap(), label("empty=").unwrap()],
            proxy: Some("socks5://proxy:1080".into()),
            ..Wanted::default()
        };
        let sent = json!({
            "timeout_seconds": 60,
            "viewport": {"width": 800, "height": 600},
            "labels": {"team": "a=b", "empty": ""},
            "proxy": {"url": "socks5://proxy:1080", "password": "p"},
        });
        assert_eq!(body(wanted).unwrap(), sent);
    }

    #[test]
    fn a_password_in_an_argument_is_refused_and_not_repeated() {
        let wanted = Wanted { proxy: Some("http://u:secret@p".into()), ..Wanted::default() };
        let error = body(wanted).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(!error.to_string().contains("secret"));
    }

    #[test]
    fn a_storage_state_is_sent_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let text = r#"{"origins": [], "cookies": [{"value": 1.0}]}"#;
        fs::write(&path, text).unwrap();
        assert_eq!(storage_state(path.clone()).unwrap().get(), text);
        for (bad, why) in [("{\"cookies\": secret", "line 1"), ("", "JSON")] {
            fs::write(&path, bad).unwrap();
            let error = storage_state(path.clone()).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(why) && !error.to_string().contains("secret"));
        }
        fs::write(&path, " ".repeat((5 << 20) + 1)).unwrap();
        assert!(storage_state(path).unwrap_err().to_string().contains("5 MiB"));
        assert_eq!(storage_state("/no/such".into()).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn sizes_and_labels_are_read_strictly() {
        assert_eq!(viewport("1x2"), Ok(Viewport { width: 1, height: 2 }));
        for bad in ["", "1280", "1280x", "x720", "1280x-1", "1280 x 720"] {
            assert!(viewport(bad).is_err(), "{bad}");
        }
        assert!(label("team").is_err());
    }
}
