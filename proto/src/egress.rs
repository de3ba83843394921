//! Where browsers may connect to: rules by host, by address and by port, as callers and
//! operators write them.
//!
//! ```text
//! example.com        *.example.com        192.0.2.7        10.0.0.0/8        fd00::/8
//! example.com:443    *.example.com:443    192.0.2.7:1-99   10.0.0.0/8:80     [fd00::/8]:443
//! ```
//!
//! A name is matched as the browser asked for it, an address as the one really connected to.

use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU16,
    ops::RangeInclusive,
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net};
use url::Host;

/// Most rules in one list of a session.
pub const RULES_MAX: usize = 100;

/// Most bytes of one rule.
pub const RULE_MAX: usize = 256;

/// Hosts and ports, as one entry of a list names them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    hosts: Hosts,
    ports: RangeInclusive<u16>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Hosts {
    /// One name, in lower case and without a dot at its end.
    Name(String),
    /// All names that end in this, which begins with a dot.
    Below(String),
    /// Addresses, never IPv4 ones written as IPv6.
    Block(IpNet),
}

/// Two lists of rules. What neither names is for whoever has the lists to judge.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Egress {
    /// What may be connected to.
    pub allow: Vec<Rule>,
    /// What may not, whatever is allowed.
    pub deny: Vec<Rule>,
}

impl Rule {
    /// Whether it means this name at this port. The name may be in any case, and end in a dot.
    pub fn names(&self, name: &str, port: u16) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_named = match &self.hosts {
            Hosts::Name(own) => own.eq_ignore_ascii_case(name),
            Hosts::Below(suffix) => name
                .len()
                .checked_sub(suffix.len())
                .filter(|before| *before > 0)
                .and_then(|before| name.get(before..))
                .is_some_and(|end| end.eq_ignore_ascii_case(suffix)),
            Hosts::Block(_) => false,
        };
        is_named && self.ports.contains(&port)
    }

    /// Whether it means this address at this port. Not for IPv4 addresses written as IPv6.
    pub fn covers(&self, address: IpAddr, port: u16) -> bool {
        matches!(&self.hosts, Hosts::Block(block) if block.contains(&address))
            && self.ports.contains(&port)
    }

    /// Whether it is by address: nothing is known of a name before that is resolved.
    pub fn is_by_address(&self) -> bool {
        matches!(self.hosts, Hosts::Block(_))
    }

    /// Whether it means this port of some hosts.
    pub fn has_port(&self, port: u16) -> bool {
        self.ports.contains(&port)
    }
}

/// Why a text is no rule.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum NotARule {
    #[error("is empty")]
    Empty,
    #[error("has more than {RULE_MAX} bytes")]
    TooLong,
    #[error("is a URL: name only its host, and its port if it matters")]
    Url,
    #[error("has a port that is none: one from 1 to 65535, or two as in 8000-8999")]
    Port,
    #[error("has a block of addresses that is none: write one like 10.0.0.0/8 or fd00::/8")]
    Block,
    #[error("is a block of addresses that begins in its midst: {0} is meant")]
    Midst(IpNet),
    #[error("has a * that is not all before the first dot of a name, as in *.example.com")]
    Star,
    #[error("has brackets, which are only for IPv6 addresses before a port, as in [fd00::/8]:80")]
    Brackets,
    #[error("is no host name, no address and no block of addresses")]
    Host,
}

impl FromStr for Rule {
    type Err = NotARule;

    fn from_str(text: &str) -> Result<Self, NotARule> {
        match text.len() {
            0 => return Err(NotARule::Empty),
            1..=RULE_MAX => {}
            _ => return Err(NotARule::TooLong),
        }
        if text.contains("://") {
            return Err(NotARule::Url);
        }
        let (hosts, port) = if let Some(bracketed) = text.strip_prefix('[') {
            let (inner, rest) = bracketed.split_once(']').ok_or(NotARule::Brackets)?;
            let hosts = hosts(inner)?;
            if !matches!(hosts, Hosts::Block(_)) || !inner.contains(':') {
                return Err(NotARule::Brackets);
            }
            match rest.strip_prefix(':') {
                None if rest.is_empty() => (hosts, None),
                None => return Err(NotARule::Brackets),
                Some(port) => (hosts, Some(port)),
            }
        } else {
            match text.split_once(':') {
                // With more of them it is an IPv6 address.
                Some((host, port)) if !port.contains(':') => (hosts(host)?, Some(port)),
                _ => (hosts(text)?, None),
            }
        };
        let ports = port.map_or(Some(1..=u16::MAX), ports).ok_or(NotARule::Port)?;
        Ok(Self { hosts, ports })
    }
}

fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit()); // no sign
        text.parse::<NonZeroU16>().ok().filter(|_| digits).map(NonZeroU16::get)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = number(first)?..=number(last)?;
    (!range.is_empty()).then_some(range)
}

fn hosts(text: &str) -> Result<Hosts, NotARule> {
    if text.contains('/') {
        return block(text.parse().map_err(|_| NotARule::Block)?);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return block(address.into());
    }
    let (text, is_below) = match text.strip_prefix("*.") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    if text.contains('*') {
        return Err(NotARule::Star);
    }
    // As browsers read hosts: in lower case, international names in ASCII, odd spellings of
    // IPv4 addresses known as such.
    match Host::parse(text).map_err(|_| NotARule::Host)? {
        Host::Ipv4(address) if !is_below => block(IpAddr::from(address).into()),
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(&name);
            if name.is_empty() || name.split('.').any(str::is_empty) {
                return Err(NotARule::Host);
            }
            Ok(if is_below { Hosts::Below(format!(".{name}")) } else { Hosts::Name(name.into()) })
        }
        Host::Ipv4(_) | Host::Ipv6(_) => Err(NotARule::Host),
    }
}

fn block(block: IpNet) -> Result<Hosts, NotARule> {
    if block.trunc() != block {
        return Err(NotARule::Midst(block.trunc()));
    }
    let mapped = match block {
        IpNet::V6(six) => six.addr().to_ipv4_mapped().zip(six.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    Ok(Hosts::Block(match mapped {
        Some((four, prefix)) => four_block(four, prefix).ok_or(NotARule::Block)?,
        None => block,
    }))
}

fn four_block(address: Ipv4Addr, prefix: u8) -> Option<IpNet> {
    Ipv4Net::new(address, prefix).ok().map(IpNet::V4)
}

/// Rules in one text, with commas between them.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RuleList(pub Vec<Rule>);

/// Which entry of a list is no rule, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{entry:?} {fault}")]
pub struct NotAList {
    entry: String,
    fault: NotARule,
}

impl FromStr for RuleList {
    type Err = NotAList;

    fn from_str(text: &str) -> Result<Self, NotAList> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let rules = entries.map(|entry| {
            entry.parse().map_err(|fault| NotAList { entry: entry.to_owned(), fault })
        });
        rules.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
#[path = "egress_tests.rs"]
mod tests;
