//! The gateway between real sites, real browsers and proxies that the tests play.

use std::{
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    task::JoinHandle,
};

use super::{
    socks::{Denial, Host, ask},
    *,
};
use crate::{
    browser::{
        Browser, LaunchOptions,
        testing::{CHROMIUM, HEADLESS_SHELL, Place, evaluate, first_page_of, on_page, until},
    },
    sessions::testing::soon,
};

/// A plain site, or a proxy: answers each head of a request with what a function says, and
/// then, when that is a tunnel, with what comes in. Ends when dropped.
pub(super) struct Site {
    pub(super) address: SocketAddr,
    /// Bytes in both directions.
    bytes: Arc<AtomicU64>,
    pub(super) heads: mpsc::UnboundedReceiver<String>,
    serving: JoinHandle<()>,
}

impl Site {
    pub(super) async fn start(answer: fn(&str) -> String) -> Self {
        Self::at("127.0.0.1:0", answer).await
    }

    pub(super) async fn at(address: &str, answer: fn(&str) -> String) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (sender, heads) = mpsc::unbounded_channel();
        let bytes = Arc::new(AtomicU64::new(0));
        let address = listener.local_addr().unwrap();
        let count = bytes.clone();
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(converse(stream, answer, sender.clone(), count.clone()));
            }
        });
        Self { address, bytes, heads, serving }
    }

    pub(super) async fn head(&mut self) -> String {
        soon(self.heads.recv()).await.unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn converse(
    mut stream: TcpStream,
    answer: fn(&str) -> String,
    heads: mpsc::UnboundedSender<String>,
    bytes: Arc<AtomicU64>,
) {
    let mut said = Vec::new();
    while stream.read_buf(&mut said).await.is_ok_and(|read| read > 0) {
        let Some(end) = memchr::memmem::find(&said, b"\r\n\r\n") else { continue };
        let head: Vec<u8> = said.drain(..end + 4).collect();
        let head = String::from_utf8(head).unwrap();
        let answer = answer(&head);
        bytes.fetch_add((head.len() + answer.len()) as u64, SeqCst);
        let _ = heads.send(head.clone());
        if stream.write_all(answer.as_bytes()).await.is_err()
            || answer.contains("Content-Length: 9\r")
        {
            let _ = stream.set_zero_linger(); // in the midst of what was promised
            return;
        }
        if head.starts_with("CONNECT") && answer.contains(" 200 ") {
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
            return;
        }
    }
}

pub(super) fn page(head: &str) -> String {
    let path = head.split(' ').nth(1).unwrap_or_default();
    let body = format!("<title>{path}</title>");
    let length = body.len();
    let kind = "Content-Type: text/html; charset=utf-8";
    format!("HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// A connection of a browser whose gateway is lent to a session with this proxy.
pub(super) async fn dial(gateway: &Gateway, host: &str, port: u16) -> Result<TcpStream, Denial> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway.port())).await.unwrap();
    let target = Target { host: Host::parse(host).unwrap(), port };
    soon(ask(&mut stream, None, &target)).await.map(|()| stream)
}

pub(super) async fn lent(upstream: Option<Upstream>) -> (Gateway, Meter) {
    let gateway = Gateways::new(Policy::with_loopback()).open().await.unwrap();
    let account = gateway.lend(by(upstream));
    (gateway, account.meter)
}

pub(super) fn by(upstream: Option<Upstream>) -> Way {
    Way { upstream, ..Way::default() }
}

pub(super) fn proxy(site: &Site) -> Option<Upstream> {
    let url = format!("http://{}", site.address);
    Some(Upstream::new(&url, "mallory", "s3cret").unwrap())
}

/// All that comes until the other side ends it. An error when it is reset.
pub(super) async fn rest(stream: &mut TcpStream) -> io::Result<String> {
    let mut rest = String::new();
    soon(stream.read_to_string(&mut rest)).await.map(|_| rest)
}

pub(super) async fn launch(place: &Place, binary: impl AsRef<Path>) -> Browser {
    place.launcher(binary).await.launch(&LaunchOptions::default()).await.unwrap()
}

/// Opens a page. The error's text is Chrome's own, empty when there is none.
pub(super) async fn navigate(browser: &Browser, target: &str, url: &str) -> String {
    let done = on_page(browser, target, "Page.navigate", json!({ "url": url })).await;
    done["errorText"].as_str().unwrap_or_default().to_owned()
}

pub(super) async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_browser_reaches_by_its_gateway_all_that_it_reaches_without() {
    let (site, v6) = (Site::start(page).await, Site::at("[::1]:0", page).await);
    let (port, v6_port) = (site.address.port(), v6.address.port());
    let place = Place::new();
    for binary in [CHROMIUM, HEADLESS_SHELL] {
        let browser = launch(&place, binary).await;
        browser.lend(Way::default());
        let target = first_page_of(&browser).await;
        for url in [
            format!("http://127.0.0.1:{port}/address"),
            format!("http://localhost:{port}/name"),
            format!("http://b\u{fc}cher.localhost:{port}/international"),
            format!("http://[::1]:{v6_port}/v6"),
            format!("http://localhost:{v6_port}/v6-by-name"),
        ] {
            assert_eq!(navigate(&browser, &target, &url).await, "", "{binary}: {url}");
            let path = url.rsplit('/').next().unwrap();
            let title = async || evaluate(&browser, &target, "document.title").await;
            while title().await != format!("/{path}") {}
        }
        let failed = "net::ERR_SOCKS_CONNECTION_FAILED";
        for url in [
            format!("http://127.0.0.1:{}/", free_port().await),
            format!("https://127.0.0.1:{}/", free_port().await),
            "http://no-such-host.invalid/".to_owned(),
        ] {
            assert_eq!(navigate(&browser, &target, &url).await, failed, "{binary}: {url}");
        }
        browser.close().await;
    }
}

#[tokio::test]
async fn an_idle_browser_has_no_way_out() {
    let mut site = Site::start(page).await;
    let url = format!("http://{}/", site.address);
    let place = Place::new();
    let browser = launch(&place, HEADLESS_SHELL).await;
    let target = first_page_of(&browser).await;
    assert_ne!(navigate(&browser, &target, &url).await, "");
    assert!(site.heads.try_recv().is_err());
    // What failed before does not fail after.
    browser.lend(Way::default());
    assert_eq!(navigate(&browser, &target, &url).await, "");
    browser.close().await;
}

#[tokio::test]
async fn what_passes_is_counted_to_the_byte() {
    let site = Site::start(page).await;
    let place = Place::new();
    let browser = launch(&place, HEADLESS_SHELL).await;
    let meter = browser.lend(Way::default()).meter;
    let target = first_page_of(&browser).await;
    assert_eq!(navigate(&browser, &target, &format!("http://{}/", site.address)).await, "");
    let fetches =
        "(async () => { for (let i = 0; i < 20; i++) await (await fetch('/' + i)).text() })()";
    assert_eq!(evaluate(&browser, &target, fetches).await, Value::Null);
    let port = browser.gateway_port();
    browser.close().await;
    assert_eq!(meter.bytes(), site.bytes.load(SeqCst));
    assert!(meter.bytes() > 20 * 100, "{}", meter.bytes());
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err(), "it is gone as well");
}

#[tokio::test]
async fn a_site_that_breaks_off_is_told_from_one_that_is_done() {
    let site = Site::start(|_| "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_owned()).await;
    let (gateway, _) = lent(None).await;
    let mut stream = dial(&gateway, "127.0.0.1", site.address.port()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let reset = rest(&mut stream).await.unwrap_err();
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    gateway.close().await;
}

#[tokio::test]
async fn each_half_of_a_connection_ends_by_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (gateway, meter) = lent(None).await;
    let port = listener.local_addr().unwrap().port();
    let (mut browser, site) = tokio::join!(dial(&gateway, "127.0.0.1", port), listener.accept());
    let (browser, mut site) = (browser.as_mut().unwrap(), site.unwrap().0);
    browser.write_all(b"question").await.unwrap();
    browser.shutdown().await.unwrap();
    assert_eq!(rest(&mut site).await.unwrap(), "question");
    site.write_all(b"answer").await.unwrap();
    drop(site);
    assert_eq!(rest(browser).await.unwrap(), "answer");
    assert_eq!(meter.bytes(), 14);
    gateway.close().await;
}

#[tokio::test]
async fn a_gateway_that_closes_takes_its_connections_along() {
    let site = Site::start(page).await;
    let (gateway, _) = lent(None).await;
    let mut open = dial(&gateway, "127.0.0.1", site.address.port()).await.unwrap();
    let silent = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway.port())).await;
    soon(gateway.close()).await;
    for stream in [&mut open, &mut silent.unwrap()] {
        let _ = rest(stream).await; // by an end or a reset
    }
}

#[tokio::test]
async fn a_proxy_for_http_is_asked_for_plain_pages_and_tunnels_the_rest() {
    let mut upstream = Site::start(|head| {
        if head.starts_with("CONNECT") { "HTTP/1.1 200 OK\r\n\r\n".to_owned() } else { page(head) }
    })
    .await;
    let (gateway, meter) = lent(proxy(&upstream)).await;
    let secret = "\r\nProxy-Authorization: Basic bWFsbG9yeTpzM2NyZXQ=\r\n";

    let mut plain = dial(&gateway, "plain.example", 80).await.unwrap();
    let mut passed = 0;
    for path in ["/one", "/two"] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: plain.example\r\nX-As-It-Is: 1\r\n\r\n");
        plain.write_all(request.as_bytes()).await.unwrap();
        let head = upstream.head().await;
        assert!(
            head.starts_with(&format!("GET http://plain.example{path} HTTP/1.1\r\n")),
            "{head}"
        );
        assert!(head.contains("\r\nX-As-It-Is: 1\r\n"), "{head}");
        assert!(head.contains(secret), "{head}");
        let mut answer = vec![0; page(&head).len()];
        soon(plain.read_exact(&mut answer)).await.unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), page(&head));
        passed += request.len() + page(&head).len();
    }
    assert_eq!(meter.bytes(), passed as u64, "without what is between gateway and proxy");

    for (host, port, words) in [
        ("secure.example", 443, "\x16\x03\x01 hello"),
        ("secure.example", 8443, "\x16\x03\x01 hello"),
        ("socket.example", 80, "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"),
    ] {
        let mut tunnel = dial(&gateway, host, port).await.unwrap();
        tunnel.write_all(words.as_bytes()).await.unwrap();
        let head = upstream.head().await;
        assert!(head.starts_with(&format!("CONNECT {host}:{port} HTTP/1.1\r\n")), "{head}");
        assert!(head.contains(secret), "{head}");
        tunnel.shutdown().await.unwrap();
        assert_eq!(rest(&mut tunnel).await.unwrap(), words, "bytes arrive as they are");
    }
    gateway.close().await;
}

#[tokio::test]
async fn a_connection_that_the_proxy_closed_meanwhile_is_made_anew() {
    let upstream =
        Site::start(|head| page(head).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await;
    let (gateway, _) = lent(proxy(&upstream)).await;
    let mut plain = dial(&gateway, "plain.example", 80).await.unwrap();
    for _ in 0..3 {
        plain.write_all(b"GET / HTTP/1.1\r\nHost: plain.example\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with("</title>") {
            answer.push(soon(plain.read_u8()).await.unwrap().into());
        }
        assert!(!answer.to_lowercase().contains("connection"), "{answer}");
    }
    gateway.close().await;
}

#[tokio::test]
async fn a_proxy_that_refuses_fails_the_connection_and_shows_no_page() {
    let upstream = Site::start(|_| {
        let why = "Proxy-Authenticate: Basic realm=\"x\"";
        format!("HTTP/1.1 407 Proxy Authentication Required\r\n{why}\r\nContent-Length: 0\r\n\r\n")
    })
    .await;
    let (gateway, _) = lent(proxy(&upstream)).await;
    let denied = dial(&gateway, "secure.example", 443).await.unwrap_err();
    assert!(matches!(denied, Denial::Refused(1)), "{denied:?}");
    for words in ["GET / HTTP/1.1\r\nHost: plain.example\r\n\r\n", "\x16\x03\x01 hello"] {
        let mut stream = dial(&gateway, "plain.example", 80).await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        assert_eq!(rest(&mut stream).await.unwrap_or_default(), "");
    }
    gateway.close().await;
}

#[tokio::test]
async fn a_proxy_that_is_not_there_or_is_a_gateway_fails_the_connection() {
    let gateways = Gateways::new(Policy::with_loopback());
    let (gateway, other) = (gateways.open().await.unwrap(), gateways.open().await.unwrap());
    other.lend(Way::default());
    let ports = [free_port().await, gateway.port(), other.port()];
    for (port, scheme) in ports.iter().flat_map(|port| [(port, "http"), (port, "socks5")]) {
        let url = format!("{scheme}://localhost:{port}");
        gateway.lend(by(Some(Upstream::new(&url, "", "").unwrap())));
        let denied = dial(&gateway, "secure.example", 443).await.unwrap_err();
        assert!(matches!(denied, Denial::Refused(1)), "{denied:?}");
    }
    tokio::join!(gateway.close(), other.close());
}

#[tokio::test]
async fn a_socks_proxy_hears_names_and_carries_everything() {
    // Another agent's gateway is one, and knows no credentials.
    let site = Site::start(page).await;
    let (upstream, _) = lent(None).await;
    let url = format!("socks5://127.0.0.1:{}", upstream.port());
    let (gateway, meter) = lent(Some(Upstream::new(&url, "", "").unwrap())).await;
    let mut stream = dial(&gateway, "a.localhost", site.address.port()).await.unwrap();
    stream.write_all(b"GET /by-name HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(Duration::from_secs(10), "it was counted", || {
        meter.bytes() > 0 && meter.bytes() == site.bytes.load(SeqCst)
    })
    .await;
    gateway.lend(by(Some(Upstream::new(&url, "me", "secret").unwrap())));
    let denied = dial(&gateway, "a.localhost", site.address.port()).await.unwrap_err();
    assert!(matches!(denied, Denial::Refused(1)), "{denied:?}");
    tokio::join!(gateway.close(), upstream.close());
}

#[tokio::test]
async fn a_browser_has_so_many_connections_and_no_more() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let site = Site::start(page).await;
    let (gateway, _) = lent(None).await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        silent.push(TcpStream::connect((Ipv4Addr::LOCALHOST, gateway.port())).await.unwrap());
    }
    let mut one_more = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway.port())).await.unwrap();
    assert_eq!(rest(&mut one_more).await.unwrap(), "");
    silent.pop();
    let port = site.address.port();
    let again = async { while dial(&gateway, "127.0.0.1", port).await.is_err() {} };
    soon(again).await;
    gateway.close().await;
}
