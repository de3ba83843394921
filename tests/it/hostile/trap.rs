//! Where attacks are to lead.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use harness::{PATIENCE, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A site that counts who comes, and answers all alike. Ends when dropped.
pub struct Trap {
    pub address: SocketAddr,
    /// Connections.
    hits: Arc<AtomicUsize>,
    /// What was asked on them: Chrome opens some ahead.
    requests: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Trap {
    pub async fn at(address: &str) -> Self {
        Self::answering(address, String::new()).await
    }

    /// One that sends everybody on to this URL.
    pub async fn to(url: &str) -> Self {
        Self::answering("127.0.0.1:0", format!("Location: {url}\r\n")).await
    }

    async fn answering(address: &str, header: String) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (hits, requests) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let status = if header.is_empty() { "200 OK" } else { "302 Found" };
        let answer = format!(
            "HTTP/1.1 {status}\r\n{header}Access-Control-Allow-Origin: *\r\nConnection: close\r\n\
             Content-Type: text/html\r\nContent-Length: 22\r\n\r\n<title>trapped</title>"
        );
        let (came, asked) = (hits.clone(), requests.clone());
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                came.fetch_add(1, SeqCst);
                tokio::spawn(reply(stream, answer.clone(), asked.clone()));
            }
        });
        Self { address, hits, requests, serving }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn hits(&self) -> usize {
        self.hits.load(SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }

    /// Waits until more was asked than so much: some of what a page does it does later.
    pub async fn asked_since(&self, before: usize) {
        eventually("the trap was asked", PATIENCE, || async {
            (self.requests() > before).then_some(())
        })
        .await;
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn reply(mut stream: TcpStream, answer: String, asked: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    asked.fetch_add(1, SeqCst);
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}
