//! Goes to one origin after the other with a page of the agent's own, and runs the script
//! there. Nothing reaches the network: every request is answered here.

use std::{pin::pin, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::StateError;
use crate::cdp::{CommandError, Commands, Mux, OwnPage};

/// How long a step may take: a navigation, or reading or writing one origin.
const STEP_LIMIT: Duration = Duration::from_secs(30);

/// Where every navigation begins; a redirect leads on. Chrome opens a connection to the host
/// that a navigation begins with before it asks whether anybody answers in its stead, but
/// not to the one that it is redirected to. This host never exists (RFC 6761), and Chrome
/// connects to no port 1.
const DOOR: &str = "http://ventus.invalid:1/";

/// An empty page that asks for no icon.
const EMPTY: &str = r#"<!doctype html><link rel="icon" href="data:,">"#;

/// Reads and writes what an origin stores.
const SCRIPT: &str = include_str!("origin.js");

/// How much of a page's own words an error repeats, in characters.
const WORDS_MAX: usize = 200;

/// A page of the agent's own that goes to origins.
pub(super) struct Visitor {
    page: OwnPage,
}

impl Visitor {
    pub async fn open(mux: &Arc<Mux>) -> Result<Self, CommandError> {
        let mut page = mux.open_page().await?;
        let (commands, _) = page.ends();
        for (method, params) in [
            ("Page.enable", json!({})),
            ("Network.enable", json!({})),
            // One would answer in the network's place, and be started for it.
            ("Network.setBypassServiceWorker", json!({ "bypass": true })),
            ("Fetch.enable", json!({ "patterns": [{ "urlPattern": "*" }] })),
        ] {
            commands.command(method, params, STEP_LIMIT).await?;
        }
        Ok(Self { page })
    }

    /// What an origin stores, as JSON; empty: nothing.
    ///
    /// # Errors
    ///
    /// When it is more than about `limit` characters, cannot be read, or the page is lost.
    pub async fn read(&mut self, origin: &str, limit: usize) -> Result<String, StateError> {
        self.go(origin).await?;
        let read = self.run(origin, &format!("read({limit})")).await?;
        read.as_str().map(str::to_owned).ok_or(StateError::TooLarge)
    }

    /// Makes an origin store this.
    pub async fn write(&mut self, origin: &str, stored: &str) -> Result<(), StateError> {
        self.go(origin).await?;
        // Text in a script, not a part of it: what it says is only ever read as JSON.
        let text = Value::from(stored);
        self.run(origin, &format!("write({text})")).await?;
        Ok(())
    }

    async fn go(&mut self, origin: &str) -> Result<(), StateError> {
        let going = timeout(STEP_LIMIT, self.navigate(origin)).await;
        going.unwrap_or(Err(CommandError::TimedOut.into()))
    }

    /// Returns when the page is at the origin.
    async fn navigate(&mut self, origin: &str) -> Result<(), StateError> {
        let (commands, mut events) = self.page.ends();
        let params = json!({ "url": DOOR });
        let mut navigating = pin!(commands.command("Page.navigate", params, STEP_LIMIT));
        let (mut asked, mut committed) = (None, None);
        while asked.is_none() || asked != committed {
            tokio::select! {
                answer = &mut navigating, if asked.is_none() => {
                    let answer = answer?;
                    if let Some(fault) = answer["errorText"].as_str() {
                        return Err(StateError::invalid(origin, format!("cannot be opened: {fault}")));
                    }
                    asked = answer["loaderId"].as_str().map(str::to_owned);
                }
                event = events.next() => {
                    let event = event?;
                    let params = &event["params"];
                    match event["method"].as_str() {
                        Some("Fetch.requestPaused") => fulfil(commands, params, origin).await?,
                        Some("Page.frameNavigated") => {
                            committed = params["frame"]["loaderId"].as_str().map(str::to_owned);
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Calls a function of the script, at this origin.
    async fn run(&mut self, origin: &str, call: &str) -> Result<Value, StateError> {
        let here = Value::from(origin);
        let expression = format!(
            "location.origin === {here} ? ({SCRIPT}).{call} : \
             Promise.reject(new Error('it is taken for ' + location.origin))"
        );
        let params =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let (commands, _) = self.page.ends();
        let mut answer = commands.command("Runtime.evaluate", params, STEP_LIMIT).await?;
        let exception = &answer["exceptionDetails"];
        if exception.is_null() {
            return Ok(answer["result"]["value"].take());
        }
        let words = exception["exception"]["description"].as_str().unwrap_or_default();
        let words = words.lines().next().unwrap_or_default().trim_start_matches("Error: ");
        let words: String = words.chars().take(WORDS_MAX).collect();
        Err(StateError::invalid(origin, format!("fails: {words}")))
    }
}

/// Answers a request of the page's.
async fn fulfil(commands: Commands<'_>, request: &Value, origin: &str) -> Result<(), CommandError> {
    let mut params = json!({ "requestId": request["requestId"] });
    if request["request"]["url"] == DOOR {
        params["responseCode"] = 302.into();
        params["responseHeaders"] = json!([{ "name": "location", "value": format!("{origin}/") }]);
    } else {
        params["responseCode"] = 200.into();
        params["responseHeaders"] = json!([{ "name": "content-type", "value": "text/html" }]);
        params["body"] = STANDARD.encode(EMPTY).into();
    }
    match commands.command("Fetch.fulfillRequest", params, STEP_LIMIT).await {
        Err(CommandError::Refused { .. }) => Ok(()), // it was taken back
        answer => answer.map(drop),
    }
}
