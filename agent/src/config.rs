//! What an agent is told when it starts.

use std::{fmt, net::IpAddr, path::PathBuf};

use anyhow::{Context, ensure};
use proto::{
    egress::{Egress, Rule},
    region::Region,
};
use url::Url;

use crate::{browser::Strictness, gateway::Policy};

/// What an agent is told when it starts.
#[derive(Clone)]
pub struct Config {
    /// Holds the agent's id and the directories of its browsers; one process at a time.
    pub data_dir: PathBuf,
    /// Where this agent is.
    pub region: Region,
    /// Sessions at once, at least one.
    pub capacity: u32,
    /// Idle browsers kept ready.
    pub warm: u32,
    /// The browser's binary itself, not a distribution's wrapper script.
    pub browser: PathBuf,
    /// Where the control plane takes agents: `http://host:port`.
    pub hub_url: String,
    /// What the hub asks every agent for.
    pub join_token: String,
    /// Where clients reach this agent: `ws://host:port` or `wss://…`, without a trailing slash.
    pub data_plane_url: String,
    /// Start browsers without their own sandbox: only where the machine cannot do better.
    pub no_sandbox: bool,
    /// What to do when browsers cannot be isolated fully.
    pub isolation: Strictness,
    /// What browsers may connect to beside public addresses, and what not even of those.
    pub egress: Egress,
    /// Ports of this machine that are the server's own, which no browser may connect to.
    pub own_ports: Vec<u16>,
}

impl Config {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(self.capacity > 0, "the capacity must be at least 1");
        ensure!(!self.join_token.is_empty(), "the join token is empty");
        let url = &self.data_plane_url;
        ensure!(
            (url.starts_with("ws://") || url.starts_with("wss://")) && !url.ends_with('/'),
            "the data plane URL must start with ws:// or wss:// and have no trailing slash"
        );
        self.policy().map(drop)
    }

    /// What browsers may connect to.
    pub(crate) fn policy(&self) -> anyhow::Result<Policy> {
        let mut own_ports = self.own_ports.clone();
        let (host, port) = self.hub()?;
        let is_loopback = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => address.is_loopback() || address.is_unspecified(),
            Err(_) => host == "localhost",
        };
        if is_loopback {
            own_ports.push(port);
        }
        let hub: Rule = format!("{host}:{port}").parse().context("the hub's address")?;
        Ok(Policy { egress: self.egress.clone(), own_ports, own: vec![hub] })
    }

    fn hub(&self) -> anyhow::Result<(String, u16)> {
        let url = Url::parse(&self.hub_url).context("the hub's address")?;
        let host = url.host_str().context("the hub's address has no host")?;
        let port = url.port_or_known_default().context("the hub's address has no port")?;
        Ok((host.to_owned(), port))
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("data_dir", &self.data_dir)
            .field("region", &self.region)
            .field("capacity", &self.capacity)
            .field("warm", &self.warm)
            .field("browser", &self.browser)
            .field("hub_url", &self.hub_url)
            .field("data_plane_url", &self.data_plane_url)
            .field("no_sandbox", &self.no_sandbox)
            .field("isolation", &self.isolation)
            .field("egress", &self.egress)
            .field("own_ports", &self.own_ports)
            .finish_non_exhaustive() // not the join token
    }
}
