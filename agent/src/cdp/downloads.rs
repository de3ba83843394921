//! What a browser has downloaded. It tells its root session, the agent's own, of every
//! download in every context, whatever clients have set; they hear only what they ask for.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::warn;

use super::{
    mux::{Mux, locked},
    own::CommandError,
};

/// What the events begin with, as Chrome writes them.
const EVENT: &[u8] = b"{\"method\":\"Browser.download";
/// Downloads under way whose names are remembered; one more, and the oldest goes without.
const BEGUN_MAX: usize = 1_024;
/// Complete ones that may wait to be heard of.
const NEWS_MAX: usize = 1_024;

/// A download that is complete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Download {
    /// What the browser calls it.
    pub guid: String,
    /// As the page suggested it.
    pub name: String,
    /// Where the browser says that it is.
    pub path: PathBuf,
}

pub(super) struct Downloads {
    /// Their guids and suggested names.
    begun: VecDeque<(String, String)>,
    news: mpsc::Sender<Download>,
    heard: Option<mpsc::Receiver<Download>>,
    /// How the default context is to treat them.
    behavior: Option<Value>,
}

impl Default for Downloads {
    fn default() -> Self {
        let (news, heard) = mpsc::channel(NEWS_MAX);
        Self { begun: VecDeque::new(), news, heard: Some(heard), behavior: None }
    }
}

#[derive(Deserialize)]
struct Event {
    params: Params,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params {
    guid: String,
    #[serde(default)]
    suggested_filename: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    file_path: PathBuf,
}

impl Downloads {
    /// Takes a message of the root session, if it is about a download.
    pub fn hear(&mut self, message: &[u8]) -> bool {
        if !message.starts_with(EVENT) {
            return false;
        }
        if let Ok(Event { params }) = serde_json::from_slice(message) {
            self.take(params);
        }
        true
    }

    fn take(&mut self, told: Params) {
        let Params { guid, suggested_filename, state, file_path } = told;
        match state.as_str() {
            "" => {
                if self.begun.len() == BEGUN_MAX {
                    self.begun.pop_front();
                }
                self.begun.push_back((guid, suggested_filename));
            }
            "inProgress" => {}
            state => {
                let at = self.begun.iter().position(|(begun, _)| *begun == guid);
                let name = at.and_then(|at| self.begun.remove(at)).map(|(_, name)| name);
                if state == "completed" {
                    let named = || file_path.file_name()?.to_str().map(str::to_owned);
                    let name = name.or_else(named).unwrap_or_default();
                    let download = Download { guid, name, path: file_path };
                    if self.news.try_send(download).is_err() {
                        warn!("more downloads than can be heard of; one is not kept");
                    }
                }
            }
        }
    }
}

impl Mux {
    /// Lets pages of the default context download into a directory, as long as no client
    /// says otherwise, and has the browser tell of all downloads.
    pub(crate) async fn accept_downloads(&self, directory: &Path) -> Result<(), CommandError> {
        let behavior =
            json!({ "behavior": "allow", "downloadPath": directory, "eventsEnabled": true });
        locked(&self.downloads).behavior = Some(behavior.clone());
        self.command("Browser.setDownloadBehavior", behavior).await.map(drop)
    }

    /// The last client has left, and with it what it had set: as at the beginning.
    pub(super) fn accept_downloads_again(&self) {
        if let Some(behavior) = &locked(&self.downloads).behavior {
            self.tell_only(None, "Browser.setDownloadBehavior", behavior);
        }
    }

    /// Downloads as they are completed. Nothing for all but the first who ask.
    pub(crate) fn downloads(&self) -> mpsc::Receiver<Download> {
        locked(&self.downloads).heard.take().unwrap_or_else(|| mpsc::channel(1).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, params: Value) -> Vec<u8> {
        // Chrome writes the method first.
        format!("{{\"method\":\"Browser.{name}\",\"params\":{params}}}").into_bytes()
    }

    fn progress(guid: &str, state: &str, path: &str) -> Vec<u8> {
        event("downloadProgress", json!({ "guid": guid, "state": state, "filePath": path }))
    }

    #[test]
    fn what_is_complete_is_told_by_the_name_that_the_page_gave_it() {
        let mut downloads = Downloads::default();
        for guid in ["a", "b", "c"] {
            let begin = json!({ "guid": guid, "suggestedFilename": format!("{guid}.txt") });
            assert!(downloads.hear(&event("downloadWillBegin", begin)));
        }
        assert!(downloads.hear(&progress("b", "inProgress", "")));
        assert!(downloads.hear(&progress("b", "completed", "/d/x")));
        assert!(downloads.hear(&progress("a", "canceled", "")));
        assert!(downloads.hear(&progress("unknown", "completed", "/d/y.txt")));
        assert!(!downloads.hear(b"{\"method\":\"Target.targetCreated\"}"));
        let mut heard = downloads.heard.take().unwrap();
        let told = |guid: &str, name: &str, path: &str| Download {
            guid: guid.into(),
            name: name.into(),
            path: path.into(),
        };
        assert_eq!(heard.try_recv().unwrap(), told("b", "b.txt", "/d/x"));
        assert_eq!(heard.try_recv().unwrap(), told("unknown", "y.txt", "/d/y.txt"));
        assert!(heard.try_recv().is_err());
        assert_eq!(downloads.begun, [("c".to_owned(), "c.txt".to_owned())]);
    }

    #[test]
    fn a_page_that_begins_many_takes_no_more_room() {
        let mut downloads = Downloads::default();
        for n in 0..BEGUN_MAX * 2 {
            let begin = json!({ "guid": n.to_string(), "suggestedFilename": "x" });
            downloads.hear(&event("downloadWillBegin", begin));
            downloads.hear(&progress(&format!("done {n}"), "completed", "/d/x"));
        }
        assert_eq!(downloads.begun.len(), BEGUN_MAX);
        assert_eq!(downloads.heard.unwrap().len(), NEWS_MAX);
    }
}
