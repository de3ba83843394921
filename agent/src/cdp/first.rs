//! The first client of a session and its first command, as spans of the session's trace.
//!
//! What comes after them has no spans, and pays for these by looking at one number.

use std::sync::{
    Mutex,
    atomic::{
        AtomicU8,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

use proto::{id::SessionId, trace};
use tracing::{Instrument, Span, field::Empty, info_span};

use super::{
    mux::{JoinError, locked},
    routes::Key,
    tail::answered_id,
};

/// What is being waited for.
const NOTHING: u8 = 0;
const CLIENT: u8 = 1;
const COMMAND: u8 = 2;
const ANSWER: u8 = 3;

/// Follows a session to the answer to its first command.
#[derive(Default)]
pub(super) struct First {
    stage: AtomicU8,
    session: Mutex<Option<Traced>>,
    /// The first command, and the span that its answer ends.
    asked: Mutex<Option<(Key, i32, Span)>>,
}

/// A session and the trace that it belongs to.
struct Traced {
    id: SessionId,
    traceparent: String,
}

impl Traced {
    /// The span of a client that comes.
    fn connect(&self) -> Span {
        let span = info_span!(target: trace::TARGET, "client.connect",
            ventus.session.id = %self.id, otel.status_code = Empty, "error.type" = Empty);
        trace::continues(&span, &self.traceparent);
        span
    }

    /// The span of a command.
    fn command(&self, method: &str) -> Span {
        let span = info_span!(target: trace::TARGET, "client.first_command",
            ventus.session.id = %self.id, ventus.cdp.method = method, otel.status_code = Empty,
            "error.type" = Empty);
        trace::continues(&span, &self.traceparent);
        span
    }
}

impl First {
    /// From now on the browser is this session's. Nothing follows when no spans are exported.
    pub fn begin(&self, id: SessionId, traceparent: &str) {
        let traced = Traced { id, traceparent: traceparent.to_owned() };
        if tracing::enabled!(target: trace::TARGET, tracing::Level::INFO) {
            *locked(&self.session) = Some(traced);
            self.stage.store(CLIENT, Release);
        }
    }

    /// Waits for a client to get its place. If that fails, the next one is the first.
    pub async fn client<T>(
        &self,
        joining: impl Future<Output = Result<T, JoinError>>,
    ) -> Result<T, JoinError> {
        if !self.passes(CLIENT, COMMAND) {
            return joining.await;
        }
        let span = locked(&self.session).as_ref().map_or_else(Span::none, Traced::connect);
        let joined = joining.instrument(span.clone()).await;
        if joined.is_err() {
            trace::failed(span, "refused");
            self.passes(COMMAND, CLIENT);
        }
        joined
    }

    /// Some client's command is about to go to Chrome.
    pub fn command(&self, key: Key, id: i32, method: &str) {
        if self.stage.load(Relaxed) == COMMAND && self.passes(COMMAND, ANSWER) {
            let session = locked(&self.session).take();
            *locked(&self.asked) = session.map(|session| (key, id, session.command(method)));
        }
    }

    /// Chrome sent a client a message.
    pub fn message(&self, key: Key, message: &[u8]) {
        if self.stage.load(Relaxed) != ANSWER {
            return;
        }
        let mut asked = locked(&self.asked);
        let answers =
            |(of, id, _): &mut (Key, i32, Span)| *of == key && answered_id(message) == Some(*id);
        if asked.take_if(answers).is_some() {
            self.stage.store(NOTHING, Release);
        }
    }

    /// A client is gone: no answer comes to what was its own.
    pub fn left(&self, was_its_own: impl Fn(Key) -> bool) {
        if self.stage.load(Relaxed) != ANSWER {
            return;
        }
        let asked = locked(&self.asked).take_if(|(key, ..)| was_its_own(*key));
        if let Some((_, _, span)) = asked {
            trace::failed(span, "unanswered");
            self.stage.store(NOTHING, Release);
        }
    }

    /// Goes on to the next stage. False: another one was faster.
    fn passes(&self, from: u8, to: u8) -> bool {
        self.stage.compare_exchange(from, to, AcqRel, Acquire).is_ok()
    }
}
