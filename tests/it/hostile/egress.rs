//! Pages that want to where they may not: this machine, its network, its metadata, the server
//! itself, other sessions. Every attack is also made where it is allowed, and works there.

use std::fs;

use harness::{PATIENCE, Server, cdp::Cdp, eventually, fleet::free_port, server::Plan};
use serde_json::{Value, json};
use tokio::net::UdpSocket;

use super::trap::Trap;

/// A control plane and an agent as programs of their own, as servers run.
struct Halves {
    control: Server,
    agent: Server,
}

const TOKEN: &str = "a-join-token-of-the-tests";

impl Halves {
    /// With an agent that allows this.
    async fn allowing(allow: &str) -> Self {
        Self::with(allow, |agent| agent).await
    }

    async fn with(allow: &str, and: impl FnOnce(Plan) -> Plan) -> Self {
        let hub = free_port();
        let control = Server::control_plane().flag("hub-listen", format!("127.0.0.1:{hub}"));
        let control = control.env("VENTUS_JOIN_TOKEN", TOKEN).start().await;
        let agent = Server::agent().env("VENTUS_EGRESS_ALLOW", allow).capacity(2, 1);
        let agent = agent.flag("control-plane", format!("http://127.0.0.1:{hub}"));
        let agent = and(agent.env("VENTUS_JOIN_TOKEN", TOKEN)).start().await;
        Self { control, agent }
    }

    async fn stop(self) {
        self.agent.stop_process().await;
        self.control.stop().await;
    }
}

/// What policy refused so far: host, port, rule.
async fn refused(server: &Server, id: &str) -> Vec<(String, u64, String)> {
    let list = server.api.get(&format!("/v1/sessions/{id}/egress")).await;
    assert_eq!(list.status, 200);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let denials = list.body["denials"].as_array().unwrap().iter();
    let entry = |it: &Value| (text(&it["host"]), it["port"].as_u64().unwrap(), text(&it["rule"]));
    denials.map(entry).collect()
}

async fn until_refused(server: &Server, id: &str, host: &str, port: u16, rule: &str) {
    let entry = (host.to_owned(), u64::from(port), rule.to_owned());
    let what = format!("{entry:?} is told");
    eventually(&what, PATIENCE, || async {
        refused(server, id).await.contains(&entry).then_some(())
    })
    .await;
}

/// Whether a page at this URL could be opened.
async fn opens(cdp: &mut Cdp, page: &str, url: &str) -> bool {
    let done = cdp.call(Some(page), "Page.navigate", json!({ "url": url })).await;
    done["errorText"].is_null()
}

/// A page in which a script can ask for anything.
async fn attacker(connect_url: &str, base: &str) -> (Cdp, String) {
    let mut cdp = Cdp::connect(connect_url).await;
    let (_, page) = cdp.page("about:blank").await;
    assert!(opens(&mut cdp, &page, base).await, "the attacker's own site is open");
    (cdp, page)
}

/// Ways to spell 127.0.0.1 in a URL, all of which Chrome reads so.
const SPELLINGS: [&str; 9] = [
    "127.0.0.1",
    "localhost",
    "a.localhost",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.1",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
];

/// Scripts that ask for `TRAP` in other ways than by opening it; each ends
/// when that is decided, but for the beacon, of which scripts hear no more.
const WAYS: [(&str, &str); 8] = [
    ("fetch", "fetch('TRAP', { mode: 'no-cors' }).then(() => true, () => false)"),
    (
        "XMLHttpRequest",
        "new Promise(done => { const x = new XMLHttpRequest(); x.open('GET', 'TRAP'); \
         x.onload = () => done(true); x.onerror = () => done(false); x.send() })",
    ),
    ("beacon", "navigator.sendBeacon('TRAP', 'x')"),
    (
        "image",
        "new Promise(done => { const i = new Image(); i.onload = i.onerror = () => done(true); \
         i.src = 'TRAP' })",
    ),
    (
        "iframe",
        "new Promise(done => { const f = document.createElement('iframe'); \
         f.onload = () => done(true); f.src = 'TRAP'; document.body.append(f) })",
    ),
    (
        "WebSocket",
        "new Promise(done => { const s = new WebSocket('TRAP'.replace('http', 'ws')); \
         s.onopen = s.onerror = () => done(true) })",
    ),
    (
        "worker",
        "new Promise(done => { const code = `fetch('TRAP', { mode: 'no-cors' }).then(() => \
         postMessage(true), () => postMessage(false))`; const w = new Worker(URL.createObjectURL(\
         new Blob([code]))); w.onmessage = m => done(m.data) })",
    ),
    (
        "event stream",
        "new Promise(done => { const e = new EventSource('TRAP'); e.onerror = () => { e.close(); \
         done(true) } })",
    ),
];

/// Tries everything against a trap, by each of its hosts and in each way; where it is open
/// every single one has to work.
async fn attack(cdp: &mut Cdp, page: &str, trap: &Trap, base: &str, hosts: &[&str], is_open: bool) {
    let port = trap.port();
    for host in hosts {
        let before = trap.requests();
        let opened = opens(cdp, page, &format!("http://{host}:{port}/secret")).await;
        assert_eq!((opened, trap.requests() > before), (is_open, is_open), "{host}");
    }
    let url = format!("http://{}:{port}/secret", hosts[0]);
    for (way, script) in WAYS {
        assert!(opens(cdp, page, base).await);
        let before = trap.requests();
        cdp.evaluate(Some(page), &script.replace("TRAP", &url)).await;
        if is_open {
            trap.asked_since(before).await;
        }
        assert_eq!(trap.requests() > before, is_open, "{way}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_on_the_agents_machine_is_reached_by_any_host_or_way() {
    let (trap, trap6) = (Trap::at("127.0.0.1:0").await, Trap::at("[::1]:0").await);
    let base = Trap::at("127.0.0.1:0").await;
    let redirect = Trap::to(&format!("http://127.0.0.1:{}/by-redirect", trap.port())).await;
    let [own, onward] = [&base, &redirect].map(|site| format!("127.0.0.1:{}", site.port()));
    let base_url = format!("http://{own}/");
    let narrow = format!("{own},{onward}");
    for (allow, is_open) in [(narrow.as_str(), false), ("127.0.0.0/8,::1", true)] {
        let halves = Halves::allowing(allow).await;
        let session = halves.control.api.create(json!({})).await;
        let (mut cdp, page) = attacker(session.connect_url(), &base_url).await;
        let before = trap.hits() + trap6.hits();
        attack(&mut cdp, &page, &trap, &base_url, &SPELLINGS, is_open).await;
        attack(&mut cdp, &page, &trap6, &base_url, &["[::1]", "localhost"], is_open).await;
        let asked = trap.requests();
        let redirected = opens(&mut cdp, &page, &format!("http://{onward}/")).await;
        assert_eq!((redirected, trap.requests() > asked), (is_open, is_open), "a redirect");
        if !is_open {
            assert_eq!(trap.hits() + trap6.hits(), before, "not one came through, early or late");
            for (host, port) in
                [("127.0.0.1", trap.port()), ("localhost", trap.port()), ("::1", trap6.port())]
            {
                until_refused(&halves.control, session.id(), host, port, "loopback").await;
            }
        }
        cdp.close().await;
        halves.control.api.release(session.id()).await;
        halves.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_and_private_networks_are_refused_at_once_and_told_for_good() {
    let halves = Halves::allowing("").await;
    let session = halves.control.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let (_, page) = cdp.page("about:blank").await;
    let asked = [
        (
            "http://169.254.169.254/latest/meta-data/?token=s3cret",
            "169.254.169.254",
            80,
            "metadata",
        ),
        ("http://[fd00:ec2::254]/latest", "fd00:ec2::254", 80, "metadata"),
        ("http://[::ffff:169.254.169.254]/", "::ffff:169.254.169.254", 80, "metadata"),
        ("http://100.100.100.200/", "100.100.100.200", 80, "metadata"),
        ("https://10.0.0.1/", "10.0.0.1", 443, "private"),
        ("http://192.168.1.1:8080/", "192.168.1.1", 8080, "private"),
        ("http://[fe80::1]/", "fe80::1", 80, "link_local"),
        ("http://100.64.0.1/", "100.64.0.1", 80, "shared"),
        ("http://0.0.0.0/", "0.0.0.0", 80, "unspecified"),
        ("http://[64:ff9b::a00:1]/", "64:ff9b::a00:1", 80, "private"),
    ];
    for (url, ..) in asked {
        let done = cdp.call(Some(&page), "Page.navigate", json!({ "url": url })).await;
        assert_eq!(done["errorText"], "net::ERR_SOCKS_CONNECTION_FAILED", "{url}");
    }
    cdp.close().await;
    halves.control.api.release(session.id()).await;
    for (_, host, port, rule) in asked {
        until_refused(&halves.control, session.id(), host, port, rule).await;
    }
    let list = halves.control.api.get(&format!("/v1/sessions/{}/egress", session.id())).await;
    assert!(list.body["denied_count"].as_u64().unwrap() >= asked.len() as u64, "{}", list.body);
    let log = halves.agent.log();
    let told = log.lines().filter(|line| line.contains("169.254.169.254"));
    assert_eq!(told.count(), 2, "each entry of the list once");
    assert!(!log.contains("s3cret") && !log.contains("latest/meta-data"));
    halves.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_itself_and_other_sessions_are_closed_where_the_machine_is_open() {
    let trap = Trap::at("127.0.0.1:0").await;
    let server = Server::up().capacity(2, 0).start().await;
    let (one, other) = (server.api.create(json!({})).await, server.api.create(json!({})).await);
    let base = format!("http://127.0.0.1:{}/", trap.port());
    let (mut cdp, page) = attacker(one.connect_url(), &base).await;
    let mut ports = gateways(&server);
    assert_eq!(ports.len(), 2, "{ports:?}");
    ports.extend(listening(server.pid()));
    assert!(ports.len() >= 4, "two gateways, the API and the hub: {ports:?}");
    for port in ports {
        for host in ["127.0.0.1", "localhost", "[::1]", "127.0.0.2"] {
            let fetch = format!("fetch('http://{host}:{port}/', {{ mode: 'no-cors' }})");
            let script = format!("{fetch}.then(() => true, () => false)");
            assert_eq!(cdp.evaluate(Some(&page), &script).await, false, "{host}:{port}");
        }
        until_refused(&server, one.id(), "127.0.0.1", port, "own").await;
    }
    cdp.close().await;
    for session in [one, other] {
        server.api.release(session.id()).await;
    }
    server.stop().await;
}

/// Ports of the gateways of a server's browsers.
fn gateways(server: &Server) -> Vec<u16> {
    let flag = "--proxy-server=socks5://127.0.0.1:";
    let port = |argument: &std::ffi::OsString| argument.to_str()?.strip_prefix(flag)?.parse().ok();
    let mut ports: Vec<u16> = server
        .browsers()
        .iter()
        .filter_map(|browser| browser.arguments.iter().find_map(port))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Ports on which a process listens.
fn listening(pid: u32) -> Vec<u16> {
    let sockets: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()?.to_str().map(str::to_owned))
        .collect();
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let listens = fields.get(3) == Some(&"0A");
        let is_own = sockets.contains(&format!("socket:[{}]", fields.get(9)?));
        let (_, port) = fields.get(1)?.split_once(':')?;
        u16::from_str_radix(port, 16).ok().filter(|_| listens && is_own)
    };
    table.lines().filter_map(port).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn webrtc_sends_nothing_past_the_gateway_whatever_is_allowed() {
    // No positive control: no rule opens UDP.
    let stun = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let turn = Trap::at("127.0.0.1:0").await;
    let base = Trap::at("127.0.0.1:0").await;
    let server = Server::up().capacity(1, 0).start().await;
    let deny = json!({ "egress": { "deny": [format!("127.0.0.1:{}", turn.port())] } });
    let session = server.api.create(deny).await;
    let base = format!("http://127.0.0.1:{}/", base.port());
    let (mut cdp, page) = attacker(session.connect_url(), &base).await;
    let script = format!(
        "new Promise(async done => {{ const c = new RTCPeerConnection({{ iceServers: [\
         {{ urls: 'stun:127.0.0.1:{}' }}, {{ urls: 'turn:127.0.0.1:{}?transport=tcp', \
         username: 'u', credential: 'p' }}] }}); c.createDataChannel('x'); \
         c.onicegatheringstatechange = () => c.iceGatheringState == 'complete' && done(true); \
         await c.setLocalDescription(await c.createOffer()); setTimeout(done, 3000, false) }})",
        stun.local_addr().unwrap().port(),
        turn.port(),
    );
    cdp.evaluate(Some(&page), &script).await;
    let mut datagram = [0; 64];
    let heard = stun.try_recv(&mut datagram).map_err(|error| error.kind());
    assert_eq!(heard, Err(std::io::ErrorKind::WouldBlock));
    assert_eq!(turn.hits(), 0);
    cdp.close().await;
    server.api.release(session.id()).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_changes_its_address_leads_nowhere_else() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can give a process hosts of its own
    }
    let site = Trap::at("127.0.0.2:0").await;
    let trap = Trap::at(&format!("127.0.0.3:{}", site.port())).await;
    let hosts = tempfile::NamedTempFile::new().unwrap();
    let rebind = |address: &str| fs::write(hosts.path(), format!("{address} rebind.test\n"));
    let base = format!("http://rebind.test:{}/", site.port());
    let narrow = format!("127.0.0.2:{}", site.port());
    for (allow, is_open) in [(narrow.as_str(), false), ("127.0.0.0/8", true)] {
        rebind("127.0.0.2").unwrap();
        let halves = Halves::with(allow, |agent| agent.hosts(hosts.path())).await;
        let session = halves.control.api.create(json!({})).await;
        let (mut cdp, page) = attacker(session.connect_url(), &base).await;
        assert!(site.hits() > 0 && trap.hits() == 0);
        rebind("127.0.0.3").unwrap();
        let mut answered = Value::Null;
        // Chrome may have a connection in store that was opened before.
        for _ in 0..3 {
            let same = cdp.evaluate(Some(&page), "fetch('/secret').then(() => true, () => false)");
            answered = same.await;
        }
        assert_eq!(answered, is_open, "of the same origin as ever");
        assert_eq!(trap.hits() > 0, is_open);
        if !is_open {
            let (id, port) = (session.id(), site.port());
            until_refused(&halves.control, id, "rebind.test", port, "loopback").await;
        }
        cdp.close().await;
        halves.control.api.release(session.id()).await;
        halves.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_narrows_for_itself_and_for_nobody_else() {
    let (one, other) = (Trap::at("127.0.0.1:0").await, Trap::at("127.0.0.1:0").await);
    let [one_url, other_url] = [&one, &other].map(|trap| format!("http://{}/", trap.address));
    let server = Server::up().capacity(2, 1).start().await;
    let only = json!({ "egress": { "allow": [format!("127.0.0.1:{}", one.port())] } });
    let narrow = server.api.create(only.clone()).await;
    assert_eq!(narrow.0["egress"], json!({ "allow": only["egress"]["allow"], "deny": [] }));
    let wide = server.api.create(json!({})).await;
    assert_eq!(wide.0["egress"], Value::Null);
    for (session, reaches) in [(&narrow, false), (&wide, true)] {
        let (mut cdp, page) = attacker(session.connect_url(), &one_url).await;
        assert_eq!(opens(&mut cdp, &page, &other_url).await, reaches);
        cdp.close().await;
    }
    assert!(other.hits() > 0);
    until_refused(&server, narrow.id(), "127.0.0.1", other.port(), "session_allow").await;
    assert!(refused(&server, wide.id()).await.is_empty());
    for session in [narrow, wide] {
        server.api.release(session.id()).await;
    }
    server.stop().await;
}
