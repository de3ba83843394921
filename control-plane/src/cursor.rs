//! Cursors of lists: opaque to callers, and worthless when changed. A cursor names the last
//! item of a page; the next page begins behind it, so rows that appear meanwhile neither
//! repeat an item nor hide one. Its MAC binds it to one workspace and one set of filters.

use std::{collections::HashSet, fmt::Display, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::Mac;
use proto::{id::WorkspaceId, problem::Problem};

use crate::{
    error::fault,
    request::Query,
    secrets::{Hmac256, Secrets},
    sessions::list::refusal,
};

/// How many items a page may have.
const LIMITS: std::ops::RangeInclusive<i64> = 1..=100;
const DEFAULT_LIMIT: i64 = 50;

/// Which page of a list without filters is wanted.
#[derive(Debug)]
pub struct Paging {
    /// Most items of it.
    pub limit: i64,
    cursor: Option<String>,
}

impl Paging {
    /// Reads `limit` and `cursor`, and finds all that is wrong with the query at once.
    pub fn read(query: Query) -> Result<Self, Problem> {
        let mut paging = Self { limit: DEFAULT_LIMIT, cursor: None };
        let mut faults = Vec::new();
        let mut seen = HashSet::new();
        for (name, value) in query.0 {
            let wrong = match name.as_str() {
                _ if !seen.insert(name.clone()) => Some("is there more than once"),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| LIMITS.contains(limit));
                    paging.limit = limit.unwrap_or(DEFAULT_LIMIT);
                    limit.is_none().then_some("must be an integer from 1 to 100")
                }
                "cursor" => {
                    paging.cursor = Some(value);
                    None
                }
                _ => Some("unknown parameter"),
            };
            faults.extend(wrong.map(|wrong| fault(format!("?{name}"), wrong)));
        }
        if faults.is_empty() { Ok(paging) } else { Err(refusal(faults)) }
    }

    /// The item behind which the page begins; `None`: the first page.
    pub fn after<I: FromStr>(
        &self,
        secrets: &Secrets,
        workspace: WorkspaceId,
        list: &str,
    ) -> Result<Option<I>, Problem> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        match decode(secrets, workspace, list, cursor) {
            Some(after) => Ok(Some(after)),
            None => Err(refusal(vec![fault("?cursor", "is not one of ours, or of another list")])),
        }
    }
}

/// Length of an id's text.
const ID_BYTES: usize = 26;
/// Length of the truncated MAC: 128 bits.
const MAC_BYTES: usize = 16;

/// The cursor behind an item. `filters` tell one list of a workspace from all others.
pub fn encode(
    secrets: &Secrets,
    workspace: WorkspaceId,
    filters: &str,
    last: impl Display,
) -> String {
    let last = last.to_string();
    let mac = mac(secrets.cursor_mac(), workspace, filters, last.as_bytes());
    let tag = mac.finalize().into_bytes();
    URL_SAFE_NO_PAD.encode([last.as_bytes(), &tag[..MAC_BYTES]].concat())
}

/// The item that a cursor names; `None` for one that we did not make for this list.
pub fn decode<I: FromStr>(
    secrets: &Secrets,
    workspace: WorkspaceId,
    filters: &str,
    cursor: &str,
) -> Option<I> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (last, tag) = bytes.split_first_chunk::<ID_BYTES>()?;
    if tag.len() != MAC_BYTES {
        return None;
    }
    // Made before the master key was changed, it is as good.
    let fits = |key| mac(key, workspace, filters, last).verify_truncated_left(tag).is_ok();
    secrets.cursor_macs().into_iter().find_map(|key| fits(key).then_some(()))?;
    std::str::from_utf8(last).ok()?.parse().ok()
}

fn mac(mut mac: Hmac256, workspace: WorkspaceId, filters: &str, last: &[u8]) -> Hmac256 {
    // Both ids have a fixed length, so no two inputs read the same.
    mac.update(workspace.to_string().as_bytes());
    mac.update(last);
    mac.update(filters.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use proto::id::SessionId;

    use super::*;

    #[test]
    fn only_an_unchanged_cursor_of_the_same_list_counts() {
        let secrets = Secrets::for_tests();
        let (workspace, last) = (WorkspaceId::generate(), SessionId::generate());
        let cursor = encode(&secrets, workspace, "a", last);
        assert_eq!(decode(&secrets, workspace, "a", &cursor), Some(last));
        assert_eq!(decode::<SessionId>(&secrets, workspace, "b", &cursor), None);
        assert_eq!(decode::<SessionId>(&secrets, WorkspaceId::generate(), "a", &cursor), None);
        for at in 0..cursor.len() {
            let mut changed = cursor.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(decode::<SessionId>(&secrets, workspace, "a", &changed), None, "{at}");
        }
        for bad in ["", "x", "====", &cursor[1..], &format!("{cursor}AAAA")] {
            assert_eq!(decode::<SessionId>(&secrets, workspace, "a", bad), None, "{bad}");
        }
    }
}
