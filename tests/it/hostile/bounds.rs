//! Connections that hold, flood or lie, and what the server lets them.

use std::time::Duration;

use harness::{Server, cdp::Cdp, eventually};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    memory::resident_kib,
    socket::{Socket, ask, frame, upgrade},
};

const TEXT: u8 = 0x81;
const PING: u8 = 0x89;

/// A server with one session, and a client of it that must not notice anything.
struct Place {
    server: Server,
    id: String,
    url: String,
    bystander: Cdp,
    page: String,
}

impl Place {
    async fn start() -> Self {
        let server = Server::up().capacity(1, 0).start().await;
        let session = server.api.create(json!({})).await;
        let mut bystander = Cdp::connect(session.connect_url()).await;
        let (_, page) = bystander.page("about:blank").await;
        let (id, url) = (session.id().to_owned(), session.connect_url().to_owned());
        Self { server, id, url, bystander, page }
    }

    /// The server and its other client work.
    async fn is_well(&mut self) {
        assert_eq!(self.bystander.evaluate(Some(&self.page), "6 * 7").await, 42);
        for probe in ["/healthz", "/readyz", "/v1/health"] {
            assert_eq!(self.server.api.get(probe).await.status, 200, "{probe}");
        }
    }

    async fn end(mut self) {
        self.is_well().await;
        self.bystander.close().await;
        self.server.api.release(&self.id).await;
        self.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_opens_a_connection_must_say_something_soon() {
    let mut place = Place::start().await;
    let (host, request) = upgrade(&place.url, &[]);
    let mut held = Vec::new();
    for n in 0..3_000 {
        let mut stream = TcpStream::connect(&host).await.unwrap();
        if n % 2 == 0 {
            stream.write_all(&request.as_bytes()[..request.len() / 2]).await.unwrap();
        }
        held.push(stream);
    }
    let begun = Instant::now();
    place.is_well().await;
    println!("3 000 idle connections: all is well after {:?}", begun.elapsed());
    for mut stream in held {
        let mut rest = Vec::new();
        let read = timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "an idle connection stays open");
        assert!(rest.is_empty());
    }
    assert!(begun.elapsed() > Duration::from_secs(5), "they were held for a while");
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_break_the_rules_end_their_connection_and_nothing_else() {
    let mut place = Place::start().await;
    let command = br#"{"id":1,"method":"Browser.getVersion"}"#;
    let unmasked = [&[TEXT, 38][..], command].concat();
    let mut announced = vec![TEXT, 0x80 | 127];
    announced.extend((1_u64 << 62).to_be_bytes());
    announced.extend([0; 4]);
    let over = {
        let mut bytes = vec![TEXT, 0x80 | 127];
        bytes.extend((100_u64 << 20 | 1).to_be_bytes());
        bytes.extend([0; 4]);
        bytes
    };
    let fragments = frame(0x01, b"[").into_iter().chain(frame(0x00, b"").repeat(70_000));
    for (what, bytes, code) in [
        ("unmasked", unmasked, 1002),
        ("a bit of an extension", frame(0xc1, command), 1002),
        ("an unknown kind", frame(0x83, command), 1002),
        ("a split ping", frame(0x09, b""), 1002),
        ("a ping that is too long", frame(PING, &[b'x'; 126]), 1002),
        ("a message within a message", frame(0x01, b"{").repeat(2), 1002),
        ("the rest of no message", frame(0x80, b"}"), 1002),
        ("a binary message", frame(0x82, command), 1003),
        ("a length that cannot be", announced, 1009),
        ("a length over the limit", over, 1009),
        ("endless fragments", fragments.collect(), 1009),
    ] {
        let mut socket = Socket::connect(&place.url).await;
        // The same connection is good for what is allowed.
        socket.send(&frame(TEXT, command)).await;
        assert!(socket.next().await.is_some_and(|(first, _)| first == TEXT), "{what}");
        socket.send(&bytes).await;
        assert_eq!(socket.closed().await, code, "{what}");
    }
    place.is_well().await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_or_half_sent_costs_only_what_came() {
    let mut place = Place::start().await;
    let before = resident_kib(place.server.pid());
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut socket = Socket::connect(&place.url).await;
        let mut bytes = vec![TEXT, 0x80 | 127];
        bytes.extend((90_u64 << 20).to_be_bytes());
        bytes.extend([0; 4]);
        assert!(socket.send(&bytes).await);
        held.push(socket);
    }
    place.is_well().await;
    let announced = resident_kib(place.server.pid()).saturating_sub(before);
    assert!(announced < 30 << 10, "{announced} KiB for 900 MB that were only announced");
    // Now they send it, but for the last byte: that much is kept for one session, and no more.
    let part = vec![b' '; 1 << 20];
    let mut closed = 0;
    for socket in &mut held {
        for _ in 0..89 {
            if !socket.send(&part).await {
                break;
            }
        }
    }
    let kept = resident_kib(place.server.pid()).saturating_sub(before);
    println!("900 MB announced: {announced} KiB; half sent: {kept} KiB");
    assert!(kept < 500 << 10, "{kept} KiB");
    for socket in &mut held {
        let end = timeout(Duration::from_millis(200), socket.closed()).await;
        closed += usize::from(end.is_ok_and(|code| code == 1013 || code == 1006));
    }
    assert!(closed >= 8, "only {closed} of ten were let go");
    drop(held);
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_pings_costs_nothing() {
    let mut place = Place::start().await;
    let mut socket = Socket::connect(&place.url).await;
    let before = resident_kib(place.server.pid());
    let flood = frame(PING, b"").repeat(10_000);
    for _ in 0..300 {
        assert!(socket.send(&flood).await);
    }
    place.is_well().await;
    let grown = resident_kib(place.server.pid()).saturating_sub(before);
    println!("3 000 000 pings that wait for their answers: {grown} KiB");
    assert!(grown < 20 << 10, "{grown} KiB");
    // It is still served, and its latest ping is answered.
    assert!(socket.send(&frame(PING, b"last")).await);
    loop {
        let (first, payload) = socket.next().await.expect("an open connection");
        assert_eq!(first, 0x8a);
        if payload == b"last" {
            break;
        }
    }
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_too_deep_or_too_odd() {
    let mut place = Place::start().await;
    let mut socket = Socket::connect(&place.url).await;
    for payload in [
        b"[".repeat(5_000_000),
        b"{\"id\":1,\"method\":\"a\",\"params\":"
            .iter()
            .copied()
            .chain(b"{\"a\":".repeat(1_000_000))
            .collect(),
        b"\xff\xfe{}".to_vec(),
        b"\"\xed\xa0\x80".repeat(1000),
        vec![0; 1000],
        Vec::new(),
    ] {
        assert!(socket.send(&frame(TEXT, &payload)).await);
        let (first, answer) = socket.next().await.expect("an answer");
        assert_eq!(first, TEXT);
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["error"]["code"], -32700, "{answer}");
    }
    place.is_well().await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_commands_that_nobody_waits_for_are_carried_out_or_their_client_goes() {
    let mut place = Place::start().await;
    let mut socket = Socket::connect(&place.url).await;
    let before = resident_kib(place.server.pid());
    let mut commands = Vec::new();
    for id in 0..10_000 {
        let command = json!({ "id": id, "method": "Target.getTargets" });
        commands.extend(frame(TEXT, command.to_string().as_bytes()));
    }
    assert!(socket.send(&commands).await);
    place.is_well().await;
    let mut answers = 0;
    while answers < 10_000 {
        let (first, _) = socket.next().await.expect("an answer to each");
        assert_eq!(first, TEXT);
        answers += 1;
    }
    let grown = resident_kib(place.server.pid()).saturating_sub(before);
    println!("10 000 commands in flight: {grown} KiB");
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_reads_does_not_grow() {
    let mut place = Place::start().await;
    // 50 000 events: they fit, or their client is told that it is too slow.
    let mut events = Cdp::connect(&place.url).await;
    let (_, page) = events.page("about:blank").await;
    events.call(Some(&page), "Runtime.enable", json!({})).await;
    let log = json!({ "expression": "for (let n = 0; n < 50000; n++) console.log(n, 'x'.repeat(1000)); 1" });
    let (_, text) = events.command(Some(&page), "Runtime.evaluate", log);
    let before = resident_kib(place.server.pid());
    events.send(text).await;
    // 200 MB in one answer.
    let mut result = Cdp::connect(&place.url).await;
    let (_, other) = result.page("about:blank").await;
    let large =
        json!({ "expression": "window.made = 'x'.repeat(200 << 20)", "returnByValue": true });
    let (_, text) = result.command(Some(&other), "Runtime.evaluate", large);
    result.send(text).await;
    let most = eventually("the answer is there", Duration::from_secs(60), || async {
        let grown = resident_kib(place.server.pid()).saturating_sub(before);
        (grown > 190 << 10).then_some(grown)
    })
    .await;
    place.is_well().await;
    println!("50 000 events and 200 MB that nobody reads: {most} KiB");
    // Leaving gives it back.
    drop(result);
    let (code, _) = events.closed(Duration::from_secs(60)).await;
    assert!(code == 1013 || code == 1006, "{code}");
    eventually("the memory is back", Duration::from_secs(20), || async {
        place.is_well_quietly().await;
        let grown = resident_kib(place.server.pid()).saturating_sub(before);
        (grown < 64 << 10).then_some(())
    })
    .await;
    place.end().await;
}

impl Place {
    /// Traffic, as there always is some.
    async fn is_well_quietly(&self) {
        assert_eq!(self.server.api.get("/healthz").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_needs_an_origin_that_is_known_and_may_bring_its_token_as_a_protocol() {
    let server = Server::up()
        .capacity(1, 0)
        .env("VENTUS_ALLOWED_ORIGINS", "https://tools.example")
        .start()
        .await;
    let session = server.api.create(json!({})).await;
    let url = session.connect_url();
    let (bare, token) = url.split_once("?token=").unwrap();
    let host = bare.split('/').nth(2).unwrap();
    let own = format!("http://{host}");
    for (origin, status) in [
        (None, 101),
        (Some("https://tools.example"), 101),
        (Some(own.as_str()), 101),
        (Some("https://evil.example"), 403),
        (Some("null"), 403),
    ] {
        let headers: Vec<_> = origin.map(|origin| ("Origin", origin)).into_iter().collect();
        let (_, answer) = ask(url, &headers).await;
        assert_eq!(answer.status, status, "{origin:?}: {}", answer.headers);
        assert!(answer.headers.contains("cache-control: no-store"), "{}", answer.headers);
        assert!(answer.headers.contains("referrer-policy: no-referrer"), "{}", answer.headers);
    }
    // Rebound: the name is the attacker's, the address ours.
    let rebound = [("Host", "evil.example"), ("Origin", "http://evil.example")];
    assert_eq!(ask(url, &rebound).await.1.status, 403);

    let offered = format!("ventus.token.{token}");
    for (protocols, status, chosen) in [
        (format!("ventus.cdp, {offered}"), 101, Some("ventus.cdp".to_owned())),
        (offered.clone(), 101, Some(offered.to_lowercase())),
        (format!("{offered}x"), 401, None),
        ("ventus.cdp".to_owned(), 401, None),
    ] {
        let (mut socket, answer) = ask(bare, &[("Sec-WebSocket-Protocol", &protocols)]).await;
        assert_eq!(answer.status, status, "{}", answer.headers);
        let line = answer.headers.lines().find_map(|l| l.strip_prefix("sec-websocket-protocol: "));
        assert_eq!(line, chosen.as_deref());
        if status == 101 {
            socket.send(&frame(TEXT, br#"{"id":1,"method":"Browser.getVersion"}"#)).await;
            assert!(socket.next().await.is_some());
        }
    }
    assert!(!server.log().contains(token));
    server.api.release(session.id()).await;
    server.stop().await;
}
