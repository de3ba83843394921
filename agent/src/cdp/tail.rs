//! Chrome's messages, read where they are cheap to read: Chrome writes an event's name and the
//! number of an answered command first, and the session last.

use bytes::BytesMut;
use memchr::memchr;

use super::routes::{KEY_DIGITS, Key};

/// What Chrome writes last in a message of a session: a comma, this, the id and two marks.
const SESSION_MEMBER: &[u8] = b",\"sessionId\":\"";
const SESSION_TAIL: usize = SESSION_MEMBER.len() + KEY_DIGITS + b"\"}".len();

/// The session of a message. Unescaped quotes stand only around strings, so nothing else
/// than the last top-level member can look like this.
pub(super) fn session_at_tail(message: &[u8]) -> Option<Key> {
    let tail = &message[message.len().checked_sub(SESSION_TAIL)?..];
    let digits = tail.strip_prefix(SESSION_MEMBER)?.strip_suffix(b"\"}")?;
    Key::read(digits)
}

/// Takes the session off a message that has one.
pub(super) fn strip_session(message: &mut BytesMut) {
    let comma = message.len() - SESSION_TAIL;
    message[comma] = b'}';
    message.truncate(comma + 1);
}

pub(super) enum TargetEvent {
    Attached(Key),
    Detached(Key),
}

/// The events that change who owns what, as Chrome writes them.
pub(super) fn target_event(message: &[u8]) -> Option<TargetEvent> {
    let event = message.strip_prefix(b"{\"method\":\"Target.")?;
    let key = |params: &[u8]| Key::read(params.get(..KEY_DIGITS)?);
    if let Some(params) = event.strip_prefix(b"attachedToTarget\",\"params\":{\"sessionId\":\"") {
        return key(params).map(TargetEvent::Attached);
    }
    let params = event.strip_prefix(b"detachedFromTarget\",\"params\":{\"sessionId\":\"")?;
    key(params).map(TargetEvent::Detached)
}

/// The number of the command that a message answers.
pub(super) fn answered_id(message: &[u8]) -> Option<i32> {
    let digits = message.strip_prefix(b"{\"id\":")?;
    let end = memchr(b',', digits)?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}
