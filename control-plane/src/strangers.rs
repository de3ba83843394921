//! Where the control plane reads what callers wrote, one function a reader. For the fuzz targets
//! in `fuzz/`, and for the test below, which feeds their corpora to the same functions.

use proto::id::KeyId;

use crate::{credential, cursor, sessions::validate};

/// Reads what strangers wrote.
pub type Reader = fn(&[u8]);

/// All readers, by the names of their fuzz targets and corpora.
pub const READERS: &[(&str, Reader)] = &[("create", create), ("credential", credential)];

/// The body of a create, with its proxy, storage state and labels: what is refused says why.
pub fn create(body: &[u8]) {
    let Ok(value) = serde_json::from_slice(body) else { return };
    if let Err(problem) = validate::create(&value, body) {
        assert!(problem.status().is_client_error() && !problem.detail().is_empty());
    }
}

/// A header with a credential, and a cursor: what is read reads the same when written again.
pub fn credential(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let token = credential::bearer(text).unwrap_or(text);
    if let Some((id, secret)) = credential::parse::<KeyId>("vs", token) {
        assert_eq!(format!("vs_{id}.{secret}"), token);
    }
    cursor::parts(token);
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
