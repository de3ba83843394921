//! What a session's pages get from the network, straight and by a proxy of the caller's.

use std::fs;

use futures_util::{SinkExt, StreamExt};
use harness::{
    PATIENCE, Proxy, Server, Site,
    cdp::Cdp,
    clients, eventually,
    tls::{Certificate, Front},
};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_tungstenite::accept_async;

/// The three ways a page talks to a site: hosts as the proxy sees them.
struct Sites {
    plain: Site,
    secure: Front,
    socket: String,
    echoing: JoinHandle<()>,
}

impl Sites {
    async fn start(certificate: &Certificate) -> Self {
        let plain = Site::start().await;
        let secure = Front::start(certificate, &plain.url).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = format!("ws://localhost:{}", listener.local_addr().unwrap().port());
        let echoing = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut socket = accept_async(stream).await.unwrap();
                if let Some(Ok(message)) = socket.next().await {
                    socket.send(message).await.unwrap();
                }
            }
        });
        Self { plain, secure, socket, echoing }
    }

    fn hosts(&self) -> [&str; 3] {
        [&self.plain.url, &self.secure.url, &self.socket]
            .map(|url| url.split_once("://").unwrap().1)
    }
}

impl Drop for Sites {
    fn drop(&mut self) {
        self.echoing.abort();
    }
}

/// A page that takes any certificate.
async fn page(cdp: &mut Cdp) -> String {
    let (_, page) = cdp.page("about:blank").await;
    let ignore = json!({ "ignore": true });
    cdp.call(Some(&page), "Security.setIgnoreCertificateErrors", ignore).await;
    page
}

/// Why a navigation failed, in Chrome's words; empty when it did not.
async fn navigate(cdp: &mut Cdp, page: &str, url: &str) -> String {
    let done = cdp.call(Some(page), "Page.navigate", json!({ "url": url })).await;
    done["errorText"].as_str().unwrap_or_default().to_owned()
}

/// Opens all three sites, and reads what they say.
async fn visit(connect_url: &str, sites: &Sites) {
    let mut cdp = Cdp::connect(connect_url).await;
    let page = page(&mut cdp).await;
    for site in [&sites.plain.url, &sites.secure.url] {
        assert_eq!(navigate(&mut cdp, &page, &format!("{site}/index.html")).await, "", "{site}");
        let read =
            "fetch('/echo', { method: 'POST', body: 'x'.repeat(100000) }).then(r => r.json())";
        let echo = cdp.evaluate(Some(&page), read).await;
        assert_eq!(echo["method"], "POST", "{echo}");
        let headers = echo["headers"].as_object().unwrap();
        assert!(!headers.keys().any(|name| name.starts_with("proxy")), "{echo}");
        assert_eq!(headers["content-length"], "100000", "{echo}");
    }
    // From about:blank: a page by https may not open it.
    assert_eq!(navigate(&mut cdp, &page, &sites.plain.url).await, "");
    let echo = "new Promise((done, failed) => { const s = new WebSocket('URL'); \
                s.onopen = () => s.send('hello'); s.onmessage = m => done(m.data); s.onerror = failed })";
    let said = cdp.evaluate(Some(&page), &echo.replace("URL", &sites.socket)).await;
    assert_eq!(said, "hello");
    cdp.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_arrive_straight_and_are_counted() {
    let certificate = Certificate::new().await;
    let sites = Sites::start(&certificate).await;
    let server = Server::up().capacity(1, 1).start().await;
    let session = server.api.create(json!({})).await;
    visit(session.connect_url(), &sites).await;
    server.api.release(session.id()).await;
    // Two times 100 kB were sent, and little else.
    let egress = eventually("all of its egress is told", PATIENCE, || async {
        let shown = server.api.session(session.id()).await;
        shown.0["usage"]["egress_bytes"].as_u64().filter(|bytes| *bytes >= 200_000)
    })
    .await;
    assert!(egress < 300_000, "{egress}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_proxy_carries_every_kind_of_page_and_keeps_its_secret() {
    let certificate = Certificate::new().await;
    let sites = Sites::start(&certificate).await;
    // The proxy by TLS is trusted as any is that this machine trusts.
    let plan = Server::up().capacity(1, 1).env("VENTUS_LOG", "trace");
    let server = plan.env("SSL_CERT_FILE", certificate.certificate().display()).start().await;
    for scheme in ["http", "https", "socks5"] {
        let proxy = Proxy::start(scheme, &certificate).await;
        let session = server.api.create(json!({ "proxy": proxy.named() })).await;
        let shown = &session.0["proxy"];
        assert_eq!(shown, &json!({ "url": proxy.url }), "nothing but the address is shown");
        visit(session.connect_url(), &sites).await;
        for host in sites.hosts() {
            assert!(proxy.went_to(host), "{scheme}: {host}");
        }
        keeps_its_secret(&server).await;
        server.api.release(session.id()).await;
        server.at_rest(1).await;
        keeps_its_secret(&server).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_cannot_be_used_fails_every_navigation_and_the_log_says_why() {
    let certificate = Certificate::new().await;
    let sites = Sites::start(&certificate).await;
    let server = Server::up().capacity(1, 1).start().await;
    for (scheme, known, why) in [
        ("http", true, "does not accept the session's credentials"),
        ("socks5", true, "opens no connection"), // this one says no more, but just hangs up
        ("https", true, "no TLS with the upstream proxy"), // its certificate is not trusted here
        ("http", false, "cannot be reached"),
        ("socks5", false, "cannot be reached"),
    ] {
        let proxy = Proxy::start(scheme, &certificate).await;
        let mut named = proxy.named();
        named["password"] = json!(format!("not {}", Proxy::PASSWORD));
        let _running = known.then_some(proxy);
        let session = server.api.create(json!({ "proxy": named })).await;
        let mut cdp = Cdp::connect(session.connect_url()).await;
        let page = page(&mut cdp).await;
        for site in [&sites.plain.url, &sites.secure.url] {
            let error = navigate(&mut cdp, &page, site).await;
            assert!(error.starts_with("net::ERR_"), "{scheme}, {site}: {error:?}");
        }
        cdp.close().await;
        server.api.release(session.id()).await;
        let log = server.log();
        let told = log.lines().filter(|line| line.contains(session.id()) && line.contains(why));
        assert_eq!(told.count(), 1, "{scheme}: {why}");
    }
    keeps_its_secret(&server).await;
    server.at_rest(1).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts_may_have_proxies_of_their_own() {
    let certificate = Certificate::new().await;
    let site = Site::start().await;
    let plan = Server::up().capacity(1, 0).env("VENTUS_LOG", "trace");
    let server = plan.env("SSL_CERT_FILE", certificate.certificate().display()).start().await;
    let (http, https, other) = tokio::join!(
        Proxy::start("http", &certificate),
        Proxy::start("https", &certificate),
        Proxy::start("http", &certificate),
    );
    let socks = Proxy::for_anybody("socks5").await;
    let named = |proxy: &Proxy| {
        let (username, password) = (Proxy::USERNAME, Proxy::PASSWORD);
        json!({ "server": proxy.url, "username": username, "password": password })
    };
    let proxies = json!({
        "http": named(&http), "https": named(&https), "other": named(&other),
        "socks5": { "server": socks.url },
    });
    site.put("proxies", proxies);
    let session = server.api.create(json!({})).await;
    clients::run("context-proxy.mjs", session.connect_url(), &site.url, &[]).await;
    let host = site.url.strip_prefix("http://").unwrap();
    for proxy in [&http, &https, &socks] {
        assert!(proxy.went_to(host), "{}", proxy.url);
    }
    assert!(!other.went_to(host));
    keeps_its_secret(&server).await;
    server.api.release(session.id()).await;
    server.stop().await;
}

/// Looks for the proxy's password, and for what carries it, where anybody could see it.
async fn keeps_its_secret(server: &Server) {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let basic = STANDARD.encode(format!("{}:{}", Proxy::USERNAME, Proxy::PASSWORD));
    let mut places = vec![("the log".to_owned(), server.log().into_bytes())];
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let file = entry.path().join("cmdline");
        places.extend(fs::read(&file).map(|text| (file.display().to_string(), text)));
    }
    for file in ["ventus.db", "ventus.db-wal"] {
        places.extend(fs::read(server.data().join(file)).map(|text| (file.to_owned(), text)));
    }
    let sessions = server.api.get("/v1/sessions").await;
    assert_eq!(sessions.status, 200);
    places.push(("the sessions".to_owned(), sessions.body.to_string().into_bytes()));
    for (place, text) in places {
        let text = String::from_utf8_lossy(&text);
        for secret in [Proxy::PASSWORD, Proxy::USERNAME, basic.trim_end_matches('=')] {
            assert!(!text.contains(secret), "{secret} is in {place}");
        }
    }
}
