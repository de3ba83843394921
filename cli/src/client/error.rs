//! What can go wrong with a client command, how it is told, and the exit code it gives.

use std::fmt::{self, Write};

use serde::Deserialize;
use serde_json::json;

use super::said::plain;

/// The outcome of a step.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a client command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered, and said no.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// No whole answer came.
    #[error("no answer from {url}: {cause}")]
    Unreachable {
        /// Which server.
        url: String,
        /// What happened on the way.
        cause: String,
    },
    /// There is nobody to act for.
    #[error("not signed in at {0}: run `ventus login`")]
    SignedOut(String),
    /// There is no key to act with.
    #[error("no API key: {0}")]
    NoKey(String),
    /// There is no such thing in a list.
    #[error("{0}")]
    Absent(String),
    /// The thing exists, and is past what was asked of it.
    #[error("{0}")]
    Over(String),
    /// The command line, or a file that it names, makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Something on this machine.
    #[error("{0:#}")]
    Local(#[from] anyhow::Error),
}

/// An answer that is not a success.
#[derive(Debug)]
pub struct Refusal {
    /// Its status code.
    pub status: u16,
    /// The body as it came.
    text: String,
    /// What of it could be read.
    problem: Problem,
    /// Seconds after which it may go better.
    retry_after: Option<u32>,
}

/// What of a problem document (RFC 9457) people read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
    errors: Vec<Fault>,
    request_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Fault {
    pointer: String,
    detail: String,
}

impl Refusal {
    /// What an answer of this status says.
    pub fn read(status: u16, text: String, retry_after: Option<u32>) -> Self {
        let problem = serde_json::from_str(&text).unwrap_or_default();
        Self { status, text, problem, retry_after }
    }

    fn is_problem(&self) -> bool {
        self.problem.title.is_some()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, problem, .. } = self;
        let Some(title) = &problem.title else {
            return write!(f, "the server answered {status} without saying why: is it Ventus?");
        };
        write!(f, "{} ({status})", plain(title))?;
        let detail = problem.detail.as_deref().unwrap_or_default();
        if !detail.is_empty() {
            write!(f, ": {}", plain(detail))?;
        }
        let told =
            |fault: &&Fault| !(detail.contains(&fault.pointer) && detail.contains(&fault.detail));
        for fault in problem.errors.iter().filter(told) {
            write!(f, "\n  {}: {}", plain(&fault.pointer), plain(&fault.detail))?;
        }
        if let Some(seconds) = self.retry_after {
            write!(f, "\n  try again in {seconds} s")?;
        }
        if let Some(id) = &problem.request_id {
            write!(f, "\n  request id {}", plain(id))?;
        }
        Ok(())
    }
}

impl Error {
    /// No whole answer came.
    pub fn unreachable(url: &str, error: &reqwest::Error) -> Self {
        let cause = if error.is_timeout() { "it took too long".to_owned() } else { root(error) };
        Self::Unreachable { url: url.to_owned(), cause }
    }

    /// The command line makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// Whether the server knows no such credential.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == 401)
    }

    /// What the process ends with; [`super::EXIT_CODES`] tells users.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Local(_) => 1,
            Self::Usage(_) => 2,
            Self::SignedOut(_) | Self::NoKey(_) => 3,
            Self::Absent(_) => 4,
            Self::Over(_) => 5,
            Self::Unreachable { .. } => 7,
            Self::Refused(refusal) => match refusal.status {
                400 | 413 | 415 | 422 => 2,
                401 | 403 => 3,
                404 => 4,
                409 | 410 => 5,
                429 | 503 => 6,
                _ => 1,
            },
        }
    }

    /// One JSON object: the server's problem document as it came, or one of the same shape.
    fn json(&self) -> String {
        match self {
            Self::Refused(refusal) if refusal.is_problem() => refusal.text.trim_end().to_owned(),
            other => json!({ "type": "about:blank", "title": other.to_string() }).to_string(),
        }
    }

    /// Says it on stderr.
    pub fn print(&self, json: bool) {
        let mut text = String::new();
        let _ = if json { write!(text, "{}", self.json()) } else { write!(text, "error: {self}") };
        eprintln!("{text}");
    }
}

/// What is at the bottom of an error: the layers above only say that there was one. Never the
/// URL, whose query may hold what is nobody's business.
fn root(error: &reqwest::Error) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    let mut text = "the connection broke".to_owned();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &serde_json::Value) -> Error {
        Error::Refused(Box::new(Refusal::read(status, body.to_string(), None)))
    }

    #[test]
    fn a_problem_is_told_with_all_its_faults_and_none_of_them_twice() {
        let error = refused(
            422,
            &json!({
                "title": "The request is not valid", "detail": "2 faults, at /a, /b",
                "errors": [{"pointer": "/a", "detail": "too big"}, {"pointer": "/b", "detail": "no"}],
                "request_id": "01R",
            }),
        );
        assert_eq!(
            error.to_string(),
            "The request is not valid (422): 2 faults, at /a, /b\n  /a: too big\n  /b: no\n  \
             request id 01R"
        );
        let one = json!({
            "title": "T", "detail": "/a: too big",
            "errors": [{"pointer": "/a", "detail": "too big"}],
        });
        assert_eq!(refused(422, &one).to_string(), "T (422): /a: too big");
    }

    #[test]
    fn what_a_server_says_cannot_command_the_terminal() {
        let error = refused(404, &json!({"title": "a\u{1b}[2Jb", "detail": "c\nd"}));
        assert_eq!(error.to_string(), "a\u{fffd}[2Jb (404): c\u{fffd}d");
    }

    #[test]
    fn programs_get_the_problem_document_as_it_came() {
        let body = json!({"title": "T", "status": 404, "more": 1});
        assert_eq!(refused(404, &body).json(), body.to_string());
        let own = Error::SignedOut("http://x".into()).json();
        let own: serde_json::Value = serde_json::from_str(&own).unwrap();
        assert_eq!(own["title"], "not signed in at http://x: run `ventus login`");
    }

    #[test]
    fn an_exit_code_tells_what_to_do_next() {
        let code = |status| refused(status, &json!({})).exit_code();
        let codes = [400, 401, 403, 404, 409, 410, 413, 422, 429, 500, 503].map(code);
        assert_eq!(codes, [2, 3, 3, 4, 5, 5, 2, 2, 6, 1, 6]);
    }
}
