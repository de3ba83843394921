//! Names of files: one part of a path each, and nothing that a shell, a terminal or a file
//! system could take for more.

use crate::error::Error;

/// Longest name in bytes: what Linux's file systems take.
pub const NAME_MAX: usize = 255;
/// The name of a download whose own says nothing.
const UNNAMED: &str = "download";

/// As a pattern, for the OpenAPI document; the length in bytes aside.
pub const PATTERN: &str = r"^[^./\\\u0000-\u001f\u007f-\u009f][^/\\\u0000-\u001f\u007f-\u009f]*$";

/// Checks a name that a caller gives: 1 to 255 bytes, no `/`, `\` or control character, no dot
/// in front. It is taken as it is, without any normalisation.
pub fn check(name: &str) -> Result<(), Error> {
    let wrong = if name.is_empty() || name.len() > NAME_MAX {
        "must have 1 to 255 bytes"
    } else if name.starts_with('.') {
        "must not begin with a dot"
    } else if name.contains(unsafe_in_names) {
        r"must not hold /, \ or control characters"
    } else {
        return Ok(());
    };
    Err(Error::BadName(wrong))
}

fn unsafe_in_names(c: char) -> bool {
    matches!(c, '/' | '\\') || c.is_control()
}

/// What a page suggests, made a name that [`check`] takes.
pub fn safe(suggested: &str) -> String {
    let name: String = suggested.replace(unsafe_in_names, "_");
    let name = name.trim_start_matches('.').trim();
    cut(if name.is_empty() { UNNAMED } else { name }, "")
}

/// The name with a number behind it, for a file that is not the first of that name.
pub fn numbered(name: &str, number: u32) -> String {
    cut(name, &format!(" ({number})"))
}

/// Puts something before the extension, and shortens what is before that as needed.
fn cut(name: &str, mark: &str) -> String {
    let (stem, extension) = match name.rfind('.') {
        // A very long one is none.
        Some(dot) if dot > 0 && name.len() - dot <= NAME_MAX / 2 => name.split_at(dot),
        _ => (name, ""),
    };
    let room = NAME_MAX - mark.len() - extension.len();
    let end = (0..=room.min(stem.len())).rev().find(|&at| stem.is_char_boundary(at));
    format!("{}{mark}{extension}", &stem[..end.unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path() {
        for good in ["a", "report.pdf", "ü (1).txt", "a b", "-rf", "~", &"x".repeat(255)] {
            assert!(check(good).is_ok(), "{good}");
        }
        let long = "x".repeat(256);
        for bad in
            ["", ".", "..", ".env", "a/b", "a\\b", "a\0", "a\n", "\u{7f}", "\u{85}", "/", &long]
        {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_a_page_suggests_is_made_safe() {
        for (suggested, name) in [
            ("report.pdf", "report.pdf"),
            ("../../etc/passwd", "_.._etc_passwd"),
            ("..", "download"),
            ("", "download"),
            (".bashrc", "bashrc"),
            ("a\\b\r\n.txt", "a_b__.txt"),
        ] {
            assert_eq!(safe(suggested), name, "{suggested}");
        }
    }

    #[test]
    fn a_number_goes_before_the_extension() {
        for (name, second) in [
            ("report.pdf", "report (2).pdf"),
            ("archive.tar.gz", "archive.tar (2).gz"),
            ("README", "README (2)"),
        ] {
            assert_eq!(numbered(name, 2), second);
        }
        let long = format!("{}.pdf", "ü".repeat(200));
        let second = numbered(&safe(&long), 2);
        assert!(second.len() <= NAME_MAX && second.ends_with("ü (2).pdf"), "{second}");
    }

    proptest! {
        #[test]
        fn whatever_is_suggested_becomes_a_good_name(suggested in any::<String>(), n in 1_u32..) {
            prop_assert!(check(&safe(&suggested)).is_ok());
            prop_assert!(check(&numbered(&safe(&suggested), n)).is_ok());
        }
    }
}
