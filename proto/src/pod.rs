//! The pod of Kubernetes that an agent runs in.

use std::{fmt, str::FromStr};

/// The longest name of an object of Kubernetes, in bytes (RFC 1123, as its API has it).
const LONGEST_NAME: usize = 253;
/// The length of a UUID as text (RFC 9562).
const UID_BYTES: usize = 36;

/// A pod, as `name/uid`. Its namespace is not said: it is the one of whom it is told.
///
/// The uid is a UUID that no other pod ever has, and that only the pod itself knows and who may
/// read it: nobody can mean another's pod by guessing its name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pod {
    name: String,
    uid: String,
}

impl Pod {
    /// Its name: a DNS subdomain.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its UUID.
    pub fn uid(&self) -> &str {
        &self.uid
    }
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.uid)
    }
}

impl FromStr for Pod {
    type Err = NotAPod;

    fn from_str(text: &str) -> Result<Self, NotAPod> {
        let (name, uid) = text.split_once('/').ok_or(NotAPod)?;
        let good = is_dns_name(name) && is_uuid(uid);
        good.then(|| Self { name: name.to_owned(), uid: uid.to_owned() }).ok_or(NotAPod)
    }
}

/// The text is no pod's name and uid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a pod: its metadata.name and metadata.uid with a slash between them")]
pub struct NotAPod;

/// Whether Kubernetes could give this name to a pod, or to a namespace: at most 253 lower-case
/// letters, digits, hyphens and dots, with a letter or digit at both ends of what is between dots.
pub fn is_dns_name(text: &str) -> bool {
    let end = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inner = |c: &u8| end(Some(c)) || *c == b'-';
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        end(bytes.first()) && end(bytes.last()) && bytes.iter().all(inner)
    };
    text.len() <= LONGEST_NAME && text.split('.').all(is_label)
}

fn is_uuid(text: &str) -> bool {
    let hyphens = [8, 13, 18, 23];
    let fits = |(at, c): (usize, u8)| match hyphens.contains(&at) {
        true => c == b'-',
        false => c.is_ascii_hexdigit(),
    };
    text.len() == UID_BYTES && text.bytes().enumerate().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0b0e4a0e-6b5c-4f6e-9b5e-0a4d5f3a2c1b";

    #[test]
    fn a_pod_is_a_dns_name_and_a_uuid() {
        for name in ["a", "shop-ventus-agents-default-7d9f8-x2x4z", "a.b-c.d0", &"x".repeat(253)] {
            let text = format!("{name}/{UID}");
            let pod: Pod = text.parse().unwrap();
            assert_eq!((pod.name(), pod.uid(), pod.to_string()), (name, UID, text.clone()));
        }
        for name in
            ["", "-a", "a-", "A", "a_b", "a..b", ".a", "a.", "../a", "a b", &"x".repeat(254)]
        {
            assert_eq!(format!("{name}/{UID}").parse::<Pod>(), Err(NotAPod), "{name}");
        }
        for uid in
            ["", "1", &UID[1..], &format!("{UID}0"), &UID.replace('-', "0"), &UID.replace('0', "x")]
        {
            assert_eq!(format!("a/{uid}").parse::<Pod>(), Err(NotAPod), "{uid}");
        }
        for text in ["", "/", "a", UID, &format!("ns/a/{UID}")] {
            assert_eq!(text.parse::<Pod>(), Err(NotAPod), "{text}");
        }
    }
}
