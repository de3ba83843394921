use tokio::net::TcpListener;

use super::*;

fn to(host: &str, port: u16) -> Target {
    Target { host: Host::parse(host).unwrap(), port }
}

#[test]
fn localhost_is_known_by_all_its_names() {
    for name in ["localhost", "LocalHost", "localhost.", "a.localhost", "a.b.LOCALHOST."] {
        assert!(is_localhost(name), "{name}");
    }
    for name in ["localhost.example", "notlocalhost", "localhost..", ".", "example"] {
        assert!(!is_localhost(name), "{name}");
    }
}

#[tokio::test]
async fn a_host_is_reached_by_whichever_address_answers() {
    let gateways = Gateways::new(Policy::with_loopback());
    for listening in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(listening).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream =
            gateways.dial(&to("a.localhost", address.port()), &Egress::default()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
    }
}

#[tokio::test]
async fn nobody_and_no_such_name_are_told_apart() {
    let gateways = Gateways::new(Policy::with_loopback());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let refused = gateways.dial(&to("127.0.0.1", port), &Egress::default()).await.unwrap_err();
    assert_eq!(refused.reply(), Reply::Refused, "{refused:?}");
    let unknown =
        gateways.dial(&to("no-such-host.invalid", 80), &Egress::default()).await.unwrap_err();
    assert_eq!(unknown.reply(), Reply::HostUnreachable, "{unknown:?}");
}

#[tokio::test]
async fn a_gateway_is_not_reached_through_another_by_any_of_its_names() {
    let gateways = Gateways::new(Policy::with_loopback());
    let (one, other) = (gateways.open().await.unwrap(), gateways.open().await.unwrap());
    for host in ["127.0.0.1", "localhost", "0.0.0.0", "::ffff:127.0.0.1", "::ffff:0.0.0.0"] {
        for port in [one.port(), other.port()] {
            let refused = gateways.dial(&to(host, port), &Egress::default()).await.unwrap_err();
            assert_eq!(refused.reply(), Reply::NotAllowed, "{host}: {refused:?}");
        }
    }
    let port = other.port();
    other.close().await;
    let gone = gateways.dial(&to("127.0.0.1", port), &Egress::default()).await.unwrap_err();
    assert_eq!(gone.reply(), Reply::Refused, "its port may be another's now");
}

#[tokio::test]
async fn only_those_addresses_of_a_name_are_tried_that_may_be() {
    // A name with two addresses, of which the server has opened one.
    let policy = |allow: &str| {
        let allow = vec![allow.parse().unwrap()];
        Policy { egress: Egress { allow, deny: Vec::new() }, ..Policy::default() }
    };
    for (allowed, other) in [("127.0.0.1", "::1"), ("::1", "127.0.0.1")] {
        let gateways = Gateways::new(policy(allowed));
        let other = TcpListener::bind((other, 0)).await.unwrap();
        let port = other.local_addr().unwrap().port();
        let refused = gateways.dial(&to("a.localhost", port), &Egress::default()).await;
        assert_eq!(refused.unwrap_err().reply(), Reply::Refused, "the other one was not tried");
        let open = TcpListener::bind((allowed, 0)).await.unwrap();
        let port = open.local_addr().unwrap().port();
        gateways.dial(&to("a.localhost", port), &Egress::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_name_is_judged_anew_each_time_by_what_it_is_then() {
    let gateways = Gateways::new(Policy::default());
    let (target, session) = (to("rebind.example", 80), Egress::default());
    assert_eq!(gateways.judge(&target, &session), Ok(()), "nothing is known of it yet");
    let open = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|ip| (ip.parse::<IpAddr>().unwrap(), 80).into());
        gateways.open_to(&target, &session, addresses.collect())
    };
    let public: SocketAddr = "8.8.8.8:80".parse().unwrap();
    assert_eq!(open(&["8.8.8.8"]), Ok(vec![public]));
    assert_eq!(open(&["127.0.0.1"]), Err(Refusal::Loopback));
    assert_eq!(open(&["10.0.0.1", "8.8.8.8", "::1"]), Ok(vec![public]));
    assert_eq!(open(&["169.254.169.254", "127.0.0.1"]), Err(Refusal::Metadata));
}

#[test]
fn this_machine_is_known_by_its_addresses() {
    for here in ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::"] {
        assert!(is_here(here.parse().unwrap()), "{here}");
    }
    for elsewhere in ["8.8.8.8", "192.0.2.1", "2001:db8::1"] {
        assert!(!is_here(elsewhere.parse().unwrap()), "{elsewhere}");
    }
    // Its own address on a network, if it has one.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    if socket.connect("192.0.2.1:9").is_ok() {
        assert!(is_here(socket.local_addr().unwrap().ip()));
    }
}
