//! Which server a client command talks to, and with which key.

use std::{env, path::PathBuf};

use clap::Args;
use reqwest::Url;

use super::{
    Api,
    error::{Error, Result},
    sign_ins::SignIns,
};
use crate::{
    data_dir::{self, Credentials, credentials_in},
    listen,
};

/// Where a server is when nothing says so.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";
/// The variable that an API key comes in. There is no flag for it: arguments can be seen by
/// other users of the machine.
const API_KEY: &str = "VENTUS_API_KEY";

/// What all client commands have in common.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Options {
    /// The server [default: where you are signed in, else the one of the data directory, else
    /// http://127.0.0.1:8080]
    #[arg(long, global = true, env = "VENTUS_URL", value_name = "URL", value_parser = listen::base_url, help_heading = "Server")]
    pub url: Option<String>,
    /// Data directory of a server on this machine: its address and first API key are used
    /// where no others are given
    #[arg(
        long,
        global = true,
        env = "VENTUS_DATA_DIR",
        value_name = "DIR",
        help_heading = "Server"
    )]
    pub data_dir: Option<PathBuf>,
    /// Print the API's JSON, and errors as problem documents
    #[arg(long, global = true)]
    pub json: bool,
}

impl Options {
    /// The data directory, which need not exist.
    pub fn data_dir(&self) -> Result<PathBuf> {
        Ok(data_dir::Options::at(self.data_dir.clone()).path()?)
    }

    /// What a server on this machine has left for its users, if they may read it.
    pub fn kept(&self) -> Option<Credentials> {
        credentials_in(&self.data_dir().ok()?).ok().flatten()
    }

    /// The server for commands that act with an API key.
    ///
    /// # Errors
    ///
    /// When there is no key for it.
    pub fn with_key(&self) -> Result<Api> {
        // Whoever has no home is signed in nowhere.
        let signed_in = SignIns::of_user().and_then(|sign_ins| sign_ins.read());
        let signed_in = signed_in.ok().and_then(|kept| kept.current);
        self.with_key_or(env::var(API_KEY).ok(), signed_in)
    }

    fn with_key_or(&self, given: Option<String>, signed_in: Option<String>) -> Result<Api> {
        let given = given.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
        let api = Api::new(self.url_or(signed_in))?;
        match (given, self.kept()) {
            (Some(key), _) if key.bytes().all(|c| c.is_ascii_graphic()) => Ok(api.with(key)),
            (Some(_), _) => Err(Error::usage(format!("{API_KEY} holds no API key: vs_…"))),
            (None, Some(kept)) if same_server(&kept.base_url, api.base_url()) => {
                Ok(api.with(kept.api_key))
            }
            // Never to another server than the one that made it.
            (None, Some(_)) => Err(Error::NoKey(format!(
                "the data directory's is not for {}; set {API_KEY}",
                api.base_url()
            ))),
            (None, None) => Err(Error::NoKey(format!(
                "set {API_KEY} (`ventus key create` makes one), or start `ventus up` here"
            ))),
        }
    }

    /// The server: the one where this user is `signed_in`, unless another is named.
    pub fn url_or(&self, signed_in: Option<String>) -> String {
        let kept = || self.kept().map(|kept| kept.base_url);
        let url = self.url.clone().or(signed_in).or_else(kept);
        url.unwrap_or_else(|| DEFAULT_URL.to_owned())
    }
}

/// Whether two base URLs are one server: they are equal, or both this machine's own.
pub fn same_server(one: &str, other: &str) -> bool {
    let local = |url: &str| {
        let url: Url = url.parse().ok()?;
        let local = matches!(url.host_str()?, "localhost" | "127.0.0.1" | "[::1]");
        local.then_some(url.port_or_known_default())
    };
    one == other || matches!((local(one), local(other)), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::credentials_path;

    fn options(url: Option<&str>, dir: &std::path::Path) -> Options {
        Options { url: url.map(str::to_owned), data_dir: Some(dir.to_owned()), json: false }
    }

    #[test]
    fn the_data_directorys_key_goes_to_its_own_server_alone() {
        let dir = tempfile::tempdir().unwrap();
        let kept = r#"{"base_url": "http://127.0.0.1:9", "api_key": "vs_kept"}"#;
        std::fs::write(credentials_path(dir.path()), kept).unwrap();
        for url in [None, Some("http://localhost:9"), Some("http://127.0.0.1:9")] {
            let api = options(url, dir.path()).with_key_or(None, None).unwrap();
            assert_eq!(api.base_url(), url.unwrap_or("http://127.0.0.1:9"));
        }
        for url in ["http://127.0.0.1:10", "http://elsewhere:9", "https://elsewhere"] {
            let error = options(Some(url), dir.path()).with_key_or(None, None).err().unwrap();
            assert_eq!(error.exit_code(), 3, "{url}");
            assert!(options(Some(url), dir.path()).with_key_or(Some("vs_x".into()), None).is_ok());
        }
    }

    #[test]
    fn the_server_is_the_one_named_or_signed_in_to_or_here() {
        let dir = tempfile::tempdir().unwrap();
        let url = |named, signed_in: Option<&str>| {
            options(named, dir.path()).url_or(signed_in.map(str::to_owned))
        };
        assert_eq!(url(None, None), DEFAULT_URL);
        let kept = r#"{"base_url": "http://127.0.0.1:9", "api_key": "vs_kept"}"#;
        std::fs::write(credentials_path(dir.path()), kept).unwrap();
        assert_eq!(url(None, None), "http://127.0.0.1:9");
        assert_eq!(url(None, Some("http://there")), "http://there");
        assert_eq!(url(Some("http://named"), Some("http://there")), "http://named");
    }

    #[test]
    fn without_a_key_there_is_nothing_to_ask_with() {
        let dir = tempfile::tempdir().unwrap();
        let given = |key: Option<&str>| {
            options(None, dir.path()).with_key_or(key.map(str::to_owned), None).map(|_| ())
        };
        assert_eq!(given(None).unwrap_err().exit_code(), 3);
        assert_eq!(given(Some(" ")).unwrap_err().exit_code(), 3);
        let error = given(Some("vs_se cret")).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(!error.to_string().contains("cret"));
        assert!(given(Some(" vs_secret\n")).is_ok());
    }
}
