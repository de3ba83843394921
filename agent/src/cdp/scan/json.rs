//! Chrome's dialect of JSON, read without building anything: where the message's own members
//! are, and of which kind.

use std::{borrow::Cow, ops::Range};

use memchr::{memchr, memchr2};

use super::{Clean, LONGEST, Refusal};

/// Deepest nesting that Chrome's parser takes, counted from the message itself.
const DEPTH_MAX: usize = 300;

/// What a value is, as far as Chrome's reading of a command tells values apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Int(i32),
    Double,
    String,
    Array,
    Object,
}

/// One member of the message.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// With its quotes.
    pub key: Range<usize>,
    pub value: Range<usize>,
    pub kind: Kind,
}

/// The message's own members. Four names are known, so a fifth member is a fault at the
/// latest, and what follows a fault does not count.
#[derive(Debug, Default)]
pub(super) struct Top {
    pub members: [Option<Member>; 5],
    count: usize,
    /// Where its closing brace stands.
    pub end: usize,
}

pub(super) struct Scanner<'a> {
    text: &'a [u8],
    pub at: usize,
    pub top: Top,
    /// The text as far as its last raw NUL, without any. No longer than [`LONGEST`] by more
    /// than one piece, whatever a client sends.
    clean: Vec<u8>,
    /// Where the text goes on that is not in `clean`.
    from: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, top: Top::default(), clean: Vec::new(), from: 0 }
    }

    /// All of the text without raw NULs, if it has any.
    pub fn clean(&mut self) -> Option<Clean> {
        if self.from == 0 {
            return None;
        }
        if self.clean.len() + self.text.len() - self.from > LONGEST {
            return Some(Clean::TooLong);
        }
        self.clean.extend_from_slice(&self.text[self.from..]);
        Some(Clean::Message(std::mem::take(&mut self.clean)))
    }

    /// A raw NUL stands here; what means the same.
    fn nul(&mut self, at: usize, instead: &str) {
        if self.clean.len() <= LONGEST {
            self.clean.extend_from_slice(&self.text[self.from..at]);
            self.clean.extend_from_slice(instead.as_bytes());
        }
        self.from = at + 1;
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Reads a value and the blanks on both sides of it.
    pub fn value(&mut self, depth: usize) -> Result<Kind, Refusal> {
        if depth > DEPTH_MAX {
            return Err(Refusal::json("stack limit exceeded", self.at));
        }
        self.blanks();
        let start = self.at;
        let kind = match self.peek() {
            None => return Err(Refusal::json("no input", start)),
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => {
                self.string()?;
                Kind::String
            }
            Some(b'n') => self.word("null", Kind::Null)?,
            Some(b't') => self.word("true", Kind::Bool)?,
            Some(b'f') => self.word("false", Kind::Bool)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b']' | b'}' | b',' | b':') => return Err(Refusal::json("value expected", start)),
            Some(_) => return Err(Refusal::json("invalid token", start)),
        };
        self.blanks();
        Ok(kind)
    }

    fn object(&mut self, depth: usize) -> Result<Kind, Refusal> {
        self.at += 1;
        self.blanks();
        if self.peek() == Some(b'}') {
            return Ok(self.close(depth));
        }
        loop {
            let key = self.at..self.key()?;
            self.blanks();
            self.expect(b':', "colon expected")?;
            let value = self.at;
            let kind = self.value(depth + 1)?;
            if depth == 0 {
                self.member(key, value, kind);
            }
            match self.peek() {
                Some(b'}') => return Ok(self.close(depth)),
                Some(b',') => self.at += 1,
                _ => return Err(self.unexpected("comma or map end expected")),
            }
            self.blanks();
            if self.peek() == Some(b'}') {
                return Err(Refusal::json("unexpected map end", self.at));
            }
        }
    }

    fn close(&mut self, depth: usize) -> Kind {
        if depth == 0 {
            self.top.end = self.at;
        }
        self.at += 1;
        Kind::Object
    }

    /// Reads a key and tells where it ends.
    fn key(&mut self) -> Result<usize, Refusal> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("string literal expected"));
        }
        // In a key a broken token is no string literal, in a value no token at all.
        let start = self.at;
        match self.string() {
            Err(fault) if fault.message.contains("invalid token") => {
                Err(Refusal::json("string literal expected", start))
            }
            Err(fault) => Err(fault),
            Ok(()) => Ok(self.at),
        }
    }

    fn member(&mut self, key: Range<usize>, value: usize, kind: Kind) {
        if let Some(place) = self.top.members.get_mut(self.top.count) {
            *place = Some(Member { key, value: value..self.at, kind });
            self.top.count += 1;
        }
    }

    fn array(&mut self, depth: usize) -> Result<Kind, Refusal> {
        self.at += 1;
        // Chrome gives a depth fault the position before the blanks.
        let opened = self.at;
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Kind::Array);
        }
        self.at = opened;
        loop {
            self.value(depth + 1)?;
            match self.peek() {
                Some(b']') => {
                    self.at += 1;
                    return Ok(Kind::Array);
                }
                Some(b',') => self.at += 1,
                _ => return Err(self.unexpected("comma or array end expected")),
            }
            let after_comma = self.at;
            self.blanks();
            if self.peek() == Some(b']') {
                return Err(Refusal::json("unexpected array end", self.at));
            }
            self.at = after_comma;
        }
    }

    fn expect(&mut self, wanted: u8, what: &'static str) -> Result<(), Refusal> {
        if self.peek() != Some(wanted) {
            return Err(self.unexpected(what));
        }
        self.at += 1;
        Ok(())
    }

    fn unexpected(&self, what: &'static str) -> Refusal {
        Refusal::json(what, self.at)
    }

    /// Reads `null`, `true` or `false`. Chrome does not look at the last letter.
    fn word(&mut self, word: &'static str, kind: Kind) -> Result<Kind, Refusal> {
        let last = word.len() - 1;
        let found = self.text[self.at..].get(..word.len());
        let Some(found) = found.filter(|found| found[..last] == word.as_bytes()[..last]) else {
            return Err(Refusal::json("invalid token", self.at));
        };
        if found[last] == 0 {
            self.nul(self.at + last, &word[last..]);
        }
        self.at += word.len();
        Ok(kind)
    }

    fn number(&mut self) -> Result<Kind, Refusal> {
        let start = self.at;
        let token = number_token(&self.text[start..])
            .ok_or_else(|| Refusal::json("invalid token", start))?;
        self.at += token;
        let text = std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
        if let Ok(number) = text.parse::<i32>() {
            return Ok(Kind::Int(number));
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => {
                // Chrome takes every number with an integer's value for that integer.
                #[expect(clippy::cast_possible_truncation, reason = "compared right after")]
                let whole = number as i32;
                #[expect(clippy::float_cmp, reason = "exactness is the question")]
                let exact = f64::from(whole) == number;
                Ok(if exact { Kind::Int(whole) } else { Kind::Double })
            }
            _ => Err(Refusal::json("invalid number", start)),
        }
    }

    /// Reads a string with its quotes.
    pub fn string(&mut self) -> Result<(), Refusal> {
        let start = self.at;
        let invalid_token = || Refusal::json("invalid token", start);
        let mut at = start + 1;
        let mut plain = true;
        loop {
            let run = &self.text[at..];
            let length = memchr2(b'"', b'\\', run).ok_or_else(invalid_token)?;
            plain &= run[..length].is_ascii();
            self.nuls(at..at + length);
            at += length + 1;
            if run[length] == b'"' {
                break;
            }
            let escape = self.text.get(at).copied().ok_or_else(invalid_token)?;
            at += 1;
            let digits = match escape {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' => 0,
                b'u' => 4,
                // Read as a token but not as a string, like Chrome.
                b'x' => 2,
                _ => return Err(invalid_token()),
            };
            let hex = self.text.get(at..at + digits).ok_or_else(invalid_token)?;
            if !hex.iter().all(u8::is_ascii_hexdigit) {
                return Err(invalid_token());
            }
            plain &= escape != b'x';
            at += digits;
        }
        self.at = at;
        if !plain && !decodes(&self.text[start + 1..at - 1]) {
            return Err(Refusal::json("invalid string", start));
        }
        Ok(())
    }

    /// Raw NULs in a string.
    fn nuls(&mut self, range: Range<usize>) {
        let mut at = range.start;
        while let Some(found) = memchr(0, &self.text[at..range.end]) {
            self.nul(at + found, "\\u0000");
            at += found + 1;
        }
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t' | 0x0b | 0x0c) = self.peek() {
            self.at += 1;
        }
    }
}

/// Length of the number that the text begins with.
fn number_token(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| text[from..].iter().take_while(|c| c.is_ascii_digit()).count();
    let mut at = usize::from(text.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && text[at] == b'0') {
        return None;
    }
    at += whole;
    if text.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1 + usize::from(matches!(text.get(at + 1), Some(b'-' | b'+')));
        let exponent = text.get(at..).map_or(0, |_| digits(at));
        if exponent == 0 {
            return None;
        }
        at += exponent;
    }
    Some(at)
}

/// Whether Chrome decodes what stands between a string's quotes: UTF-8 in which surrogates
/// and some overlong forms are let through, and no `\x`.
fn decodes(mut text: &[u8]) -> bool {
    while let Some((&first, rest)) = text.split_first() {
        text = rest;
        let (more, mut point) = match first {
            b'\\' => match rest.split_first() {
                Some((b'x', _)) | None => return false,
                Some((_, rest)) => {
                    text = rest;
                    continue;
                }
            },
            0..0x80 => continue,
            0xc0..=0xdf => (1, u32::from(first & 0x1f)),
            0xe0..=0xef => (2, u32::from(first & 0x0f)),
            0xf0..=0xf7 => (3, u32::from(first & 0x07)),
            _ => return false,
        };
        let Some((continuation, rest)) = text.split_at_checked(more) else { return false };
        for &byte in continuation {
            if byte & 0xc0 != 0x80 {
                return false;
            }
            point = point << 6 | u32::from(byte & 0x3f);
        }
        if !(0x80..=0x10_ffff).contains(&point) {
            return false;
        }
        text = rest;
    }
    true
}

/// The text of a string that was read before, with its quotes.
pub(super) fn string(quoted: &[u8]) -> Cow<'_, str> {
    let quoted = trimmed(quoted);
    let inner = &quoted[1..quoted.len() - 1];
    match std::str::from_utf8(inner) {
        Ok(text) if !text.contains('\\') => Cow::Borrowed(text),
        _ => Cow::Owned(unescaped(inner)),
    }
}

/// A value without the blanks around it.
fn trimmed(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | 0x0b | 0x0c);
    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// Resolves escapes. What is not ASCII afterwards is refused wherever this is used, so one
/// replacement character stands for all of it.
fn unescaped(inner: &[u8]) -> String {
    let mut text = String::with_capacity(inner.len());
    let mut bytes = inner.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            text.push(if byte.is_ascii() { char::from(byte) } else { char::REPLACEMENT_CHARACTER });
            continue;
        }
        text.push(match bytes.next() {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'v') => '\u{b}',
            Some(b'u') => {
                let hex: String = bytes.by_ref().take(4).map(char::from).collect();
                let point = u32::from_str_radix(&hex, 16).ok();
                point.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            Some(other) => char::from(other),
            None => char::REPLACEMENT_CHARACTER,
        });
    }
    text
}
