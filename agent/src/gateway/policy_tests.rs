use proptest::prelude::*;
use proto::egress::RuleList;

use super::*;

fn egress(allow: &str, deny: &str) -> Egress {
    let rules = |text: &str| text.parse::<RuleList>().unwrap().0;
    Egress { allow: rules(allow), deny: rules(deny) }
}

fn server(allow: &str, deny: &str) -> Policy {
    Policy { egress: egress(allow, deny), ..Policy::default() }
}

/// Judges an address that the browser asked for as such.
fn by_address(policy: &Policy, session: &Egress, address: &str, port: u16) -> Result<(), Refusal> {
    let address = SocketAddr::new(address.parse().unwrap(), port);
    policy.judge(session, Destination { name: None, address, is_here: false })
}

/// Judges a name that has this address.
fn by_name(
    policy: &Policy,
    session: &Egress,
    name: &str,
    address: &str,
    port: u16,
) -> Result<(), Refusal> {
    policy.judge_name(session, name, port)?;
    let address = SocketAddr::new(address.parse().unwrap(), port);
    policy.judge(session, Destination { name: Some(name), address, is_here: false })
}

#[test]
fn every_closed_block_is_well_formed_and_closed() {
    assert_eq!(CLOSED_BLOCKS.len(), CLOSED.len());
    for (block, refusal) in &*CLOSED_BLOCKS {
        let first =
            by_address(&Policy::default(), &Egress::default(), &block.addr().to_string(), 80);
        assert!(first.is_err(), "{block} {refusal}");
    }
}

#[test]
fn only_public_addresses_are_open_by_themselves() {
    for (address, refusal) in [
        ("127.0.0.1", Refusal::Loopback),
        ("127.255.255.254", Refusal::Loopback),
        ("::1", Refusal::Loopback),
        ("::ffff:127.0.0.1", Refusal::Loopback),
        ("::127.0.0.1", Refusal::Loopback),
        ("::ffff:0:127.0.0.1", Refusal::Loopback),
        ("64:ff9b::127.0.0.1", Refusal::Loopback),
        ("2002:7f00:1::", Refusal::Loopback),
        ("2001::80ff:fffe", Refusal::Loopback), // Teredo of 127.0.0.1
        ("0.0.0.0", Refusal::Unspecified),
        ("0.1.2.3", Refusal::Unspecified),
        ("::", Refusal::Unspecified),
        ("::ffff:0.0.0.0", Refusal::Unspecified),
        ("10.0.0.1", Refusal::Private),
        ("172.16.0.1", Refusal::Private),
        ("172.31.255.255", Refusal::Private),
        ("192.168.1.1", Refusal::Private),
        ("::ffff:192.168.1.1", Refusal::Private),
        ("64:ff9b::10.0.0.1", Refusal::Private),
        ("fc00::1", Refusal::Private),
        ("fdff::1", Refusal::Private),
        ("fec0::1", Refusal::Private),
        ("100.64.0.1", Refusal::Shared),
        ("100.127.255.255", Refusal::Shared),
        ("169.254.1.1", Refusal::LinkLocal),
        ("fe80::1", Refusal::LinkLocal),
        ("febf::1", Refusal::LinkLocal),
        ("169.254.169.254", Refusal::Metadata),
        ("::ffff:169.254.169.254", Refusal::Metadata),
        ("64:ff9b::a9fe:a9fe", Refusal::Metadata),
        ("169.254.170.2", Refusal::Metadata),
        ("100.100.100.200", Refusal::Metadata),
        ("168.63.129.16", Refusal::Metadata),
        ("192.0.0.192", Refusal::Metadata),
        ("fd00:ec2::254", Refusal::Metadata),
        ("fd20:ce::254", Refusal::Metadata),
        ("224.0.0.1", Refusal::Multicast),
        ("ff02::1", Refusal::Multicast),
        ("255.255.255.255", Refusal::Broadcast),
        ("240.0.0.1", Refusal::Reserved),
        ("192.0.0.8", Refusal::Reserved),
        ("192.88.99.1", Refusal::Reserved),
        ("198.18.0.1", Refusal::Benchmarking),
        ("198.19.255.255", Refusal::Benchmarking),
        ("2001:2::1", Refusal::Benchmarking),
        ("192.0.2.1", Refusal::Documentation),
        ("198.51.100.1", Refusal::Documentation),
        ("203.0.113.1", Refusal::Documentation),
        ("2001:db8::1", Refusal::Documentation),
        ("3fff::1", Refusal::Documentation),
        ("::8.8.8.8", Refusal::Reserved),
        ("64:ff9b:1::1", Refusal::Reserved),
        ("100::1", Refusal::Reserved),
        ("5f00::1", Refusal::Reserved),
    ] {
        let judged = by_address(&Policy::default(), &Egress::default(), address, 80);
        assert_eq!(judged, Err(refusal), "{address}");
    }
    for address in [
        "8.8.8.8",
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "168.63.129.15",
        "2606:4700::1111",
        "2001:4860:4860::8888",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
        "::ffff:8.8.8.8",
        "2a00:1450::1",
    ] {
        let judged = by_address(&Policy::default(), &Egress::default(), address, 80);
        assert_eq!(judged, Ok(()), "{address}");
    }
}

#[test]
fn a_server_opens_what_it_allows_and_no_more() {
    let (policy, none) =
        (server("127.0.0.0/8:8080,intranet.example,[fd00::/8]:80", ""), Egress::default());
    assert_eq!(by_address(&policy, &none, "127.0.0.1", 8080), Ok(()));
    assert_eq!(by_address(&policy, &none, "::ffff:127.0.0.1", 8080), Ok(()), "it is the same");
    assert_eq!(by_address(&policy, &none, "127.0.0.1", 8081), Err(Refusal::Loopback));
    assert_eq!(by_address(&policy, &none, "::1", 8080), Err(Refusal::Loopback));
    assert_eq!(by_address(&policy, &none, "fd12::1", 80), Ok(()));
    assert_eq!(by_name(&policy, &none, "intranet.example", "10.0.0.1", 443), Ok(()));
    assert_eq!(by_name(&policy, &none, "other.example", "10.0.0.1", 443), Err(Refusal::Private));
    assert_eq!(by_address(&policy, &none, "10.0.0.1", 443), Err(Refusal::Private));
    // A translator is not what was opened.
    assert_eq!(by_address(&policy, &none, "64:ff9b::127.0.0.1", 8080), Err(Refusal::Loopback));
    assert_eq!(by_address(&policy, &none, "8.8.8.8", 53), Ok(()), "all else is as it was");
}

#[test]
fn a_name_that_changes_its_address_gains_nothing() {
    let (policy, none) = (server("localhost", ""), Egress::default());
    assert_eq!(by_name(&policy, &none, "rebind.example", "8.8.8.8", 80), Ok(()));
    for (address, refusal) in [
        ("127.0.0.1", Refusal::Loopback),
        ("169.254.169.254", Refusal::Metadata),
        ("::ffff:10.0.0.1", Refusal::Private),
        ("64:ff9b::c0a8:1", Refusal::Private),
    ] {
        assert_eq!(by_name(&policy, &none, "rebind.example", address, 80), Err(refusal));
    }
}

#[test]
fn deny_wins_over_allow_in_every_form_of_an_address() {
    let policy = server("0.0.0.0/0,::/0,*.example.com", "10.0.0.0/8,evil.example.com,8.8.8.8:53");
    let none = Egress::default();
    for address in ["10.1.1.1", "::ffff:10.1.1.1", "64:ff9b::a01:101", "2002:a01:101::"] {
        assert_eq!(by_address(&policy, &none, address, 80), Err(Refusal::ServerDeny), "{address}");
    }
    assert_eq!(by_name(&policy, &none, "a.example.com", "10.1.1.1", 80), Err(Refusal::ServerDeny));
    assert_eq!(
        by_name(&policy, &none, "EVIL.example.com.", "1.1.1.1", 80),
        Err(Refusal::ServerDeny)
    );
    assert_eq!(by_address(&policy, &none, "8.8.8.8", 53), Err(Refusal::ServerDeny));
    assert_eq!(by_address(&policy, &none, "8.8.8.8", 443), Ok(()));
    assert_eq!(by_address(&policy, &none, "192.168.0.1", 443), Ok(()));
}

#[test]
fn a_session_only_narrows() {
    let policy = server("127.0.0.1", "denied.example");
    let session = egress("*.example:443,127.0.0.1,10.0.0.1,denied.example", "bad.example");
    for (name, address, port, judged) in [
        ("good.example", "8.8.8.8", 443, Ok(())),
        ("good.example", "8.8.8.8", 80, Err(Refusal::SessionAllow)),
        ("other.test", "8.8.8.8", 443, Err(Refusal::SessionAllow)),
        ("bad.example", "8.8.8.8", 443, Err(Refusal::SessionDeny)),
        ("denied.example", "8.8.8.8", 443, Err(Refusal::ServerDeny)),
        ("good.example", "10.0.0.1", 443, Err(Refusal::Private)),
        ("other.test", "127.0.0.1", 1, Ok(())),
    ] {
        assert_eq!(by_name(&policy, &session, name, address, port), judged, "{name} {address}");
    }
    assert_eq!(by_address(&policy, &session, "10.0.0.1", 80), Err(Refusal::Private));
    assert_eq!(by_address(&policy, &session, "127.0.0.1", 80), Ok(()));
    let without_loopback = egress("", "127.0.0.0/8");
    assert_eq!(by_address(&policy, &without_loopback, "127.0.0.1", 80), Err(Refusal::SessionDeny));
    assert_eq!(by_address(&policy, &without_loopback, "8.8.8.8", 80), Ok(()));
}

#[test]
fn what_no_address_could_open_is_not_even_looked_up() {
    let policy = Policy::default();
    let hosts = egress("good.example,10.0.0.0/8:80", "");
    assert_eq!(policy.judge_name(&hosts, "a.test", 443), Err(Refusal::SessionAllow));
    assert_eq!(policy.judge_name(&hosts, "a.test", 80), Ok(()), "it may be in the block");
}

#[test]
fn our_own_listeners_are_closed_whatever_is_allowed() {
    let mut policy = server("0.0.0.0/0,::/0,*.example", "");
    policy.own_ports = vec![8080];
    policy.own = vec!["hub.example:8081".parse().unwrap(), "192.0.2.1:8081".parse().unwrap()];
    let none = Egress::default();
    for address in ["127.0.0.1:8080", "[::1]:8080", "0.0.0.0:8080", "8.8.8.8:8080"] {
        let (name, address) = (None, address.parse().unwrap());
        let here = Destination { name, address, is_here: true };
        assert_eq!(policy.judge(&none, here), Err(Refusal::Own), "{address}");
        let elsewhere = Destination { name, address, is_here: false };
        assert_eq!(policy.judge(&none, elsewhere), Ok(()), "{address}");
    }
    assert_eq!(by_name(&policy, &none, "hub.example", "8.8.8.8", 8081), Err(Refusal::Own));
    assert_eq!(by_name(&policy, &none, "hub.example", "8.8.8.8", 443), Ok(()));
    assert_eq!(by_name(&policy, &none, "x.example", "192.0.2.1", 8081), Err(Refusal::Own));
}

#[test]
fn this_machine_is_closed_by_its_public_address_too() {
    let address = "8.8.8.8:5432".parse().unwrap();
    let here = Destination { name: None, address, is_here: true };
    let none = Egress::default();
    assert_eq!(Policy::default().judge(&none, here), Err(Refusal::ThisMachine));
    assert_eq!(server("8.8.8.8:5432", "").judge(&none, here), Ok(()));
}

proptest! {
    #[test]
    fn an_ipv4_address_is_judged_alike_however_it_is_wrapped(four: u32) {
        let four = Ipv4Addr::from(four);
        let (policy, none) = (Policy::default(), Egress::default());
        let plain = by_address(&policy, &none, &four.to_string(), 80);
        let [a, b, c, d] = four.octets();
        let [high, low] = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
        for wrapped in [
            four.to_ipv6_mapped(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0, 1, 2, 3, 4, !high, !low),
        ] {
            prop_assert_eq!(by_address(&policy, &none, &wrapped.to_string(), 80), plain);
        }
    }

    #[test]
    fn a_session_never_widens(address: [u16; 8], port in 1..=u16::MAX, four: bool) {
        let six = Ipv6Addr::from(address);
        let address = if four { Ipv4Addr::from(six.to_bits() as u32).into() } else { IpAddr::V6(six) };
        let (policy, none) = (server("10.0.0.0/8", "8.0.0.0/8"), Egress::default());
        let all = egress("0.0.0.0/0,::/0", "");
        let to = Destination { name: None, address: (address, port).into(), is_here: false };
        prop_assert_eq!(policy.judge(&all, to), policy.judge(&none, to));
    }
}
