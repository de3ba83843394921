//! Where the agent reads what strangers wrote, one function a reader: clients, pages, callers,
//! and the browser, which may have been taken over. For the fuzz targets in `fuzz/`, and for the
//! test below, which feeds their corpora to the same functions.
//!
//! Each function panics when a reader does, or breaks what others rely on.

use futures_util::FutureExt;
use http::HeaderMap;
use proto::egress::Rule;
use tokio::io::{AsyncWriteExt, duplex};

use crate::{
    admit::Credential,
    cdp::{
        scan::{Clean, scan},
        strangers as browser_and_clients,
    },
    gateway::strangers as gateway,
    storage_state,
};

/// Reads what strangers wrote.
pub type Reader = fn(&[u8]);

/// All readers, by the names of their fuzz targets and corpora.
pub const READERS: &[(&str, Reader)] = &[
    ("command", command),
    ("judge", judge),
    ("rule", rule),
    ("chrome", chrome),
    ("frames", frames),
    ("socks", socks),
    ("opening", opening),
    ("token", token),
    ("state", state),
];

/// A command of a client: what goes to Chrome reads as the same command, with no NUL in it.
pub fn command(message: &[u8]) {
    let Ok(command) = scan(message) else { return };
    assert_eq!(message[command.end], b'}');
    match command.clean {
        None => assert!(!message.contains(&0)),
        Some(Clean::TooLong) => unreachable!("inputs are short"),
        Some(Clean::Message(clean)) => {
            let again = scan(&clean).unwrap_or_else(|_| panic!("no command any more"));
            assert!(!clean.contains(&0) && again.clean.is_none());
            assert_eq!((again.id, &again.method), (command.id, &command.method));
            assert_eq!(again.session, command.session);
        }
    }
}

/// A command that the guard judges.
pub fn judge(message: &[u8]) {
    browser_and_clients::of_commander(message);
}

/// A rule about where browsers may connect: one that covers an address names no host.
pub fn rule(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(rule) = text.parse::<Rule>() else { return };
    let name = text.split(':').next().unwrap_or_default().trim_start_matches('*');
    let named = rule.names(name, 443) || rule.names(&format!("a{name}."), 443);
    let covered = rule.covers([127, 0, 0, 1].into(), 443) || rule.covers([0; 16].into(), 443);
    assert!(!(rule.is_by_address() && named) && (rule.is_by_address() || !covered), "{text}");
}

/// A message of Chrome's.
pub fn chrome(message: &[u8]) {
    browser_and_clients::of_chrome(message);
}

/// Frames of a client, and the commands in them.
pub fn frames(bytes: &[u8]) {
    browser_and_clients::of_client(bytes);
}

/// What a browser says to its gateway first.
pub fn socks(bytes: &[u8]) {
    let reading = async {
        let (mut near, mut far) = duplex(1 << 16);
        let sent = &bytes[..bytes.len().min(1 << 15)];
        let _ = near.write_all(sent).await;
        let _ = near.shutdown().await;
        gateway::target(&mut far).await;
    };
    assert!(reading.now_or_never().is_some(), "it waits for more than there is");
}

/// What it says first on a connection through the gateway.
pub fn opening(bytes: &[u8]) {
    gateway::opening(bytes);
}

/// A storage state that a browser is to begin with.
pub fn state(json: &[u8]) {
    storage_state::read(json);
}

/// The query of a connect URL.
pub fn token(query: &[u8]) {
    let Ok(query) = std::str::from_utf8(query) else { return };
    let credential = Credential::of(Some(query), &HeaderMap::new());
    let parts = query.split('&').filter(|part| part.starts_with("token=")).count();
    assert_eq!(credential.token.is_some(), parts > 0);
    assert!(credential.rest_of_query.len() <= query.len());
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn the_corpora_of_the_fuzz_targets_are_read() {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (name, read) in READERS {
            let files = fs::read_dir(corpora.join(name)).expect(name);
            let mut count = 0;
            for file in files {
                let file = file.unwrap().path();
                println!("{}", file.display());
                read(&fs::read(file).unwrap());
                count += 1;
            }
            assert!(count > 3, "{name} has {count} inputs");
        }
    }
}
