//! The name of a region.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Where agents are: 1 to 63 lower-case letters, digits and hyphens, as in a DNS label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

impl Region {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Region {
    type Err = NotARegion;

    fn from_str(text: &str) -> Result<Self, NotARegion> {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let bytes = text.as_bytes();
        let well_formed = matches!(bytes.len(), 1..=63)
            && bytes.iter().all(|&c| inner(c))
            && bytes.first() != Some(&b'-')
            && bytes.last() != Some(&b'-');
        well_formed.then(|| Self(text.to_owned())).ok_or(NotARegion)
    }
}

impl TryFrom<String> for Region {
    type Error = NotARegion;

    fn try_from(text: String) -> Result<Self, NotARegion> {
        text.parse()
    }
}

impl From<Region> for String {
    fn from(region: Region) -> Self {
        region.0
    }
}

/// The text is not a region's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a region name: 1 to 63 lower-case letters, digits and inner hyphens")]
pub struct NotARegion;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_a_dns_label() {
        for good in ["local", "eu-west-1", "a", &"x".repeat(63)] {
            assert!(good.parse::<Region>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "EU", "a.b", "a b", &"x".repeat(64)] {
            assert_eq!(bad.parse::<Region>(), Err(NotARegion), "{bad}");
        }
    }
}
