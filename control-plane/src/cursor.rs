//! Cursors of lists: opaque to callers, and worthless when changed. A cursor names the last
//! item of a page; the next page begins behind it, so rows that appear meanwhile neither
//! repeat an item nor hide one. Its MAC binds it to one workspace and one set of filters.

use std::{fmt::Display, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::Mac;
use proto::id::WorkspaceId;

use crate::secrets::{Hmac256, Secrets};

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
    let (last, tag) = parts(cursor)?;
    // Made before the master key was changed, it is as good.
    let fits = |key| mac(key, workspace, filters, &last).verify_truncated_left(&tag).is_ok();
    secrets.cursor_macs().into_iter().find_map(|key| fits(key).then_some(()))?;
    std::str::from_utf8(&last).ok()?.parse().ok()
}

/// The id in a cursor, and its MAC.
pub(crate) fn parts(cursor: &str) -> Option<([u8; ID_BYTES], [u8; MAC_BYTES])> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (last, tag) = bytes.split_first_chunk()?;
    Some((*last, tag.try_into().ok()?))
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
