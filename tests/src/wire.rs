//! A wire between two programs of this machine, which a test can cut.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// Carries connections to one address. Gone when it is dropped.
pub struct Wire {
    address: SocketAddr,
    is_whole: watch::Sender<bool>,
    carrying: JoinHandle<()>,
}

impl Wire {
    /// One to this port of loopback.
    ///
    /// # Panics
    ///
    /// When there is no free port.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let is_whole = watch::Sender::new(true);
        let whole = is_whole.subscribe();
        let carrying = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) =
                    (near.into_split(), far.into_split());
                tokio::spawn(carry(near_in, far_out, whole.clone()));
                tokio::spawn(carry(far_in, near_out, whole.clone()));
            }
        });
        Self { address, is_whole, carrying }
    }

    /// The port of its near end.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on nothing arrives, and nobody is told.
    pub fn cut(&self) {
        self.is_whole.send_replace(false);
    }

    /// What was sent meanwhile arrives.
    pub fn mend(&self) {
        self.is_whole.send_replace(true);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

/// One direction of a connection, until either end has had enough or the wire is gone.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut whole: watch::Receiver<bool>) {
    let mut part = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut part).await {
        if whole.wait_for(|whole| *whole).await.is_err()
            || to.write_all(&part[..length]).await.is_err()
        {
            return;
        }
    }
}
