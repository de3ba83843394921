//! What an agent is told when it starts.

use std::{fmt, net::IpAddr, path::PathBuf};

use anyhow::{Context, ensure};
use proto::{
    egress::{Egress, Rule},
    pod::Pod,
    region::Region,
};
use url::Url;

use crate::{browser::Strictness, gateway::Policy, limits::Limits};

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
    /// Where the control plane takes agents, at least one address: `http://host:port`, or
    /// `https://…`. They are tried in turn.
    pub hub_urls: Vec<String>,
    /// With `https://…`: whom to trust, and who this agent is.
    pub hub_tls: HubTls,
    /// What the hub asks every agent for.
    pub join_token: String,
    /// Where clients reach this agent: `ws://host:port` or `wss://…`, without a trailing slash.
    pub data_plane_url: String,
    /// Where other agents of the region reach this one, if not there: where that leads to any
    /// of them, for instance.
    pub peer_url: Option<String>,
    /// Its pod, where it runs in the control plane's own namespace of Kubernetes.
    pub pod: Option<Pod>,
    /// Start browsers without their own sandbox: only where the machine cannot do better.
    pub no_sandbox: bool,
    /// What to do when browsers cannot be isolated fully.
    pub isolation: Strictness,
    /// What browsers may connect to beside public addresses, and what not even of those.
    pub egress: Egress,
    /// Ports of this machine that are the server's own, which no browser may connect to.
    pub own_ports: Vec<u16>,
    /// What one session may take of the machine.
    pub limits: Limits,
    /// Web origins whose pages may talk to browsers; `*` is any. Clients that are no pages
    /// send none and need none.
    pub allowed_origins: Vec<String>,
}

/// The files of the way to the hub by TLS, PEM all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HubTls {
    /// Who signs the hub's certificate; `None`: whomever this machine trusts.
    pub ca: Option<PathBuf>,
    /// This agent's own certificate, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Config {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(self.capacity > 0, "the capacity must be at least 1");
        ensure!(!self.join_token.is_empty(), "the join token is empty");
        for url in [Some(&self.data_plane_url), self.peer_url.as_ref()].into_iter().flatten() {
            ensure!(
                (url.starts_with("ws://") || url.starts_with("wss://")) && !url.ends_with('/'),
                "a data plane URL must start with ws:// or wss:// and have no trailing slash"
            );
        }
        self.policy().map(drop)
    }

    /// What browsers may connect to.
    pub(crate) fn policy(&self) -> anyhow::Result<Policy> {
        let mut own_ports = self.own_ports.clone();
        let mut own = Vec::new();
        for address in self.hub_addresses()? {
            let (Some(host), Some(port)) = (address.host_str(), address.port_or_known_default())
            else {
                continue; // never: that was checked
            };
            let is_here = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
                Ok(address) => address.is_loopback() || address.is_unspecified(),
                Err(_) => host == "localhost",
            };
            if is_here {
                own_ports.push(port);
            }
            own.push(format!("{host}:{port}").parse::<Rule>().context("the hub's address")?);
        }
        Ok(Policy { egress: self.egress.clone(), own_ports, own })
    }

    /// Where the hub is: each with a host and a port.
    pub(crate) fn hub_addresses(&self) -> anyhow::Result<Vec<Url>> {
        ensure!(!self.hub_urls.is_empty(), "no address of the control plane is given");
        let read = |text: &String| {
            let url = Url::parse(text).context("the hub's address")?;
            ensure!(matches!(url.scheme(), "http" | "https"), "the hub's address is no http URL");
            ensure!(url.has_host(), "the hub's address has no host");
            Ok(url)
        };
        self.hub_urls.iter().map(read).collect()
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
            .field("hub_urls", &self.hub_urls)
            .field("hub_tls", &self.hub_tls)
            .field("data_plane_url", &self.data_plane_url)
            .field("peer_url", &self.peer_url)
            .field("pod", &self.pod)
            .field("no_sandbox", &self.no_sandbox)
            .field("isolation", &self.isolation)
            .field("egress", &self.egress)
            .field("own_ports", &self.own_ports)
            .field("limits", &self.limits)
            .field("allowed_origins", &self.allowed_origins)
            .finish_non_exhaustive() // not the join token
    }
}
