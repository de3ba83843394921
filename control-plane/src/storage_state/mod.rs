//! A browser's storage state in Playwright's shape: cookies, and for each origin its local
//! storage and IndexedDB. Checked here, and laid one over the other; only agents look deeper.
//!
//! It is a secret from its first byte to its last. What IndexedDB holds is passed on as it was
//! written: the order of an object's members is part of it.

mod check;
pub mod schema;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::Hash,
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::sessions::validate::Object;

/// The largest storage state that a caller may give, in bytes of its JSON.
pub const GIVEN_MAX: usize = 5 << 20;

/// A whole storage state.
#[derive(Clone, Default, Deserialize, Serialize)]
pub struct StorageState {
    #[serde(default, deserialize_with = "nullable")]
    cookies: Vec<Cookie>,
    #[serde(default, deserialize_with = "nullable")]
    origins: Vec<Origin>,
}

/// One cookie.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cookie {
    name: String,
    value: String,
    /// With a leading dot it is sent to subdomains too.
    domain: String,
    path: String,
    /// Unix seconds; -1: it ends with the session.
    #[serde(default = "never", deserialize_with = "nullable_never")]
    expires: serde_json::Number,
    #[serde(default, deserialize_with = "nullable")]
    http_only: bool,
    #[serde(default, deserialize_with = "nullable")]
    secure: bool,
    #[serde(default, deserialize_with = "nullable")]
    same_site: SameSite,
    /// The top-level site of a partitioned cookie (CHIPS).
    #[serde(skip_serializing_if = "Option::is_none")]
    partition_key: Option<String>,
    /// Playwright's own mark of a partitioned cookie.
    #[serde(rename = "_crHasCrossSiteAncestor", skip_serializing_if = "Option::is_none")]
    cross_site_ancestor: Option<bool>,
}

/// When a cookie is sent across sites.
#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
pub enum SameSite {
    /// Never.
    Strict,
    /// With navigations.
    #[default]
    Lax,
    /// Always.
    None,
}

/// What one origin has stored.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    origin: String,
    #[serde(default, deserialize_with = "nullable")]
    local_storage: Vec<Item>,
    #[serde(
        default,
        rename = "indexedDB",
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    indexed_db: Vec<Box<RawValue>>,
}

/// One item of local storage.
#[derive(Clone, Deserialize, Serialize)]
pub struct Item {
    name: String,
    value: String,
}

/// `null` is the same as nothing.
fn nullable<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

fn never() -> serde_json::Number {
    (-1).into()
}

fn nullable_never<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<serde_json::Number, D::Error> {
    Option::deserialize(from).map(|number| number.unwrap_or_else(never))
}

/// What should be a storage state is none. Says only where: serde's own words may quote it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a storage state: line {line}, column {column}")]
pub struct Unreadable {
    line: usize,
    column: usize,
}

impl fmt::Debug for StorageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StorageState(…)")
    }
}

impl PartialEq for StorageState {
    fn eq(&self, other: &Self) -> bool {
        self.to_json() == other.to_json()
    }
}

impl Eq for StorageState {}

impl StorageState {
    /// Reads what an agent or we ourselves wrote.
    pub fn parse(json: &[u8]) -> Result<Self, Unreadable> {
        serde_json::from_slice(json)
            .map_err(|error| Unreadable { line: error.line(), column: error.column() })
    }

    /// Itself as JSON: with every default filled in.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// This state laid over another: of what both have, this one's counts. A cookie is the same
    /// by name, domain, path and partition, an item of local storage by its name, and a
    /// database by its name, as a whole.
    #[must_use]
    pub fn over(self, mut below: Self) -> Self {
        lay(&mut below.cookies, self.cookies, Cookie::identity);
        let known = below.origins.iter().enumerate();
        let known: HashMap<_, _> =
            known.map(|(index, origin)| (origin.origin.clone(), index)).collect();
        for origin in self.origins {
            match known.get(&origin.origin) {
                None => below.origins.push(origin),
                Some(&index) => {
                    let known = &mut below.origins[index];
                    lay(&mut known.local_storage, origin.local_storage, |item| item.name.clone());
                    lay(&mut known.indexed_db, origin.indexed_db, |database| name_of(database));
                }
            }
        }
        below
    }
}

impl Cookie {
    fn identity(&self) -> (String, String, String, Option<String>) {
        (self.name.clone(), self.domain.clone(), self.path.clone(), self.partition_key.clone())
    }
}

/// Puts each item in the place of its like, or at the end.
fn lay<T, I: Hash + Eq>(below: &mut Vec<T>, above: Vec<T>, identity: impl Fn(&T) -> I) {
    let known = below.iter().enumerate();
    let mut known: HashMap<I, usize> = known.map(|(index, item)| (identity(item), index)).collect();
    for item in above {
        match known.entry(identity(&item)) {
            Entry::Occupied(place) => below[*place.get()] = item,
            Entry::Vacant(place) => {
                place.insert(below.len());
                below.push(item);
            }
        }
    }
}

fn name_of(database: &RawValue) -> String {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    serde_json::from_str::<Named>(database.get()).map(|named| named.name).unwrap_or_default()
}

/// Takes the member `storage_state` out of a body and finds all that is wrong with it. `text`
/// is the body as it was sent.
pub(crate) fn take(body: &mut Object<'_, '_>, text: &[u8]) -> Option<StorageState> {
    #[derive(Deserialize)]
    struct Sent<'a> {
        #[serde(borrow)]
        storage_state: Option<&'a RawValue>,
    }
    let mut state = body.object(MEMBER)?;
    check::check(&mut state);
    state.close();
    let sent = serde_json::from_slice::<Sent<'_>>(text).ok()?.storage_state?;
    if sent.get().len() > GIVEN_MAX {
        body.invalid(MEMBER, format!("must have at most {GIVEN_MAX} bytes"));
        return None;
    }
    let state = serde_json::from_str(sent.get()).ok();
    if state.is_none() && body.is_faultless() {
        body.invalid(MEMBER, "is not a storage state");
    }
    state
}

/// The name of the member that has one.
pub const MEMBER: &str = "storage_state";
/// Where that member is.
pub const POINTER: &str = "/storage_state";
