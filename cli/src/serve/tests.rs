use std::future::pending;

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Long enough to be met, short enough to be waited for.
const SHORT: Duration = Duration::from_millis(200);

async fn start(router: Router) -> (SocketAddr, CancellationToken, TaskTracker) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = TaskTracker::new();
    let limits = Limits { first_request: SHORT, drain: SHORT, ..Limits::with_per_address(0) };
    server.spawn(serve(listener, router, limits, stop.clone()));
    server.close();
    (address, stop, server)
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    text
}

#[tokio::test]
async fn a_request_in_flight_is_answered_before_the_server_ends() {
    let begun = CancellationToken::new();
    let answer = CancellationToken::new();
    let (tell, wait) = (begun.clone(), answer.clone());
    let router = Router::new().route(
        "/",
        get(move || async move {
            tell.cancel();
            wait.cancelled().await;
            "done"
        }),
    );
    let (address, stop, server) = start(router).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    begun.cancelled().await;
    stop.cancel();
    answer.cancel();
    let text = read_all(&mut client).await;
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("done"), "{text}");
    server.wait().await;
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_hold_the_server() {
    let begun = CancellationToken::new();
    let tell = begun.clone();
    let router = Router::new().route(
        "/",
        get(move || async move {
            tell.cancel();
            pending::<()>().await;
        }),
    );
    let (address, stop, server) = start(router).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    begun.cancelled().await;
    stop.cancel();
    server.wait().await;
}

#[tokio::test]
async fn a_request_may_take_longer_than_its_headers_may() {
    let router = Router::new().route(
        "/",
        get(async || {
            sleep(SHORT * 2).await;
            "done"
        }),
    );
    let (address, _stop, _server) = start(router).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let request =
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    client.write_all(request).await.unwrap();
    assert_eq!(read_all(&mut client).await.matches("done").count(), 2);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go() {
    for part in ["", "GET / HTTP/1.1\r\nHost:"] {
        let (address, _stop, _server) = start(Router::new()).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(part.as_bytes()).await.unwrap();
        assert_eq!(read_all(&mut client).await, "");
    }
}

#[tokio::test]
async fn health_probes_are_answered_when_there_is_no_room_for_anything_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router =
        Router::new().route("/healthz", get(async || "alive")).route("/else", get(async || "else"));
    let slots = Arc::new(Slots::new(2, 0));
    let limits = Limits::with_per_address(0);
    let stop = CancellationToken::new();
    tokio::spawn(serve_within(slots, listener, router, limits, stop.clone()));
    let ask = async |path: &str| {
        let mut client = TcpStream::connect(address).await.unwrap();
        client
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut text = [0; 15];
        let _ = client.read_exact(&mut text).await;
        (client, String::from_utf8_lossy(&text).into_owned())
    };
    // Both stay open, as connections do.
    let (_one, _two) = (ask("/else").await, ask("/else").await);
    let (_, refused) = ask("/else").await;
    assert!(!refused.starts_with("HTTP"), "{refused}");
    for _ in 0..SPARE + 1 {
        let (mut client, answer) = ask("/healthz").await;
        assert_eq!(answer, "HTTP/1.1 200 OK");
        assert!(read_all(&mut client).await.ends_with("alive"));
    }
    stop.cancel();
}

#[test]
fn one_address_cannot_take_all_connections() {
    let slots = Arc::new(Slots::new(5, 2));
    let peer = |text: &str| SocketAddr::new(text.parse().unwrap(), 1);
    let held = [slots.take(peer("192.0.2.1")), slots.take(peer("::ffff:192.0.2.1"))];
    assert!(held.iter().all(|taken| matches!(taken, Taken::Slot(_))));
    assert!(matches!(slots.take(peer("192.0.2.1")), Taken::None));
    assert!(matches!(slots.take(peer("192.0.2.2")), Taken::Slot(_)));
    drop(held);
    assert!(matches!(slots.take(peer("192.0.2.1")), Taken::Slot(_)));
    assert!(slots.addresses.lock().unwrap().is_empty());
}

#[test]
fn this_machine_is_bounded_only_by_the_total() {
    let slots = Arc::new(Slots::new(3, 1));
    let peer: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let held: Vec<_> = (0..3).map(|_| slots.take(peer)).collect();
    assert!(held.iter().all(|taken| matches!(taken, Taken::Slot(_))));
    assert!(matches!(slots.take(peer), Taken::Spare(_)));
}

#[test]
fn a_network_of_ipv6_is_one_client() {
    let one = one_client("2001:db8:1:2::1".parse().unwrap());
    assert_eq!(one, one_client("2001:db8:1:2:ffff::9".parse().unwrap()));
    assert_ne!(one, one_client("2001:db8:1:3::1".parse().unwrap()));
}

#[tokio::test]
async fn a_request_knows_where_its_connection_ends() {
    let router = Router::new().route(
        "/",
        get(|request: axum::extract::Request| async move {
            let local = request.extensions().get::<Local>();
            local.map(|local| local.0.to_string()).unwrap_or_default()
        }),
    );
    let (address, stop, server) = start(router).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    client.write_all(request).await.unwrap();
    let text = read_all(&mut client).await;
    assert!(text.ends_with(&address.to_string()), "{text}");
    stop.cancel();
    server.wait().await;
}
