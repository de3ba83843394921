//! Positions in Chrome's translation of a message to CBOR (RFC 8949): Chrome finds some faults
//! only there.

use super::json::{Kind, Scanner, Top};

/// What Chrome says of a fault at one of the message's own members.
pub(super) fn fault(what: &str, message: &[u8], top: &Top, member: usize) -> String {
    let before: usize = top.members[..member]
        .iter()
        .flatten()
        .map(|member| {
            length_of(&message[member.key.clone()]) + length_of(&message[member.value.clone()])
        })
        .sum();
    format!("CBOR: {what} at position {}", ENVELOPE + 1 + before)
}

/// Bytes that introduce a map or an array in Chrome's CBOR: tags and a 32 bit length.
const ENVELOPE: usize = 7;

/// Length of a value in Chrome's CBOR. The text was read before, so it is well-formed.
fn length_of(mut text: &[u8]) -> usize {
    value(&mut text)
}

fn value(rest: &mut &[u8]) -> usize {
    skip_blanks(rest);
    match rest.first() {
        Some(open @ (b'{' | b'[')) => {
            let close = open + 2; // `}` follows `{` and `]` follows `[` at this distance
            *rest = &rest[1..];
            let mut length = ENVELOPE + 2;
            loop {
                skip_blanks(rest);
                match rest.first() {
                    Some(&byte) if byte == close => break,
                    Some(b',' | b':') => *rest = &rest[1..],
                    Some(_) => length += value(rest),
                    None => break,
                }
            }
            *rest = rest.get(1..).unwrap_or_default();
            length
        }
        Some(b'"') => {
            let mut scanner = Scanner::new(rest);
            let _ = scanner.string();
            let end = scanner.at;
            let length = string(&rest[1..end.max(2) - 1]);
            *rest = &rest[end..];
            length
        }
        _ => {
            let end = rest
                .iter()
                .position(
                    |byte| !matches!(byte, b'-' | b'+' | b'.' | b'a'..=b'z' | b'E' | b'0'..=b'9'),
                )
                .unwrap_or(rest.len());
            let mut scanner = Scanner::new(&rest[..end]);
            let kind = scanner.value(0);
            *rest = &rest[end..];
            match kind {
                Ok(Kind::Int(number)) => head(if number < 0 { !number } else { number } as usize),
                Ok(Kind::Double) => 9,
                _ => 1,
            }
        }
    }
}

fn skip_blanks(rest: &mut &[u8]) {
    while let Some((b' ' | b'\n' | b'\r' | b'\t' | 0x0b | 0x0c, after)) = rest.split_first() {
        *rest = after;
    }
}

/// Length of a string: one byte a character while all is ASCII, else UTF-16.
fn string(inner: &[u8]) -> usize {
    let (mut units, mut ascii) = (0, true);
    let mut at = 0;
    while let Some(&byte) = inner.get(at) {
        match byte {
            b'\\' if inner.get(at + 1) == Some(&b'u') => {
                ascii &= inner.get(at + 2..at + 4) == Some(b"00")
                    && inner.get(at + 4).is_some_and(|digit| (b'0'..b'8').contains(digit));
                units += 1;
                at += 6;
            }
            b'\\' => {
                units += 1;
                at += 2;
            }
            _ => {
                // A character's continuation bytes add nothing, one beyond 16 bits a unit.
                ascii &= byte.is_ascii();
                units += usize::from(byte & 0xc0 != 0x80) + usize::from(byte >= 0xf0);
                at += 1;
            }
        }
    }
    let bytes = if ascii { units } else { 2 * units };
    head(bytes) + bytes
}

/// Length of the head of an integer or a string: RFC 8949, section 3.
fn head(argument: usize) -> usize {
    match argument {
        0..24 => 1,
        24..0x100 => 2,
        0x100..0x1_0000 => 3,
        _ => 5,
    }
}
