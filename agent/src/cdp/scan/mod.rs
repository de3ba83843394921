//! One pass over a client's message: is it a command, which one, and for which session.
//!
//! Chrome reads a message as JSON (its own dialect: raw control characters in strings and
//! lone surrogates are fine, more than 300 levels are not), then as a command
//! (`id`, `method`, `params`, `sessionId` and nothing else). What it refuses, it refuses
//! without saying for which session, so over a shared pipe nobody could be told. Hence the
//! same judgement here, in Chrome's words, before a byte is written: see `crdtp/json.cc`,
//! `crdtp/dispatch.cc` and `crdtp/status.cc` of Chromium for the reference.

mod cbor;
mod json;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt::Write as _};

use serde_json::{Map, Value};

use self::json::{Kind, Scanner, Top, string};
use super::pipe::MESSAGE_MAX as LONGEST;

/// A well-formed command.
#[derive(Debug)]
pub struct Command<'a> {
    /// Its number, unique among the client's commands in flight on that session.
    pub id: i32,
    /// What is to be done, such as `Page.navigate`.
    pub method: Cow<'a, str>,
    /// The arguments: an object, or nothing.
    pub params: Option<&'a [u8]>,
    /// The session that it names; empty for the connection's own.
    pub session: Cow<'a, str>,
    /// Where the message's closing brace stands.
    pub end: usize,
    /// Whether it is written so that nobody can read another method in it: every member once
    /// and without escapes, the method before the arguments. Chrome refuses a second method.
    pub plain: bool,
    /// The message written without raw NUL characters, if it has any: none must reach the
    /// pipe, where they separate messages.
    pub clean: Option<Clean>,
}

impl Command<'_> {
    /// The command in a plain form, with these arguments or else its own, up to where its
    /// session and the closing brace belong.
    pub fn rewritten(&self, arguments: Option<&Map<String, Value>>) -> Vec<u8> {
        let method = Value::from(self.method.as_ref());
        let mut text = format!("{{\"id\":{},\"method\":{method}", self.id).into_bytes();
        let arguments = arguments.and_then(|arguments| serde_json::to_vec(arguments).ok());
        if let Some(arguments) = arguments.as_deref().or(self.params) {
            text.extend_from_slice(b",\"params\":");
            text.extend_from_slice(arguments);
        }
        text
    }
}

/// What means the same as a message with raw NUL characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clean {
    /// The same message without them.
    Message(Vec<u8>),
    /// It is longer than Chrome's pipe takes.
    TooLong,
}

/// Why a message is no command, as Chrome says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The command's number, if it was read before the fault.
    pub id: Option<i32>,
    /// −32700: not JSON, −32600: not a command.
    pub code: i32,
    /// Chrome's sentence.
    pub message: Cow<'static, str>,
}

impl Refusal {
    fn json(what: &'static str, at: usize) -> Self {
        Self { id: None, code: -32700, message: format!("JSON: {what} at position {at}").into() }
    }

    fn invalid(id: Option<i32>, message: &'static str) -> Self {
        Self { id, code: -32600, message: message.into() }
    }

    /// The answer to the client.
    pub fn answer(&self) -> String {
        error_answer(self.id, self.code, &self.message)
    }
}

/// Chrome's answer to a command that it does not carry out. `message` needs no escapes.
pub fn error_answer(id: Option<i32>, code: i32, message: &str) -> String {
    let mut answer = String::with_capacity(64 + message.len());
    answer.push('{');
    if let Some(id) = id {
        let _ = write!(answer, "\"id\":{id},");
    }
    let _ = write!(answer, "\"error\":{{\"code\":{code},\"message\":\"{message}\"}}}}");
    answer
}

/// Reads one message.
pub fn scan(message: &[u8]) -> Result<Command<'_>, Refusal> {
    let mut scanner = Scanner::new(message);
    let kind = scanner.value(0)?;
    if scanner.at != message.len() {
        return Err(Refusal::json("unprocessed input remains", scanner.at));
    }
    if kind != Kind::Object {
        return Err(Refusal::invalid(None, "Message must be an object"));
    }
    let clean = scanner.clean();
    command(message, &scanner.top, clean)
}

/// Judges the members of a message as Chrome does: in their order, up to the first fault.
fn command<'a>(message: &'a [u8], top: &Top, clean: Option<Clean>) -> Result<Command<'a>, Refusal> {
    let (mut id, mut params_seen, mut plain) = (None, false, true);
    let (mut method, mut session) = (Cow::Borrowed(""), Cow::Borrowed(""));
    let mut params = None;
    let duplicate = |id, member| Refusal {
        id,
        code: -32700,
        message: cbor::fault("duplicate map key", message, top, member).into(),
    };
    for (index, member) in top.members.iter().flatten().enumerate() {
        let key = string(&message[member.key.clone()]);
        let value = &message[member.value.clone()];
        plain &= matches!(key, Cow::Borrowed(_));
        match key.as_ref() {
            _ if !key.is_ascii() => {
                let message = cbor::fault("invalid map key", message, top, index).into();
                return Err(Refusal { id, code: -32700, message });
            }
            "id" if id.is_some() => return Err(duplicate(id, index)),
            "id" => match member.kind {
                Kind::Int(number) => id = Some(number),
                _ => return Err(Refusal::invalid(id, MUST_HAVE_ID)),
            },
            "method" if !method.is_empty() => return Err(duplicate(id, index)),
            "method" => match member.kind {
                Kind::String if string(value).is_ascii() => {
                    method = string(value);
                    // An empty one may be followed by another.
                    let once = matches!(method, Cow::Borrowed(name) if !name.is_empty());
                    plain &= once && !params_seen;
                }
                _ => return Err(Refusal::invalid(id, MUST_HAVE_METHOD)),
            },
            "params" if params_seen => return Err(duplicate(id, index)),
            "params" => {
                params_seen = true;
                match member.kind {
                    Kind::Null => {}
                    Kind::Object | Kind::Array => params = Some(value),
                    _ => return Err(Refusal::invalid(id, MAY_HAVE_PARAMS)),
                }
            }
            "sessionId" if !session.is_empty() => return Err(duplicate(id, index)),
            "sessionId" => match member.kind {
                Kind::String if string(value).is_ascii() => {
                    session = string(value);
                    plain &= matches!(session, Cow::Borrowed(id) if !id.is_empty());
                }
                _ => return Err(Refusal::invalid(id, MAY_HAVE_SESSION)),
            },
            _ => return Err(Refusal::invalid(id, UNKNOWN_PROPERTY)),
        }
    }
    let Some(id) = id else { return Err(Refusal::invalid(None, MUST_HAVE_ID)) };
    if method.is_empty() {
        return Err(Refusal::invalid(Some(id), MUST_HAVE_METHOD));
    }
    Ok(Command { id, method, params, session, end: top.end, plain, clean })
}

const MUST_HAVE_ID: &str = "Message must have integer 'id' property";
const MUST_HAVE_METHOD: &str = "Message must have string 'method' property";
const MAY_HAVE_PARAMS: &str = "Message may have object 'params' property";
const MAY_HAVE_SESSION: &str = "Message may have string 'sessionId' property";
const UNKNOWN_PROPERTY: &str =
    "Message has property other than 'id', 'method', 'sessionId', 'params'";
