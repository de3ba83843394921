//! E-mail addresses.

use std::{fmt, str::FromStr};

use lettre::Address;

/// Longest address that a mail can be sent to, in bytes (RFC 5321, section 4.5.3.1.3).
const MAX: usize = 254;

/// An address that a mail could be sent to. Shown as it was given; two that differ only in
/// case are one.
#[derive(Clone, Debug)]
pub struct Email {
    given: String,
    key: String,
}

/// The text is not an e-mail address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an e-mail address")]
pub struct NotAnEmail;

impl Email {
    /// What addresses are compared by.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.given
    }
}

impl FromStr for Email {
    type Err = NotAnEmail;

    fn from_str(text: &str) -> Result<Self, NotAnEmail> {
        let given = text.trim();
        let good = given.len() <= MAX
            && !given.chars().any(|c| c.is_control() || c.is_whitespace())
            && given.parse::<Address>().is_ok();
        let email = || Self { given: given.to_owned(), key: given.to_lowercase() };
        good.then(email).ok_or(NotAnEmail)
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_spelling_and_is_compared_without() {
        let email: Email = " Ada.Lovelace@Example.ORG ".parse().unwrap();
        assert_eq!(email.as_str(), "Ada.Lovelace@Example.ORG");
        assert_eq!(email.key(), "ada.lovelace@example.org");
        for good in ["owner@localhost", "a+b@x.example", "ada@[127.0.0.1]"] {
            assert!(good.parse::<Email>().is_ok(), "{good}");
        }
        let long = format!("a@{}.example", "x".repeat(300));
        for bad in ["", "a", "@b", "a@", "a b@c", "a@b\r\nBcc: c@d", "Ada <a@b>", "a@b, c@d", &long]
        {
            assert_eq!(bad.parse::<Email>().err(), Some(NotAnEmail), "{bad}");
        }
    }
}
