//! Finds the browser's own binary.
//!
//! Distributions put a shell script in front of it, which adds flags of its own and keeps
//! the control pipe open; such a wrapper is never started, only followed.

use std::{
    env, fs,
    io::Read,
    path::{Path, PathBuf},
};

use crate::usage;

/// Where browsers are installed, in the order of preference.
const KNOWN: [&str; 9] = [
    "/usr/lib/chromium/chromium",
    "/usr/lib64/chromium-browser/chromium-browser",
    "/usr/lib/chromium-browser/chromium-browser",
    "/usr/lib64/chromium/chromium",
    "/opt/google/chrome/chrome",
    "/opt/chromium.org/chromium/chromium",
    "/opt/chrome-headless-shell/chrome-headless-shell",
    "/usr/lib/chromium/chromium-headless-shell",
    "/usr/lib/chromium/headless_shell",
];

/// How to get a browser, for the messages.
pub const HINT: &str = "on Debian: apt install chromium; else name the binary with --browser";

/// The binary to start: the one asked for, or the first that is installed.
///
/// # Errors
///
/// When there is none, or only a script whose binary cannot be told.
pub fn find(asked: Option<&Path>) -> anyhow::Result<PathBuf> {
    match asked {
        Some(asked) => named(asked),
        None => KNOWN
            .iter()
            .map(PathBuf::from)
            .find(|path| is_program(path))
            .ok_or_else(|| usage(format!("no browser is installed; {HINT}"))),
    }
}

fn named(asked: &Path) -> anyhow::Result<PathBuf> {
    let shown = asked.display();
    // A bare name is looked up as a shell would.
    let path = if asked.components().count() == 1 && !asked.exists() {
        on_path(asked).ok_or_else(|| usage(format!("no {shown} on PATH; {HINT}")))?
    } else {
        asked.to_path_buf()
    };
    let path = path.canonicalize().map_err(|error| usage(format!("browser {shown}: {error}")))?;
    if is_program(&path) {
        return Ok(path);
    }
    behind(&path).ok_or_else(|| {
        usage(format!("{shown} is not the browser itself but a script or no program; {HINT}"))
    })
}

/// The binary that a wrapper of a known shape starts: beside it, or in a library folder
/// under the wrapper's name.
fn behind(wrapper: &Path) -> Option<PathBuf> {
    let name = wrapper.file_name()?.to_str()?;
    let name = name.trim_end_matches("-stable").trim_end_matches("-beta");
    let beside = [wrapper.with_file_name("chrome"), wrapper.with_file_name(format!("{name}.bin"))];
    let known = KNOWN.iter().map(PathBuf::from).filter(|path| path.ends_with(name));
    beside.into_iter().chain(known).find(|path| is_program(path))
}

fn on_path(name: &Path) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// Whether the file is an executable in the machine's own format, and so no script.
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let mut magic = [0; 4];
    let executable = fs::metadata(path)
        .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0);
    executable
        && fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
        && magic == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.canonicalize().unwrap()
    }

    #[test]
    fn a_binary_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let binary = file(dir.path(), "some-browser", b"\x7fELF and more");
        assert_eq!(find(Some(&binary)).unwrap(), binary);
    }

    #[test]
    fn a_wrapper_is_followed_to_the_binary_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let binary = file(dir.path(), "chrome", b"\x7fELF and more");
        let wrapper = file(dir.path(), "google-chrome", b"#!/bin/sh\nexec chrome\n");
        assert_eq!(find(Some(&wrapper)).unwrap(), binary);
    }

    #[test]
    fn an_unknown_script_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let script = file(dir.path(), "mine", b"#!/bin/sh\nexec something\n");
        let error = find(Some(&script)).unwrap_err().to_string();
        assert!(error.contains("not the browser itself"), "{error}");
    }

    #[test]
    fn a_missing_browser_is_named() {
        let error = find(Some(Path::new("/nowhere/chrome"))).unwrap_err().to_string();
        assert!(error.contains("/nowhere/chrome"), "{error}");
    }
}
