//! A storage state as it comes in: Playwright's shape, checked piece by piece, so that what is
//! wrong can be named. Values never appear in an error.
//!
//! Text stays as it came wherever possible: pages may store what is no valid Unicode.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;

use super::{StateError, cookies::Cookie};
use crate::cdp::web_origin;

/// A state to be put into a browser.
#[derive(Default)]
pub(super) struct State {
    pub cookies: Vec<Cookie>,
    pub origins: Vec<Origin>,
}

/// What one origin is to store.
pub(super) struct Origin {
    /// As browsers write it.
    pub origin: String,
    /// `{"localStorage": […], "indexedDB": […]}`
    pub stored: String,
}

#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow, default)]
    cookies: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    origins: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    credentials: Option<Vec<&'a RawValue>>,
}

/// An entry of `origins`, but for what it stores.
#[derive(Deserialize)]
struct Entry<'a> {
    origin: String,
    #[serde(borrow, default)]
    opfs: Option<Vec<&'a RawValue>>,
}

/// What an entry of `origins` stores.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stored<'a> {
    #[serde(borrow, default)]
    local_storage: Vec<Item<'a>>,
    #[serde(borrow, default, rename = "indexedDB", deserialize_with = "or_none")]
    indexed_db: Vec<Database<'a>>,
}

#[derive(Deserialize, Serialize)]
struct Item<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    value: Text<'a>,
}

#[derive(Deserialize, Serialize)]
struct Database<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(deserialize_with = "whole")]
    version: u64,
    #[serde(borrow)]
    stores: Vec<Store<'a>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Store<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    auto_increment: bool,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key_path: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key_path_array: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    records: Vec<&'a RawValue>,
    #[serde(borrow)]
    indexes: Vec<Index<'a>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key_path: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key_path_array: Option<Vec<Text<'a>>>,
    multi_entry: bool,
    unique: bool,
}

/// The largest number that JavaScript tells from its neighbours, and the largest version that
/// IndexedDB takes.
const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;

/// A text as it is written in JSON.
#[derive(Serialize)]
struct Text<'a>(&'a RawValue);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        raw.get().starts_with('"').then_some(Self(raw)).ok_or_else(|| de::Error::custom("no text"))
    }
}

/// A whole number; JSON may write 3 as `3.0`.
fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let number = f64::deserialize(from)?;
    let exact = number.fract() == 0.0 && (0.0..=MAX_SAFE_INTEGER).contains(&number);
    // Within these bounds a float holds every integer.
    exact.then_some(number as u64).ok_or_else(|| de::Error::custom("no whole number"))
}

fn or_none<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Vec<Database<'a>>, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// Reads an object; serde itself would take a list for one. What serde has to say quotes
/// values, and is not passed on.
fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    if !json.trim_start().starts_with('{') {
        return None;
    }
    serde_json::from_str(json).ok()
}

impl State {
    /// Reads a state. An origin that is there twice counts as it is there last.
    ///
    /// # Errors
    ///
    /// When a part of it is not of Playwright's shape, or cannot be restored.
    pub fn read(json: &[u8]) -> Result<Self, StateError> {
        let parts = std::str::from_utf8(json).ok().and_then(object::<Parts<'_>>);
        let parts = parts.ok_or_else(|| {
            StateError::invalid("it", "has to be an object with lists of cookies and origins")
        })?;
        if parts.credentials.is_some_and(|some| !some.is_empty()) {
            return Err(StateError::invalid("credentials", "cannot be restored"));
        }
        let cookies = parts.cookies.iter().enumerate();
        let cookies = cookies.map(|(n, raw)| Cookie::read(n, raw.get()));
        let mut origins: Vec<Origin> = Vec::with_capacity(parts.origins.len());
        let mut places = HashMap::new();
        for (n, raw) in parts.origins.iter().enumerate() {
            let origin = Origin::read(n, raw.get())?;
            match places.insert(origin.origin.clone(), origins.len()) {
                Some(place) => {
                    places.insert(origin.origin.clone(), place);
                    origins[place] = origin;
                }
                None => origins.push(origin),
            }
        }
        let cookies = cookies.collect::<Result<_, _>>()?;
        Ok(Self { cookies, origins })
    }
}

impl Origin {
    fn read(n: usize, json: &str) -> Result<Self, StateError> {
        let place = format!("origins[{n}]");
        let entry = object::<Entry<'_>>(json)
            .ok_or_else(|| StateError::invalid(&place, "has to be an object with an origin"))?;
        let Some(origin) = web_origin(&entry.origin) else {
            return Err(StateError::invalid(&place, "is of no http or https origin"));
        };
        let place = format!("{place} ({origin})");
        if entry.opfs.is_some_and(|files| !files.is_empty()) {
            return Err(StateError::invalid(&place, "has files (opfs), which cannot be restored"));
        }
        let stored = object::<Stored<'_>>(json).ok_or_else(|| {
            let fault = "has a localStorage or an indexedDB that is not of Playwright's shape";
            StateError::invalid(&place, fault)
        })?;
        let stored = serde_json::to_string(&stored)
            .map_err(|_| StateError::invalid(&place, "cannot be written"))?;
        Ok(Self { origin, stored })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fault(state: &serde_json::Value) -> String {
        match State::read(state.to_string().as_bytes()) {
            Ok(_) => panic!("taken: {state}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_version_is_a_whole_number_however_it_is_written() {
        let taken = |version: &str| {
            let database = format!(r#"{{"name":"d","version":{version},"stores":[]}}"#);
            let origin = format!(r#"{{"origin":"https://a.example","indexedDB":[{database}]}}"#);
            State::read(format!(r#"{{"origins":[{origin}]}}"#).as_bytes()).is_ok()
        };
        for good in ["1", "1.0", "3e2", "9007199254740991"] {
            assert!(taken(good), "{good}");
        }
        for bad in ["1.5", "-1", "9007199254740993", "1e300", "\"1\"", "null"] {
            assert!(!taken(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_without_its_value() {
        let cookie = |change: serde_json::Value| {
            let mut cookie =
                json!({ "name": "sid", "value": "hush", "domain": "a.example", "path": "/" });
            cookie.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            json!({ "cookies": [cookie] })
        };
        let origin = |entry: serde_json::Value| json!({ "origins": [{ "origin": "https://b.example" }, entry] });
        for (state, place) in [
            (json!([]), "it has to be"),
            (json!({ "cookies": "hush" }), "it has to be"),
            (json!({ "cookies": ["hush"] }), "cookies[0] has to be an object"),
            (
                cookie(json!({ "value": 7 })),
                "cookies[0] (sid on a.example) has a value that is no text",
            ),
            (cookie(json!({ "domain": "" })), "cookies[0] has no domain"),
            (cookie(json!({ "path": "hush" })), "path"),
            (cookie(json!({ "expires": "hush" })), "expires"),
            (cookie(json!({ "secure": "hush" })), "secure"),
            (cookie(json!({ "sameSite": "hush" })), "sameSite"),
            (cookie(json!({ "partitionKey": {"hush": 1} })), "partitionKey"),
            (json!({ "credentials": ["hush"] }), "credentials"),
            (origin(json!({ "origin": "hush" })), "origins[1] is of no http"),
            (
                origin(
                    json!({ "origin": "https://a.example", "localStorage": [{ "name": "hush" }] }),
                ),
                "origins[1] (https://a.example) has a localStorage",
            ),
            (
                origin(
                    json!({ "origin": "https://a.example", "localStorage": [{ "name": "a", "value": 7 }] }),
                ),
                "localStorage",
            ),
            (
                origin(json!({ "origin": "https://a.example", "indexedDB": [{ "name": "hush" }] })),
                "indexedDB",
            ),
            (
                origin(json!({ "origin": "https://a.example", "opfs": [{ "path": "hush" }] })),
                "opfs",
            ),
        ] {
            let fault = fault(&state);
            assert!(fault.contains(place), "{state}: {fault}");
            assert!(!fault.contains("hush"), "{state}: {fault}");
        }
    }

    #[test]
    fn an_origin_that_is_there_twice_counts_as_it_is_there_last() {
        let entry = |origin: &str, value: &str| json!({ "origin": origin, "localStorage": [{ "name": "a", "value": value }] });
        let state = json!({ "origins": [
            entry("https://a.example/", "first"),
            entry("https://b.example", "b"),
            entry("https://A.example:443", "last"),
        ] });
        let state = State::read(state.to_string().as_bytes()).unwrap();
        let origins: Vec<_> = state.origins.iter().map(|origin| origin.origin.as_str()).collect();
        assert_eq!(origins, ["https://a.example", "https://b.example"]);
        assert!(state.origins[0].stored.contains("last"));
    }

    #[test]
    fn text_that_is_no_unicode_stays_as_it_is() {
        let state = br#"{"origins":[{"origin":"https://a.example","localStorage":[{"name":"a","value":"\ud800"}]}]}"#;
        let state = State::read(state).unwrap();
        let stored = r#"{"localStorage":[{"name":"a","value":"\ud800"}],"indexedDB":[]}"#;
        assert_eq!(state.origins[0].stored, stored);
    }
}
