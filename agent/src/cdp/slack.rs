//! A buffer that held a large message gives the memory back when it is not used any more.

use std::time::{Duration, Instant};

use bytes::BytesMut;

/// A message, in bytes, for which a buffer has grown far beyond what it usually needs.
const LARGE: usize = 1 << 20;

/// How long the room is kept: where one large message was, another may follow.
const KEPT: Duration = Duration::from_secs(2);

/// When a buffer last held a large message.
#[derive(Default)]
pub(super) struct Slack(Option<Instant>);

impl Slack {
    /// A message of this length was in the buffer.
    pub fn held(&mut self, length: usize) {
        if length > LARGE {
            self.0 = Some(Instant::now());
        }
    }

    /// Gives the room back if it is time.
    pub fn trim(&mut self, buffer: &mut BytesMut) {
        if buffer.is_empty() && self.0.is_some_and(|held| held.elapsed() > KEPT) {
            self.0 = None;
            *buffer = BytesMut::new();
        }
    }
}
