//! Which server a client command talks to, and with which key.

use std::{env, path::PathBuf};

use clap::Args;
use reqwest::Url;

use super::{
    Api,
    error::{Error, Result},
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
    #[arg(long, global = true, env = "VENTUS_URL", value_name = "URL", value_parser = listen::base_url)]
    pub url: Option<String>,
    /// Data directory of a server on this machine: its address and first API key are used
    /// where no others are given
    #[arg(long, global = true, env = "VENTUS_DATA_DIR", value_name = "DIR")]
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
        self.with_key_or(env::var(API_KEY).ok())
    }

    fn with_key_or(&self, given: Option<String>) -> Result<Api> {
        let given = given.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
        let kept = self.kept();
        let url = self.url.clone().or_else(|| kept.as_ref().map(|kept| kept.base_url.clone()));
        let api = Api::new(url.unwrap_or_else(|| DEFAULT_URL.to_owned()))?;
        match (given, kept) {
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

    /// The server for commands that act for a person: the one where they are `signed_in`,
    /// unless another is named.
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
            let api = options(url, dir.path()).with_key_or(None).unwrap();
            assert_eq!(api.base_url(), url.unwrap_or("http://127.0.0.1:9"));
        }
        for url in ["http://127.0.0.1:10", "http://elsewhere:9", "https://elsewhere"] {
            let error = options(Some(url), dir.path()).with_key_or(None).err().unwrap();
            assert_eq!(error.exit_code(), 3, "{url}");
            assert!(options(Some(url), dir.path()).with_key_or(Some("vs_x".into())).is_ok());
        }
    }

    #[test]
    fn without_a_key_there_is_nothing_to_ask_with() {
        let dir = tempfile::tempdir().unwrap();
        let given = |key: Option<&str>| {
            options(None, dir.path()).with_key_or(key.map(str::to_owned)).map(|_| ())
        };
        assert_eq!(given(None).unwrap_err().exit_code(), 3);
        assert_eq!(given(Some(" ")).unwrap_err().exit_code(), 3);
        let error = given(Some("vs_se cret")).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(!error.to_string().contains("cret"));
        assert!(given(Some(" vs_secret\n")).is_ok());
    }
}
