//! The description of the protocol that a browser speaks, as its `/json/protocol` answers.
//!
//! Chrome serves it only over its debugging port, which is never opened here. The text is a
//! resource in a `.pak` file beside the binary: `resources.pak` for the full browser,
//! `headless_lib_strings.pak` for the headless shell. Resources have no names and their
//! numbers change with every version, so it is found by how it begins.
//!
//! Formats: a data pack of version 5 (`ui/base/resource/data_pack.cc` in Chromium), and in
//! it a resource that was compressed with Brotli: the bytes 1e 9b, the length in 6 bytes
//! (little endian), then the stream (`ui/base/resource/resource_bundle.cc`).

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use brotli_decompressor::Decompressor;
use bytes::Bytes;
use serde::Deserialize;

/// Why there is no description.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// No resource file beside the binary holds one.
    #[error("no description of the protocol in the resource files in {}", .0.display())]
    NotFound(PathBuf),
    /// The files cannot be read.
    #[error("cannot read {}", .path.display())]
    Unreadable {
        /// What was read.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// The smallest resource worth a look, in compressed bytes: the text has 120 000.
const COMPRESSED_MIN: u32 = 16 << 10;

/// The longest text that is taken, in bytes: Chromium 156 has 1.6 million.
const TEXT_MAX: u64 = 32 << 20;

/// How much of a text is looked at to know it.
const BEGIN: u64 = 256;

/// The description for the browser at `binary`, as Chrome's own port answers it. Read once:
/// a browser that is replaced under a running agent keeps the first answer.
///
/// # Errors
///
/// When the browser comes without readable resource files.
pub fn protocol(binary: &Path) -> Result<Bytes, ProtocolError> {
    static KNOWN: Mutex<Option<HashMap<PathBuf, Bytes>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Some(text) = known.get(binary) {
        return Ok(text.clone());
    }
    let text = find(binary)?;
    known.insert(binary.to_path_buf(), text.clone());
    Ok(text)
}

fn find(binary: &Path) -> Result<Bytes, ProtocolError> {
    let unreadable =
        |path: &Path, source| ProtocolError::Unreadable { path: path.to_path_buf(), source };
    let binary = binary.canonicalize().map_err(|error| unreadable(binary, error))?;
    let directory = binary.parent().unwrap_or(Path::new("/"));
    let mut packs = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| unreadable(directory, error))? {
        let path = entry.map_err(|error| unreadable(directory, error))?.path();
        if path.extension().is_some_and(|extension| extension == "pak") {
            packs.push(path);
        }
    }
    // Both builds may share a folder, not always of one version: its own files come first.
    let starts_as = |path: &Path, start: &str| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start))
    };
    let headless =
        binary.file_name().is_some_and(|name| name.to_string_lossy().contains("headless"));
    packs.sort_by_key(|path| {
        (starts_as(path, "headless") != headless, !starts_as(path, "resources"))
    });
    for path in packs {
        let text = in_pack(&path).map_err(|error| unreadable(&path, error))?;
        if let Some(text) = text {
            return Ok(text.into());
        }
    }
    Err(ProtocolError::NotFound(directory.to_path_buf()))
}

/// Looks for the text in one data pack.
fn in_pack(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    let mut header = [0; 12];
    file.read_exact_at(&mut header, 0)?;
    let [5, 0, 0, 0, _, _, _, _, low, high, ..] = header else {
        return Ok(None); // another version, or no data pack
    };
    let count = usize::from(u16::from_le_bytes([low, high]));
    // One more than there are: the last says where the last resource ends.
    let mut index = vec![0; (count + 1) * ENTRY_LEN];
    file.read_exact_at(&mut index, header.len() as u64)?;
    let offsets: Vec<u32> = index
        .chunks_exact(ENTRY_LEN)
        .map(|entry| u32::from_le_bytes([entry[2], entry[3], entry[4], entry[5]]))
        .collect();
    for bounds in offsets.windows(2) {
        let Some(length @ COMPRESSED_MIN..) = bounds[1].checked_sub(bounds[0]) else { continue };
        let mut mark = [0; 8];
        file.read_exact_at(&mut mark, bounds[0].into())?;
        let [0x1e, 0x9b, size @ ..] = mark else { continue };
        let size = u64::from_le_bytes([size[0], size[1], size[2], size[3], size[4], size[5], 0, 0]);
        if size > TEXT_MAX {
            continue;
        }
        let mut stream = vec![0; length as usize - mark.len()];
        file.read_exact_at(&mut stream, u64::from(bounds[0]) + mark.len() as u64)?;
        if !unpack(&stream, BEGIN).is_ok_and(|begin| begins_as_protocol(&begin)) {
            continue;
        }
        let text = unpack(&stream, size)?;
        if is_protocol(&text) {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

/// A resource's number (2 bytes) and where it begins (4 bytes).
const ENTRY_LEN: usize = 6;

fn unpack(stream: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    Decompressor::new(stream, 4096).take(limit).read_to_end(&mut text)?;
    Ok(text)
}

fn begins_as_protocol(begin: &[u8]) -> bool {
    let mut begin = begin.to_vec();
    begin.retain(|byte| !byte.is_ascii_whitespace());
    begin.starts_with(br#"{"version":{"#)
        && memchr::memmem::find(&begin, br#""domains":["#).is_some()
}

fn is_protocol(text: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Protocol {
        domains: Vec<Domain>,
    }
    #[derive(Deserialize)]
    struct Domain {
        domain: String,
    }
    serde_json::from_slice::<Protocol>(text)
        .is_ok_and(|protocol| protocol.domains.iter().any(|domain| domain.domain == "Target"))
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
