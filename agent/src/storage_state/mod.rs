//! What a browser keeps for the sites that were open in it: cookies, local storage and
//! IndexedDB of its default context, in the shape of Playwright's `storageState`.
//!
//! Cookies are read and set through the browser itself. What an origin stores only its own
//! pages can reach: a page of the agent's goes there, without the network, and runs a script.
//! Clients do not notice that page.
//!
//! Origins whose storage is read are those where pages have been, and those of the same sites
//! that the browser asked the network for: of a frame, a worker or a redirect, say.
//!
//! Not covered, as in Playwright: contexts other than the default one, session storage, what
//! frames of one site store below another, and values that have no JSON form there (files,
//! blobs, keys of Web Crypto: saved as empty objects).

mod candidates;
mod cookies;
mod parse;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod visit;

use std::{sync::Arc, time::Duration};

use proto::STORAGE_STATE_MAX;
use serde_json::{Value, value::RawValue};
use tokio::time::timeout;

use self::{parse::State, visit::Visitor};
use crate::cdp::{CommandError, Mux, web_origin};

/// How long restoring or reading a whole state may take: less than the control plane waits.
const LIMIT: Duration = Duration::from_secs(50);

/// Why a state is not restored or cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// A part of it is not as it has to be.
    #[error("{place} {fault}")]
    Invalid {
        /// Which part.
        place: String,
        /// What is wrong with it.
        fault: String,
    },
    /// It is longer than a state may be.
    #[error("it is larger than {} MiB", STORAGE_STATE_MAX >> 20)]
    TooLarge,
    /// It took longer than it may.
    #[error("it takes longer than {} s", LIMIT.as_secs())]
    TooSlow,
    /// The browser fails.
    #[error(transparent)]
    Browser(#[from] CommandError),
}

impl StateError {
    fn invalid(place: impl Into<String>, fault: impl Into<String>) -> Self {
        Self::Invalid { place: place.into(), fault: fault.into() }
    }
}

/// Puts a state (JSON) into a browser's default context.
///
/// # Errors
///
/// When the state is not of Playwright's shape, the browser refuses a part of it, or it takes
/// too long. What was restored until then stays.
pub(crate) async fn apply(mux: &Arc<Mux>, state: &[u8]) -> Result<(), StateError> {
    if state.len() > STORAGE_STATE_MAX {
        return Err(StateError::TooLarge);
    }
    let State { cookies, origins } = State::read(state)?;
    let applying = async {
        cookies::set(mux, cookies).await?;
        if origins.is_empty() {
            return Ok(());
        }
        let mut visitor = Visitor::open(mux).await?;
        for origin in &origins {
            visitor.write(&origin.origin, &origin.stored).await?;
        }
        mux.keep_visited(origins.into_iter().map(|origin| origin.origin).collect());
        Ok(())
    };
    timeout(LIMIT, applying).await.unwrap_or(Err(StateError::TooSlow))
}

/// Reads a state (JSON) as [`apply`] does, for [`crate::strangers`].
pub(crate) fn read(state: &[u8]) {
    if let Ok(State { origins, .. }) = State::read(state) {
        assert!(origins.iter().all(|of| web_origin(&of.origin).as_ref() == Some(&of.origin)));
    }
}

/// Reads the state (JSON) of a browser's default context: all cookies, and what is stored by
/// the origins where its pages have been, those of a state that was applied, and those that may
/// belong to `places` (`host:port`) of the same sites.
///
/// # Errors
///
/// When the state is too large, an origin cannot be read, or the browser goes.
pub(crate) async fn capture(mux: &Arc<Mux>, places: &[String]) -> Result<Vec<u8>, StateError> {
    let capturing = async {
        let cookies = cookies::get(mux).await?;
        let candidates = candidates::of(mux.visited(), places);
        let mut origins = Vec::new();
        let mut left = STORAGE_STATE_MAX;
        if !candidates.is_empty() {
            let mut visitor = Visitor::open(mux).await?;
            for origin in &candidates {
                let stored = visitor.read(origin, left).await?;
                if let Some(entry) = entry(origin, &stored)? {
                    left = left.checked_sub(entry.get().len()).ok_or(StateError::TooLarge)?;
                    origins.push(entry);
                }
            }
        }
        write(&cookies, &origins)
    };
    timeout(LIMIT, capturing).await.unwrap_or(Err(StateError::TooSlow))
}

/// An entry of `origins`, from the script's answer; `None` when nothing is stored.
fn entry(origin: &str, stored: &str) -> Result<Option<Box<RawValue>>, StateError> {
    let Some(members) = stored.strip_prefix('{') else { return Ok(None) };
    let text = format!(r#"{{"origin":{},{members}"#, Value::from(origin));
    let entry = RawValue::from_string(text);
    entry.map(Some).map_err(|_| StateError::invalid(origin, "answers what is no JSON"))
}

fn write(cookies: &[Value], origins: &[Box<RawValue>]) -> Result<Vec<u8>, StateError> {
    #[derive(serde::Serialize)]
    struct Written<'a> {
        cookies: &'a [Value],
        origins: &'a [Box<RawValue>],
    }
    let state = serde_json::to_vec(&Written { cookies, origins });
    let state = state.map_err(|_| StateError::invalid("it", "cannot be written"))?;
    if state.len() > STORAGE_STATE_MAX {
        return Err(StateError::TooLarge);
    }
    Ok(state)
}
