//! What the contexts of clients need for as long as they are there: their proxies.
//!
//! A context is known by the answer to the command that makes it. Chrome does not tell when one
//! goes, so after a command or a client's end that may have been the end of some, it is asked
//! for those that are left.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::routes::Key;

/// Contexts that hold something, which ends when it is dropped.
#[derive(Default)]
pub(super) struct Contexts {
    /// Not made yet, by the session and the number of the command that makes it.
    asked: HashMap<(Key, i32), Box<dyn Send>>,
    there: HashMap<String, Box<dyn Send>>,
}

impl Contexts {
    /// A command that makes a context is on its way.
    pub fn asked(&mut self, key: Key, id: i32, held: Box<dyn Send>) {
        self.asked.insert((key, id), held);
    }

    pub fn expects_any(&self) -> bool {
        !self.asked.is_empty()
    }

    pub fn any(&self) -> bool {
        !self.there.is_empty()
    }

    /// An answer came: if it makes a context, that is there from now on.
    pub fn answered(&mut self, key: Key, id: i32, answer: &[u8]) {
        #[derive(Deserialize)]
        struct Answer {
            result: Made,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Made {
            browser_context_id: String,
        }
        let Some(held) = self.asked.remove(&(key, id)) else { return };
        if let Ok(Answer { result }) = serde_json::from_slice(answer) {
            self.there.insert(result.browser_context_id, held);
        }
    }

    /// A session is gone: no answer comes there.
    pub fn session_gone(&mut self, key: Key) {
        self.asked.retain(|(of, _), _| *of != key);
    }

    /// Chrome told which contexts there are.
    pub fn there_are(&mut self, answer: &Value) {
        let ids = answer["browserContextIds"].as_array().map_or(&[][..], Vec::as_slice);
        self.there.retain(|id, _| ids.iter().any(|other| other == id));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_context_holds_ends_with_it() {
        let key = Key::read(&[b'A'; 32]).unwrap();
        let mut contexts = Contexts::default();
        let held: Vec<_> = (0..4).map(Arc::new).collect();
        for (id, held) in (1..).zip(&held) {
            contexts.asked(key, id, Box::new(held.clone()));
        }
        let is_held = || held.iter().map(|held| Arc::strong_count(held) > 1).collect::<Vec<_>>();
        contexts.answered(key, 1, br#"{"id":1,"result":{"browserContextId":"ONE"}}"#);
        contexts.answered(key, 2, br#"{"id":2,"result":{"browserContextId":"TWO"}}"#);
        contexts.answered(key, 3, br#"{"id":3,"error":{"code":-32000,"message":"no"}}"#);
        assert_eq!(is_held(), [true, true, false, true]);
        contexts.session_gone(key);
        assert_eq!(is_held(), [true, true, false, false]);
        contexts.there_are(&json!({ "browserContextIds": ["TWO", "OTHER"] }));
        assert_eq!(is_held(), [false, true, false, false]);
        contexts.there_are(&json!({ "browserContextIds": [] }));
        assert!(!contexts.any());
    }
}
