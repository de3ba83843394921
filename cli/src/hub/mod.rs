//! The listener that agents dial: gRPC, by TLS where there is a certificate.

mod tls;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use proto::agent::hub_server::{Hub, HubServer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{
    Server,
    server::{Connected, TcpIncoming},
};
use tracing::warn;

use self::tls::{Acceptor, Files};
use crate::listen;

/// Longest silence on an agent's connection before it is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How agents' connections are secured.
#[derive(Debug, Default, Args)]
#[group(skip)]
pub struct Tls {
    /// Certificate of the hub, and those that lead to its root (PEM): agents then dial https://
    ///
    /// Like the other files it is read again when it changes; connections that are open stay.
    #[arg(long, env = "VENTUS_HUB_TLS_CERT", value_name = "PATH", requires = "hub_tls_key")]
    hub_tls_cert: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(long, env = "VENTUS_HUB_TLS_KEY", value_name = "PATH", requires = "hub_tls_cert")]
    hub_tls_key: Option<PathBuf>,
    /// Certificates of who signs those of agents (PEM): agents must then have one, beside their
    /// join token
    #[arg(long, env = "VENTUS_HUB_CLIENT_CA", value_name = "PATH", requires = "hub_tls_cert")]
    hub_client_ca: Option<PathBuf>,
}

impl Tls {
    fn files(self) -> Option<Files> {
        let (certificate, key) = self.hub_tls_cert.zip(self.hub_tls_key)?;
        Some(Files { certificate, key, client_ca: self.hub_client_ca })
    }
}

/// A hub that listens and is yet to be served.
pub struct HubListener {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Acceptor>>,
}

impl HubListener {
    /// Listens, and reads the certificates.
    ///
    /// # Errors
    ///
    /// When the address cannot be had, or a file is not as it should be.
    pub async fn bind(address: SocketAddr, tls: Tls) -> anyhow::Result<Self> {
        let tls = tls.files().map(Acceptor::open).transpose()?.map(Arc::new);
        let listener = listen::bind(address).await?;
        let address = listener.local_addr()?;
        if tls.is_none() && !address.ip().to_canonical().is_loopback() {
            warn!(
                hub = %address,
                "agents are taken in plain text, from other machines too: their join token and what \
                 sessions begin with can be read on the way; give --hub-tls-cert and --hub-tls-key"
            );
        }
        Ok(Self { listener, address, tls })
    }

    /// For an agent in the same process.
    pub async fn bind_here() -> anyhow::Result<Self> {
        Self::bind((Ipv4Addr::LOCALHOST, 0).into(), Tls::default()).await
    }

    /// Where agents dial, as far as this machine knows.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Serves until `stop`.
    pub async fn serve(self, hub: HubServer<impl Hub>, stop: CancellationToken) {
        match self.tls {
            None => {
                let incoming = TcpIncoming::from(self.listener).with_nodelay(Some(true));
                serve(incoming, hub, stop).await;
            }
            Some(acceptor) => {
                let incoming = tls::incoming(self.listener, acceptor, stop.clone());
                serve(incoming, hub, stop).await;
            }
        }
    }
}

async fn serve<C>(
    incoming: impl Stream<Item = io::Result<C>>,
    hub: HubServer<impl Hub>,
    stop: CancellationToken,
) where
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let served = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_service(hub)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        warn!(%error, "the hub stopped");
    }
}
