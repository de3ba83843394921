//! What clients and the browser send, read for [`crate::strangers`].

use std::path::Path;

use bytes::BytesMut;
use serde_json::Value;

use super::{
    guard::{ContextProxy, Guard},
    hidden::TargetNews,
    routes::Special,
    scan::scan,
    tail::{answered_id, session_at_tail, strip_session, target_event},
    websocket::{Frames, Incoming},
};

/// Frames of a client: however they are cut on their way, the same messages come out.
pub(crate) fn of_client(bytes: &[u8]) {
    let whole = messages(&[bytes]);
    let (one, rest) = bytes.split_at(bytes.len() / 3);
    let (two, three) = rest.split_at(rest.len() / 2);
    assert_eq!(whole, messages(&[one, two, three]));
    for message in &whole {
        if let Ok(command) = scan(message.as_bytes()) {
            Special::of(&command.method, command.params);
        }
    }
}

/// A command that the guard judges: what goes to Chrome instead of it is the same command, and
/// judged anew it passes.
pub(crate) fn of_commander(message: &[u8]) {
    let Ok(command) = scan(message) else { return };
    if command.clean.is_some() {
        return; // see `of_client`: what is judged is the message without them
    }
    let way = |_: &str| {
        Ok(ContextProxy { server: "socks5://127.0.0.2:9".to_owned(), held: Box::new(()) })
    };
    let guard = Guard::new(Path::new("/browser"), Box::new(way));
    let barred = |target: &str| target == "BARRED";
    let Ok(judged) = guard.judge(&command.method, command.params, &barred) else { return };
    let mut text = command.rewritten(judged.arguments.as_ref());
    text.push(b'}');
    let sent = scan(&text).unwrap_or_else(|_| panic!("no command any more"));
    assert_eq!((sent.id, &sent.method), (command.id, &command.method));
    assert!(guard.judge(&sent.method, sent.params, &barred).is_ok(), "it passed only once");
}

/// What comes out of these bytes, up to the end of the connection, and how that ends.
fn messages(parts: &[&[u8]]) -> Vec<String> {
    let mut frames = Frames::default();
    let mut found = Vec::new();
    for part in parts {
        frames.buffer.extend_from_slice(part);
        loop {
            match frames.next() {
                Ok(None) => break,
                Ok(Some(Incoming::Text(text))) => {
                    found.push(String::from_utf8_lossy(&text).into_owned());
                }
                Ok(Some(end @ (Incoming::Binary | Incoming::Close(_)))) => {
                    found.push(format!("{end:?}"));
                    return found;
                }
                Ok(Some(control)) => found.push(format!("{control:?}")),
                Err(violation) => {
                    found.push(violation.to_string());
                    return found;
                }
            }
        }
    }
    found
}

/// A message of Chrome's: what is found at its ends is what it says, if it is JSON at all.
pub(crate) fn of_chrome(message: &[u8]) {
    let parsed = serde_json::from_slice::<Value>(message).ok();
    target_event(message);
    TargetNews::read(message);
    if let Some(id) = answered_id(message)
        && let Some(parsed) = &parsed
    {
        assert!(
            parsed["id"] == id || message.windows(4).filter(|four| four == b"\"id\"").count() > 1
        );
    }
    if session_at_tail(message).is_some() {
        let mut stripped = BytesMut::from(message);
        strip_session(&mut stripped);
        assert!(parsed.is_none() || serde_json::from_slice::<Value>(&stripped).is_ok());
    }
}
