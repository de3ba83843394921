//! The `Prefer` header (RFC 7240) of a create: how long to wait, and for what.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

/// How long a create waits for a slot unless it says otherwise.
const DEFAULT_WAIT_SECONDS: u64 = 5;
/// The longest wait that is granted.
const LONGEST_WAIT_SECONDS: u64 = 60;

/// What a create prefers. Anything else in the header is ignored, as the RFC asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Prefer {
    /// Answer once there is a slot, without waiting for the browser.
    pub respond_async: bool,
    wait_seconds: Option<u64>,
}

impl Prefer {
    /// Reads every `Prefer` header; of a preference named twice the first counts.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut prefer = Self::default();
        let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        for preference in values.flat_map(|value| value.split(',')) {
            // Parameters behind a semicolon mean nothing to these two.
            let preference = preference.split(';').next().unwrap_or_default();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "respond-async" => prefer.respond_async = true,
                "wait" if prefer.wait_seconds.is_none() => {
                    let asked = value.parse::<u64>().ok();
                    prefer.wait_seconds = asked.map(|wait| wait.min(LONGEST_WAIT_SECONDS));
                }
                _ => (),
            }
        }
        prefer
    }

    /// How long to wait for a slot.
    pub fn wait(self) -> Duration {
        Duration::from_secs(self.wait_seconds.unwrap_or(DEFAULT_WAIT_SECONDS))
    }

    /// The `Preference-Applied` of the answer, if anything was preferred.
    pub fn applied(self) -> Option<HeaderValue> {
        let wait = self.wait_seconds.map(|wait| format!("wait={wait}"));
        let respond_async = self.respond_async.then(|| "respond-async".to_owned());
        let applied: Vec<_> = respond_async.into_iter().chain(wait).collect();
        if applied.is_empty() { None } else { applied.join(", ").parse().ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefer(values: &[&'static str]) -> (bool, u64, Option<String>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("prefer", HeaderValue::from_static(value));
        }
        let prefer = Prefer::of(&headers);
        let applied = prefer.applied().map(|value| value.to_str().unwrap().to_owned());
        (prefer.respond_async, prefer.wait().as_secs(), applied)
    }

    #[test]
    fn preferences_are_read_as_the_rfc_says() {
        assert_eq!(prefer(&[]), (false, 5, None));
        assert_eq!(prefer(&["wait=0"]), (false, 0, Some("wait=0".into())));
        assert_eq!(prefer(&["wait=900"]), (false, 60, Some("wait=60".into())));
        assert_eq!(prefer(&["wait=soon"]), (false, 5, None));
        assert_eq!(prefer(&["wait=-1, handling=strict"]), (false, 5, None));
        let both = Some("respond-async, wait=7".into());
        assert_eq!(prefer(&["Respond-Async; x=1, Wait=\"7\""]), (true, 7, both.clone()));
        assert_eq!(prefer(&["respond-async", "wait=7, wait=9"]), (true, 7, both));
    }
}
