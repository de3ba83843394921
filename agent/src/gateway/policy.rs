//! Where browsers may connect to. Pure: what is known of a connection goes in, a verdict
//! comes out.
//!
//! A target is judged twice: by the name that the browser asked for, before anything is done
//! about it, and by each address that the name turns out to have, of which only those that
//! pass are connected to. So a name that changes its addresses, or a redirect, gains nothing.
//!
//! ```text
//! our own listener ─▶ server's deny ─▶ session's deny ─▶ server's allow, or else a public
//!     address ─▶ session's allow, if it has one ─▶ passes
//! ```
//!
//! What a server allows by name it allows whatever addresses the name has: the operator
//! vouches for its DNS.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::LazyLock,
};

use ipnet::IpNet;
use proto::egress::{Egress, Rule};

/// Why a browser may not connect.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refusal {
    /// A listener of this agent, of its control plane, or a browser's gateway.
    Own,
    /// The server's deny list.
    ServerDeny,
    /// The session's deny list.
    SessionDeny,
    /// The session has an allow list, and it is not there.
    SessionAllow,
    /// The machine that the agent is on, by whatever address.
    ThisMachine,
    /// What tells cloud machines their secrets.
    Metadata,
    /// 127.0.0.0/8 and ::1.
    Loopback,
    /// 0.0.0.0/8 and ::.
    Unspecified,
    /// Networks that are somebody's own (RFC 1918, RFC 4193).
    Private,
    /// What carriers put their customers in (RFC 6598).
    Shared,
    /// 169.254.0.0/16 and fe80::/10.
    LinkLocal,
    /// Groups.
    Multicast,
    /// Everybody on the network.
    Broadcast,
    /// For measurements (RFC 2544, RFC 5180).
    Benchmarking,
    /// For examples (RFC 5737, RFC 3849, RFC 9637).
    Documentation,
    /// Nobody's yet, or for protocols and not for hosts.
    Reserved,
}

impl Refusal {
    /// Its name in the API and in the log.
    pub fn code(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::ServerDeny => "server_deny",
            Self::SessionDeny => "session_deny",
            Self::SessionAllow => "session_allow",
            Self::ThisMachine => "this_machine",
            Self::Metadata => "metadata",
            Self::Loopback => "loopback",
            Self::Unspecified => "unspecified",
            Self::Private => "private",
            Self::Shared => "shared",
            Self::LinkLocal => "link_local",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Benchmarking => "benchmarking",
            Self::Documentation => "documentation",
            Self::Reserved => "reserved",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// What is closed unless a server allows it: the first block that an address is in counts.
/// After IANA's registries of special-purpose addresses, and the cloud vendors' own words.
const CLOSED: [(&str, Refusal); 37] = [
    ("169.254.169.254/32", Refusal::Metadata), // most clouds
    ("169.254.170.0/24", Refusal::Metadata),   // tasks and pods on AWS
    ("100.100.100.200/32", Refusal::Metadata), // Alibaba
    ("168.63.129.16/32", Refusal::Metadata),   // Azure
    ("192.0.0.192/32", Refusal::Metadata),     // Oracle
    ("fd00:ec2::/32", Refusal::Metadata),      // AWS
    ("fd20:ce::254/128", Refusal::Metadata),   // Google
    ("0.0.0.0/8", Refusal::Unspecified),
    ("10.0.0.0/8", Refusal::Private),
    ("100.64.0.0/10", Refusal::Shared),
    ("127.0.0.0/8", Refusal::Loopback),
    ("169.254.0.0/16", Refusal::LinkLocal),
    ("172.16.0.0/12", Refusal::Private),
    ("192.0.0.0/24", Refusal::Reserved), // protocol assignments
    ("192.0.2.0/24", Refusal::Documentation),
    ("192.88.99.0/24", Refusal::Reserved), // relays of 6to4
    ("192.168.0.0/16", Refusal::Private),
    ("198.18.0.0/15", Refusal::Benchmarking),
    ("198.51.100.0/24", Refusal::Documentation),
    ("203.0.113.0/24", Refusal::Documentation),
    ("224.0.0.0/4", Refusal::Multicast),
    ("255.255.255.255/32", Refusal::Broadcast),
    ("240.0.0.0/4", Refusal::Reserved),
    ("::/128", Refusal::Unspecified),
    ("::1/128", Refusal::Loopback),
    ("64:ff9b:1::/48", Refusal::Reserved), // translation within a network (RFC 8215)
    ("2001:2::/48", Refusal::Benchmarking),
    ("2001:db8::/32", Refusal::Documentation),
    ("2001:20::/28", Refusal::Reserved), // ORCHIDv2
    ("2001:10::/28", Refusal::Reserved),
    ("3fff::/20", Refusal::Documentation),
    ("fc00::/7", Refusal::Private),
    ("fe80::/10", Refusal::LinkLocal),
    ("fec0::/10", Refusal::Private), // site-local, before there was fc00::/7
    ("ff00::/8", Refusal::Multicast),
    ("::/96", Refusal::Reserved),           // IPv4-compatible
    ("::ffff:0:0:0/96", Refusal::Reserved), // IPv4-translated (RFC 2765)
];

static CLOSED_BLOCKS: LazyLock<Vec<(IpNet, Refusal)>> = LazyLock::new(|| {
    let parsed = |(text, refusal): &(&str, Refusal)| Some((text.parse().ok()?, *refusal));
    CLOSED.iter().filter_map(parsed).collect() // a test sees that none is left out
});

/// What a server lets its browsers connect to.
#[derive(Clone, Default, Debug)]
pub struct Policy {
    /// What is open although it is closed for others, and what is closed.
    pub egress: Egress,
    /// Ports on this machine that are the server's own.
    pub own_ports: Vec<u16>,
    /// What is the server's own elsewhere.
    pub own: Vec<Rule>,
}

/// One address that a connection could go to.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// As the browser asked for it; `None`: by this address.
    pub name: Option<&'a str>,
    /// An address as it is to be connected to.
    pub address: SocketAddr,
    /// It is this machine's.
    pub is_here: bool,
}

impl Policy {
    /// One that opens this machine to pages, for tests.
    #[cfg(test)]
    pub fn with_loopback() -> Self {
        let rules = ["127.0.0.0/8", "::1"].map(|rule| rule.parse().expect("a rule"));
        Self { egress: Egress { allow: rules.into(), deny: Vec::new() }, ..Self::default() }
    }

    /// Judges a name before anything is known of its addresses.
    pub fn judge_name(&self, session: &Egress, name: &str, port: u16) -> Result<(), Refusal> {
        let names = |rules: &[Rule]| rules.iter().any(|rule| rule.names(name, port));
        if names(&self.own) {
            return Err(Refusal::Own);
        }
        if names(&self.egress.deny) {
            return Err(Refusal::ServerDeny);
        }
        if names(&session.deny) {
            return Err(Refusal::SessionDeny);
        }
        // Not even the name servers are asked for what no address could open.
        let may_open = |rule: &Rule| rule.is_by_address() && rule.has_port(port);
        let allow = &session.allow;
        if !allow.is_empty() && !names(allow) && !allow.iter().any(may_open) {
            return Err(Refusal::SessionAllow);
        }
        Ok(())
    }

    /// Judges one address, and the name that it was found by.
    pub fn judge(&self, session: &Egress, to: Destination<'_>) -> Result<(), Refusal> {
        let port = to.address.port();
        let address = to.address.ip().to_canonical();
        let forms = [Some(address), embedded(address)];
        let means = |rules: &[Rule], forms: &[Option<IpAddr>]| {
            rules.iter().any(|rule| {
                to.name.is_some_and(|name| rule.names(name, port))
                    || forms.iter().flatten().any(|form| rule.covers(*form, port))
            })
        };
        if to.is_here && self.own_ports.contains(&port) || means(&self.own, &forms) {
            return Err(Refusal::Own);
        }
        if means(&self.egress.deny, &forms) {
            return Err(Refusal::ServerDeny);
        }
        if means(&session.deny, &forms) {
            return Err(Refusal::SessionDeny);
        }
        if !means(&self.egress.allow, &forms[..1]) {
            // What it stands for first, which says more than the block that it is in.
            forms.into_iter().flatten().rev().try_for_each(is_public)?;
            if to.is_here {
                return Err(Refusal::ThisMachine);
            }
        }
        if !session.allow.is_empty() && !means(&session.allow, &forms[..1]) {
            return Err(Refusal::SessionAllow);
        }
        Ok(())
    }
}

fn is_public(address: IpAddr) -> Result<(), Refusal> {
    if let Some((_, refusal)) = CLOSED_BLOCKS.iter().find(|(block, _)| block.contains(&address)) {
        return Err(*refusal);
    }
    match address {
        // All that is given to hosts so far is 2000::/3, and what translators make of IPv4.
        IpAddr::V6(six) if six.segments()[0] >> 13 != 1 && embedded(address).is_none() => {
            Err(Refusal::Reserved)
        }
        _ => Ok(()),
    }
}

/// The IPv4 address that an IPv6 address leads to, where translators do as they are meant to.
fn embedded(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(six) = address else { return None };
    let four = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    let found = match six.segments() {
        // NAT64 (RFC 6052): how networks without IPv4 reach all of it.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => four(high, low),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => four(high, low),
        // Teredo (RFC 4380): the client, with all bits turned.
        [0x2001, 0, .., high, low] => four(!high, !low),
        // IPv4-compatible (RFC 4291), but for :: and ::1, and IPv4-translated (RFC 2765).
        [0, 0, 0, 0, 0, 0, high, low] if six != Ipv6Addr::LOCALHOST && !six.is_unspecified() => {
            four(high, low)
        }
        [0, 0, 0, 0, 0xffff, 0, high, low] => four(high, low),
        _ => return None,
    };
    Some(found.into())
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
