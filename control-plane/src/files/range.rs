//! Which part of a file a request wants (RFC 9110, section 14).

use std::ops::Range;

use http::{HeaderMap, HeaderName, header};

/// What to answer a request for a file with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// 200
    Whole,
    /// 206
    Part(Range<u64>),
    /// 304
    Unchanged,
    /// 416
    Unsatisfiable,
}

/// Reads what the headers say of a file with this size and tag. A range that cannot be read,
/// or several at once, count as none.
pub fn wanted(headers: &HeaderMap, size_bytes: u64, tag: &str) -> Answer {
    if text(headers, header::IF_NONE_MATCH).is_some_and(|tags| lists(tags, tag)) {
        return Answer::Unchanged;
    }
    // Only if the file is still the one whose rest is wanted.
    let fresh = text(headers, header::IF_RANGE).is_none_or(|known| known == tag);
    match text(headers, header::RANGE).filter(|_| fresh).and_then(|range| read(range, size_bytes)) {
        None => Answer::Whole,
        Some(range) if range.is_empty() => Answer::Unsatisfiable,
        Some(range) => Answer::Part(range),
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn lists(tags: &str, tag: &str) -> bool {
    let weakly = |given: &str| given.trim().trim_start_matches("W/") == tag;
    tags.trim() == "*" || tags.split(',').any(weakly)
}

/// One range, cut to the file; empty if it lies outside.
fn read(range: &str, size_bytes: u64) -> Option<Range<u64>> {
    let (unit, range) = range.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    match (first, last) {
        ("", last) => {
            let count = number(last)?;
            Some(size_bytes.saturating_sub(count)..size_bytes)
        }
        (first, "") => Some(number(first)?.min(size_bytes)..size_bytes),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            let end = last.saturating_add(1).min(size_bytes);
            (first <= last).then(|| first.min(end)..end)
        }
    }
}

/// Digits alone; more of them than fit mean far beyond any file.
fn number(digits: &str) -> Option<u64> {
    let all_digits = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    all_digits.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "\"a\"";

    fn of(given: &[(HeaderName, &str)]) -> Answer {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.insert(name, value.parse().unwrap());
        }
        wanted(&headers, 10, TAG)
    }

    #[test]
    fn a_range_is_cut_to_the_file() {
        for (range, answer) in [
            ("bytes=0-0", Answer::Part(0..1)),
            ("bytes=2-5", Answer::Part(2..6)),
            ("bytes=2-", Answer::Part(2..10)),
            ("bytes=-3", Answer::Part(7..10)),
            ("bytes=-30", Answer::Part(0..10)),
            ("BYTES = 9-99999999999999999999999", Answer::Part(9..10)),
            ("bytes=10-", Answer::Unsatisfiable),
            ("bytes=10-12", Answer::Unsatisfiable),
            ("bytes=-0", Answer::Unsatisfiable),
        ] {
            assert_eq!(of(&[(header::RANGE, range)]), answer, "{range}");
        }
    }

    #[test]
    fn what_is_no_range_of_ours_is_none() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=0-1,3-4",
            "lines=1-2",
            "bytes=+1-2",
        ] {
            assert_eq!(of(&[(header::RANGE, range)]), Answer::Whole, "{range}");
        }
    }

    #[test]
    fn a_tag_decides_what_is_sent() {
        for (tags, answer) in [
            (TAG, Answer::Unchanged),
            ("\"b\", W/\"a\"", Answer::Unchanged),
            ("*", Answer::Unchanged),
            ("\"b\"", Answer::Whole),
        ] {
            assert_eq!(of(&[(header::IF_NONE_MATCH, tags)]), answer, "{tags}");
        }
        let range = (header::RANGE, "bytes=1-");
        assert_eq!(of(&[range.clone(), (header::IF_RANGE, TAG)]), Answer::Part(1..10));
        assert_eq!(of(&[range.clone(), (header::IF_RANGE, "\"b\"")]), Answer::Whole);
        assert_eq!(of(&[range, (header::IF_NONE_MATCH, TAG)]), Answer::Unchanged);
    }
}
