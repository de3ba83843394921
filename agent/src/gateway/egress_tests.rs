//! What gateways refuse, to whom, and what becomes of it; and the proxies of contexts.

use std::{os::unix::process::CommandExt, process::Stdio};

use proto::egress::{Egress, RuleList};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    socks::Denial as Answer,
    tests::{Site, by, dial, free_port, launch, navigate, page, proxy, rest},
    *,
};
use crate::{
    browser::testing::{HEADLESS_SHELL, Place, evaluate, first_page_of},
    sessions::testing::soon,
};

fn egress(allow: &str, deny: &str) -> Egress {
    let rules = |text: &str| text.parse::<RuleList>().unwrap().0;
    Egress { allow: rules(allow), deny: rules(deny) }
}

/// A gateway of a server that allows and denies this, lent to a session that does.
async fn gateway(server: Egress, way: Way) -> (Gateway, Account) {
    let gateways = Gateways::new(Policy { egress: server, ..Policy::default() });
    let gateway = gateways.open().await.unwrap();
    let account = gateway.lend(way);
    (gateway, account)
}

fn is_refused(answer: &Result<TcpStream, Answer>) -> bool {
    matches!(answer, Err(Answer::Refused(2)))
}

/// Hosts, ports, rules and how often, in order.
fn listed(account: &Account) -> Vec<(String, u16, &'static str, u64)> {
    let mut all: Vec<_> = account.denials.since(0).into_iter().collect();
    all.sort_by(|a, b| (&a.host, a.port, a.rule).cmp(&(&b.host, b.port, b.rule)));
    all.into_iter().map(|entry| (entry.host, entry.port, entry.rule, entry.count)).collect()
}

#[tokio::test]
async fn a_server_opens_no_address_of_its_own_network_unless_it_says_so() {
    let site = Site::start(page).await;
    let port = site.address.port();
    let (closed, account) = gateway(Egress::default(), Way::default()).await;
    for host in ["127.0.0.1", "localhost", "a.localhost", "0x7f.1", "::ffff:127.0.0.1", "0.0.0.0"] {
        assert!(is_refused(&dial(&closed, host, port).await), "{host}");
    }
    assert!(is_refused(&dial(&closed, "169.254.169.254", 80).await));
    assert!(is_refused(&dial(&closed, "localhost", port).await));
    assert_eq!(account.denials.count(), 8);
    assert_eq!(
        listed(&account),
        [
            ("0.0.0.0".to_owned(), port, "unspecified", 1),
            ("127.0.0.1".to_owned(), port, "loopback", 2), // one of them spelled oddly
            ("169.254.169.254".to_owned(), 80, "metadata", 1),
            ("::ffff:127.0.0.1".to_owned(), port, "loopback", 1),
            ("a.localhost".to_owned(), port, "loopback", 1),
            ("localhost".to_owned(), port, "loopback", 2),
        ]
    );
    assert_eq!(account.meter.bytes(), 0);
    let (open, account) = gateway(egress(&format!("127.0.0.1:{port}"), ""), Way::default()).await;
    for host in ["127.0.0.1", "localhost", "0x7f.1", "::ffff:127.0.0.1"] {
        dial(&open, host, port).await.unwrap_or_else(|answer| panic!("{host}: {answer}"));
    }
    assert_eq!(account.denials.count(), 0);
    tokio::join!(closed.close(), open.close());
}

#[tokio::test]
async fn what_chrome_asks_of_its_vendor_goes_nowhere_and_counts_for_nothing() {
    let mut upstream = Site::start(page).await;
    for upstream in [None, proxy(&upstream)] {
        let way = Way { upstream, egress: egress("example.com", "") };
        let (gateway, account) = gateway(egress("127.0.0.1", ""), way).await;
        for host in ["browser.invalid", "BROWSER.INVALID."] {
            let answer = dial(&gateway, host, 443).await;
            assert!(matches!(answer, Err(Answer::Refused(4))), "{answer:?}");
        }
        assert!(is_refused(&dial(&gateway, "not-invalid", 443).await));
        assert_eq!((account.denials.count(), account.meter.bytes()), (1, 0));
        gateway.close().await;
    }
    assert!(upstream.heads.try_recv().is_err());
}

#[tokio::test]
async fn a_session_narrows_what_its_server_opens() {
    let site = Site::start(page).await;
    let port = site.address.port();
    let narrow = egress(&format!("a.localhost:{port},127.0.0.1:1"), "");
    let way = Way { upstream: None, egress: narrow };
    let (gateway, account) = gateway(egress("127.0.0.1,::1", ""), way).await;
    dial(&gateway, "a.localhost", port).await.unwrap();
    for host in ["localhost", "127.0.0.1", "example.com"] {
        assert!(is_refused(&dial(&gateway, host, port).await), "{host}");
    }
    assert!(listed(&account).iter().all(|entry| entry.2 == "session_allow"));
    gateway.close().await;
}

#[tokio::test]
async fn what_a_proxy_is_asked_for_is_judged_before() {
    let mut upstream = Site::start(page).await;
    let here = egress("127.0.0.1", "denied.example");
    let way = Way { upstream: proxy(&upstream), egress: egress("", "bad.example") };
    let (gateway, account) = gateway(here, way).await;
    for (host, port, rule) in [
        ("denied.example", 80, "server_deny"),
        ("bad.example", 80, "session_deny"),
        ("169.254.169.254", 80, "metadata"),
        ("10.0.0.1", 443, "private"),
        ("::1", 443, "loopback"),
    ] {
        assert!(is_refused(&dial(&gateway, host, port).await), "{host}");
        assert!(listed(&account).iter().any(|entry| entry.0 == host && entry.2 == rule), "{host}");
    }
    // A name is the proxy's to resolve.
    let mut plain = dial(&gateway, "plain.example", 80).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: plain.example\r\n\r\n").await.unwrap();
    assert!(upstream.head().await.starts_with("GET http://plain.example/ "));
    gateway.close().await;
}

#[tokio::test]
async fn the_servers_policy_holds_for_a_sessions_proxy_and_the_sessions_own_does_not() {
    let mut upstream = Site::start(page).await;
    let way = || Way { upstream: proxy(&upstream), egress: egress("plain.example", "") };
    let (open, _) = gateway(egress("127.0.0.1", ""), way()).await;
    let (closed, account) = gateway(Egress::default(), way()).await;
    let request = b"GET / HTTP/1.1\r\nHost: plain.example\r\n\r\n";
    let mut refused = dial(&closed, "plain.example", 80).await.unwrap();
    refused.write_all(request).await.unwrap();
    assert_eq!(rest(&mut refused).await.unwrap_or_default(), "");
    let mut passed = dial(&open, "plain.example", 80).await.unwrap();
    passed.write_all(request).await.unwrap();
    assert!(upstream.head().await.starts_with("GET http://plain.example/ "));
    assert!(upstream.heads.try_recv().is_err(), "only one came through");
    assert_eq!(
        listed(&account),
        [("127.0.0.1".to_owned(), upstream.address.port(), "loopback", 1)]
    );
    tokio::join!(closed.close(), open.close());
}

#[tokio::test]
async fn our_own_ports_are_closed_where_this_machine_is_open() {
    let (own, other) = (Site::start(page).await, Site::start(page).await);
    let mut policy = Policy::with_loopback();
    policy.own_ports = vec![own.address.port()];
    let gateway = Gateways::new(policy).open().await.unwrap();
    let account = gateway.lend(Way::default());
    for host in ["127.0.0.1", "localhost", "127.0.0.2", "::1", "::ffff:127.0.0.1"] {
        assert!(is_refused(&dial(&gateway, host, own.address.port()).await), "{host}");
    }
    assert!(listed(&account).iter().all(|entry| entry.2 == "own"));
    dial(&gateway, "127.0.0.1", other.address.port()).await.unwrap();
    gateway.close().await;
}

/// What a program of this user hears from a gateway when it greets it; empty: it was cut off.
async fn greeted_by(port: u16, user: u32) -> Vec<u8> {
    let program =
        format!("exec 3<>/dev/tcp/127.0.0.1/{port}; printf '\\5\\1\\0' >&3; head -c 2 <&3");
    let mut greeting = std::process::Command::new("bash");
    greeting.args(["-c", &program]).uid(user).stderr(Stdio::null());
    let said = soon(tokio::process::Command::from(greeting).output()).await.unwrap();
    said.stdout
}

#[tokio::test]
async fn nobody_but_the_browsers_own_user_is_served() {
    if !geteuid().is_root() {
        return; // no other user can be played
    }
    let (gateway, _) = gateway(Egress::default(), Way::default()).await;
    gateway.serve_only(65_531);
    assert_eq!(greeted_by(gateway.port(), 65_531).await, [5, 0]);
    for other in [65_530, 0] {
        assert_eq!(greeted_by(gateway.port(), other).await, [0; 0], "{other}");
    }
    gateway.close().await;
}

#[tokio::test]
async fn a_browsers_gateway_serves_that_browser() {
    let site = Site::start(page).await;
    let place = Place::new();
    let browser = launch(&place, HEADLESS_SHELL).await;
    browser.lend(Way::default());
    let target = first_page_of(&browser).await;
    let url = format!("http://{}/", site.address);
    assert_eq!(navigate(&browser, &target, &url).await, "");
    // Nor the agent itself, where browsers have users of their own.
    let ours = greeted_by(browser.gateway_port(), geteuid().as_raw()).await;
    assert_eq!(ours.is_empty(), geteuid().is_root());
    browser.close().await;
}

#[tokio::test]
async fn a_browser_shows_an_error_at_once_where_it_may_not_go() {
    let mut site = Site::start(page).await;
    let place = Place::new();
    let browser = launch(&place, HEADLESS_SHELL).await;
    let deny = egress("", &format!("127.0.0.0/8:{}", site.address.port()));
    let account = browser.lend(Way { upstream: None, egress: deny });
    let target = first_page_of(&browser).await;
    let url = format!("http://{}/", site.address);
    let error = soon(navigate(&browser, &target, &url)).await;
    assert_eq!(error, "net::ERR_SOCKS_CONNECTION_FAILED");
    let fetch = format!("fetch('{url}').then(() => 1, () => 0)");
    assert_eq!(soon(evaluate(&browser, &target, &fetch)).await, json!(0));
    assert!(account.denials.count() >= 2, "{account:?}");
    assert_eq!(listed(&account).len(), 1);
    assert!(site.heads.try_recv().is_err());
    browser.close().await;
}

/// A proxy that wants `me:secret`, and answers requests itself.
fn guarded(head: &str) -> String {
    if !head.contains("\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n") {
        return "HTTP/1.1 407 Proxy Authentication Required\r\n\
                Proxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 2\r\n\r\nno"
            .to_owned();
    }
    match head.starts_with("CONNECT") {
        true => "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
        false => page(head),
    }
}

/// Where Chrome would find a context's proxy, as a URL without its scheme.
async fn front(proxy: &ContextProxy) -> TcpStream {
    let (_, address) = proxy.server().split_once("://").unwrap();
    TcpStream::connect(address).await.unwrap()
}

/// Says something, and reads until the answer ends so.
async fn ask(stream: &mut TcpStream, request: &str, end: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    while !answer.ends_with(end) {
        answer.push(soon(stream.read_u8()).await.unwrap().into());
    }
    answer
}

const SECRET: &str = "Proxy-Authorization: Basic bWU6c2VjcmV0\r\n";

#[tokio::test]
async fn a_contexts_proxy_asks_the_client_for_credentials_and_hears_them() {
    let mut upstream = Site::start(guarded).await;
    let (gateway, account) = gateway(egress("127.0.0.1", "bad.example"), Way::default()).await;
    let proxy = gateway.contexts().open(&upstream.address.to_string()).unwrap();
    let port = gateway.port();
    assert!(
        proxy.server().starts_with("http://127.") && proxy.server().ends_with(&format!(":{port}"))
    );

    let mut plain = front(&proxy).await;
    let bare = "GET http://plain.example/a?b HTTP/1.1\r\nHost: plain.example\r\n";
    let asked = ask(&mut plain, &format!("{bare}\r\n"), "no").await;
    assert!(asked.starts_with("HTTP/1.1 407 "), "{asked}");
    assert!(asked.to_lowercase().contains("\r\nproxy-authenticate: basic realm=\"x\"\r\n"));
    let answer = ask(&mut plain, &format!("{bare}{SECRET}\r\n"), "</title>").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let _asked = upstream.head().await;
    assert!(upstream.head().await.starts_with("GET http://plain.example/a?b HTTP/1.1\r\n"));

    let mut tunnel = front(&proxy).await;
    let bare = "CONNECT secure.example:443 HTTP/1.1\r\nHost: secure.example:443\r\n";
    let asked = ask(&mut tunnel, &format!("{bare}\r\n"), "no").await;
    assert!(asked.starts_with("HTTP/1.1 407 "), "{asked}");
    let opened = ask(&mut tunnel, &format!("{bare}{SECRET}\r\n"), "\r\n\r\n").await;
    assert!(opened.starts_with("HTTP/1.1 200 "), "{opened}");
    assert_eq!(ask(&mut tunnel, "\x16\x03\x01 hello", "hello").await, "\x16\x03\x01 hello");
    assert!(account.meter.bytes() > 0);

    for request in [
        "CONNECT bad.example:443 HTTP/1.1\r\nHost: bad.example:443\r\n\r\n",
        "CONNECT 10.0.0.1:443 HTTP/1.1\r\nHost: 10.0.0.1:443\r\n\r\n",
        "GET http://169.254.169.254/ HTTP/1.1\r\nHost: plain.example\r\n\r\n",
        "GET /not-for-a-proxy HTTP/1.1\r\nHost: plain.example\r\n\r\n",
    ] {
        let mut stream = front(&proxy).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(rest(&mut stream).await.unwrap_or_default(), "", "{request}");
    }
    let rules: Vec<_> = listed(&account).into_iter().map(|entry| entry.2).collect();
    assert_eq!(rules, ["private", "metadata", "server_deny"]);
    gateway.close().await;
}

#[tokio::test]
async fn a_contexts_proxy_ends_with_it_and_its_address_is_not_used_again() {
    let upstream = Site::start(guarded).await;
    let (gateway, _) = gateway(egress("127.0.0.1", ""), Way::default()).await;
    let contexts = gateway.contexts();
    let proxy = contexts.open(&upstream.address.to_string()).unwrap();
    let mut open = front(&proxy).await;
    let first = proxy.server().to_owned();
    drop(proxy);
    assert_eq!(rest(&mut open).await.unwrap_or_default(), "");
    let address = first.strip_prefix("http://").unwrap();
    let gone = async { while TcpStream::connect(address).await.is_ok() {} };
    soon(gone).await;
    let all: Vec<_> =
        (0..CONTEXT_PROXIES_MAX).map(|_| contexts.open("127.0.0.1:1").unwrap()).collect();
    assert!(all.iter().all(|proxy| proxy.server() != first));
    assert!(matches!(contexts.open("127.0.0.1:1"), Err(NoContextProxy::TooMany)));
    drop(all);
    contexts.open("127.0.0.1:1").unwrap();
    gateway.close().await;
}

#[tokio::test]
async fn a_contexts_proxy_is_judged_by_server_and_session() {
    let upstream = Site::start(guarded).await;
    let port = upstream.address.port();
    for (server, session) in [
        (Egress::default(), Egress::default()),
        (egress("127.0.0.1", ""), egress("", "127.0.0.1")),
        (egress("127.0.0.1", ""), egress("plain.example", "")),
    ] {
        let (gateway, account) = gateway(server, Way { upstream: None, egress: session }).await;
        let proxy = gateway.contexts().open(&format!("127.0.0.1:{port}")).unwrap();
        let mut plain = front(&proxy).await;
        let request = format!("GET http://plain.example/ HTTP/1.1\r\nHost: x\r\n{SECRET}\r\n");
        plain.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(rest(&mut plain).await.unwrap_or_default(), "");
        assert_eq!(listed(&account)[0].0, "127.0.0.1");
        gateway.close().await;
    }
}

#[tokio::test]
async fn a_socks_proxy_of_a_context_is_fronted_by_socks_and_direct_is_the_sessions_way() {
    let site = Site::start(page).await;
    let port = site.address.port();
    let (upstream, _) = gateway(egress("127.0.0.1,::1", ""), Way::default()).await;
    let nowhere = format!("socks5://127.0.0.1:{}", free_port().await);
    let own = by(Some(Upstream::new(&nowhere, "", "").unwrap()));
    let (gateway, _) = gateway(egress("127.0.0.1,::1", ""), own).await;
    let proxy =
        gateway.contexts().open(&format!("socks5://127.0.0.1:{}", upstream.port())).unwrap();
    assert!(proxy.server().starts_with("socks5://127."));
    let mut stream = front(&proxy).await;
    let target = Target { host: socks::Host::parse("localhost").unwrap(), port };
    soon(socks::ask(&mut stream, None, &target)).await.unwrap();
    let request = "GET /by-socks HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(ask(&mut stream, request, "</title>").await.contains("/by-socks"));

    let direct = gateway.contexts().open("direct://").unwrap();
    assert_eq!(direct.server(), format!("socks5://127.0.0.1:{}", gateway.port()));
    assert!(dial(&gateway, "localhost", port).await.is_err(), "the session has a proxy");
    tokio::join!(gateway.close(), upstream.close());
}
