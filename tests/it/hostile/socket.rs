//! A WebSocket client that minds no rules: what it sends is what the test wrote.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longest wait for the other side.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer to an upgrade: the status, and the headers in lower case.
pub struct Answer {
    pub status: u16,
    pub headers: String,
}

/// An upgraded connection.
pub struct Socket {
    pub stream: TcpStream,
}

/// What a client sends first, with headers of its own.
pub fn upgrade(url: &str, headers: &[(&str, &str)]) -> (String, String) {
    let rest = url.strip_prefix("ws://").unwrap();
    let (host, path) = rest.split_at(rest.find('/').unwrap());
    let mut request = format!("GET {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request += &format!("Host: {host}\r\n");
    }
    request += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    (host.to_owned(), request + "\r\n")
}

/// Asks for an upgrade.
pub async fn ask(url: &str, headers: &[(&str, &str)]) -> (Socket, Answer) {
    let (host, request) = upgrade(url, headers);
    let mut stream = TcpStream::connect(host).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (Socket { stream }, Answer { status, headers: head.to_lowercase() })
}

/// A frame as a client sends it: `first` is its first byte.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..=125 => bytes.push(0x80 | u8::try_from(short).unwrap()),
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]); // a mask that changes nothing
    bytes.extend_from_slice(payload);
    bytes
}

impl Socket {
    pub async fn connect(url: &str) -> Self {
        let (socket, answer) = ask(url, &[]).await;
        assert_eq!(answer.status, 101, "{}", answer.headers);
        socket
    }

    /// Sends as much as the other side takes before it ends the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// The next frame: its first byte and its payload. `None`: the connection has ended.
    pub async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(PATIENCE, self.read()).await.expect("a frame, or the end")
    }

    async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.stream.read_u8().await.ok()?;
        let length = match self.stream.read_u8().await.ok()? {
            126 => u64::from(self.stream.read_u16().await.ok()?),
            127 => self.stream.read_u64().await.ok()?,
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).ok()?];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((first, payload))
    }

    /// The code that the other side closes with; 1006 when it does not say.
    pub async fn closed(&mut self) -> u16 {
        while let Some((first, payload)) = self.next().await {
            if first == 0x88 {
                return payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
            }
        }
        1006
    }
}
