//! `json/*`: what Chrome serves beside its WebSocket, in Chrome's shape.

use std::path::Path;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, header};
use proto::{
    id::SessionId,
    problem::{Problem, Slug},
};
use serde::Serialize;
use serde_json::{Serializer, Value, json, ser::PrettyFormatter};
use tracing::error;

use super::{CommandError, Mux, guard::judge_page, protocol::protocol};

/// One request's view of one browser.
pub struct Discovery<'a> {
    /// The browser.
    pub mux: &'a Mux,
    /// Its binary.
    pub browser: &'a Path,
    /// The session that it was lent to; it names the browser, too.
    pub session: SessionId,
    /// What its WebSocket endpoints begin with.
    pub base: String,
    /// What lets the caller in; it goes into every URL.
    pub token: &'a str,
}

impl Discovery<'_> {
    /// Answers `json/…`. `query` comes without the token: for `json/new` it is the URL.
    pub async fn answer(
        &self,
        path: &str,
        query: &str,
        method: &Method,
    ) -> Result<Response, Problem> {
        match path.split('/').collect::<Vec<_>>()[..] {
            ["json"] | ["json", "list"] => self.list().await,
            ["json", "version"] => self.version().await,
            ["json", "protocol"] => self.protocol().await,
            ["json", "new"] if method != Method::PUT => {
                let detail = format!(
                    "Using unsafe HTTP verb {method} to invoke /json/new. This action supports only PUT verb."
                );
                Err(Problem::new(Slug::MethodNotAllowed, detail)
                    .with_header(header::ALLOW, HeaderValue::from_static("PUT")))
            }
            ["json", "new"] => self.open(query).await,
            ["json", "activate", target] => {
                self.on_target("Target.activateTarget", target).await?;
                Ok(text("Target activated"))
            }
            ["json", "close", target] => {
                self.on_target("Target.closeTarget", target).await?;
                Ok(text("Target is closing"))
            }
            _ => Err(Problem::new(Slug::NotFound, unknown_path(path))),
        }
    }

    async fn version(&self) -> Result<Response, Problem> {
        let version = self.ask("Browser.getVersion", json!({})).await.map_err(failed)?;
        let agent = version["userAgent"].as_str().unwrap_or_default();
        let webkit = agent.split_once("AppleWebKit/").map_or("", |(_, rest)| rest);
        let webkit = webkit.split_once(' ').map_or(webkit, |(version, _)| version);
        let revision = version["revision"].as_str().unwrap_or_default();
        let socket =
            format!("{}/devtools/browser/{}?token={}", self.base, self.session, self.token);
        Ok(page(&json!({
            "Browser": version["product"],
            "File-Path-Style": "posix",
            "Protocol-Version": version["protocolVersion"],
            "User-Agent": agent,
            "V8-Version": version["jsVersion"],
            "WebKit-Version": format!("{webkit} ({revision})"),
            "webSocketDebuggerUrl": socket,
        })))
    }

    async fn list(&self) -> Result<Response, Problem> {
        let targets = self.ask("Target.getTargets", json!({})).await.map_err(failed)?;
        let targets = targets["targetInfos"].as_array().map(Vec::as_slice).unwrap_or_default();
        let targets: Vec<_> = targets.iter().map(|info| pretty(&self.target(info))).collect();
        Ok(json_page(format!("[ {} ]\n", targets.join(", "))))
    }

    async fn open(&self, query: &str) -> Result<Response, Problem> {
        // As Chrome: what is no URL opens an empty page.
        let url = url::Url::parse(&percent_decoded(query));
        let url = url.map_or_else(|_| "about:blank".to_owned(), String::from);
        judge_page(&url).map_err(|refusal| Problem::new(Slug::Forbidden, refusal))?;
        let made = self.ask("Target.createTarget", json!({ "url": url })).await.map_err(failed)?;
        let asked = json!({ "targetId": made["targetId"] });
        let mut info = self.ask("Target.getTargetInfo", asked).await.map_err(failed)?;
        let info = &mut info["targetInfo"];
        if info["url"] == "" {
            info["url"] = url.into(); // not there yet
        }
        Ok(page(&self.target(info)))
    }

    async fn on_target(&self, method: &str, target: &str) -> Result<(), Problem> {
        match self.ask(method, json!({ "targetId": target })).await {
            Ok(_) => Ok(()),
            Err(CommandError::Refused { .. }) => {
                Err(Problem::new(Slug::NotFound, format!("No such target id: {target}")))
            }
            Err(error) => Err(failed(error)),
        }
    }

    async fn protocol(&self) -> Result<Response, Problem> {
        let browser = self.browser.to_owned();
        // The first time it is searched for in the browser's resources.
        let found = tokio::task::spawn_blocking(move || protocol(&browser)).await;
        match found {
            Ok(Ok(description)) => {
                Ok(([(header::CONTENT_TYPE, JSON)], description).into_response())
            }
            Ok(Err(error)) => {
                error!(%error, "the browser's protocol description cannot be read");
                Err(Problem::new(Slug::NotFound, "this browser brings no protocol description"))
            }
            Err(_) => Err(Problem::new(Slug::Internal, "the description could not be read")),
        }
    }

    async fn ask(&self, method: &str, params: Value) -> Result<Value, CommandError> {
        self.mux.command(method, params).await
    }

    /// A target without `devtoolsFrontendUrl`: Chrome's leads to another party's server, which
    /// would be told the token.
    fn target(&self, info: &Value) -> Value {
        let id = info["targetId"].as_str().unwrap_or_default();
        let socket = format!("{}/devtools/page/{id}?token={}", self.base, self.token);
        let mut target = json!({
            "description": "",
            "id": id,
            "title": info["title"],
            "type": info["type"],
            "url": info["url"],
            "webSocketDebuggerUrl": socket,
        });
        if let Some(opener) = info["openerId"].as_str() {
            target["parentId"] = opener.into();
        }
        target
    }
}

const JSON: &str = "application/json; charset=UTF-8";

fn page(body: &Value) -> Response {
    json_page(pretty(body) + "\n")
}

fn text(body: &'static str) -> Response {
    json_page(body.to_owned())
}

fn json_page(body: String) -> Response {
    ([(header::CONTENT_TYPE, JSON)], body).into_response()
}

/// Laid out as Chrome does it, for those who read it with a line editor.
fn pretty(value: &Value) -> String {
    let mut text = Vec::new();
    let layout = PrettyFormatter::with_indent(b"   ");
    // Writing to memory does not fail.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut text, layout));
    String::from_utf8_lossy(&text).into_owned()
}

/// What a client hears that asks for something Chrome does not serve.
pub fn unknown_path(path: &str) -> String {
    match path.strip_prefix("json/") {
        Some(command) => format!("Unknown command: {command}"),
        None => "no CDP endpoint is at this path".to_owned(),
    }
}

fn failed(error: CommandError) -> Problem {
    match error {
        CommandError::Refused { message, .. } => Problem::malformed(message),
        CommandError::TimedOut | CommandError::Closed => {
            Problem::new(Slug::SessionNotReady, error.to_string())
        }
    }
}

/// Resolves `%XX`; what is malformed stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
