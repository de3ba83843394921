//! `ventus control-plane`, and the parts of it that `ventus up` runs too.

use std::{net::SocketAddr, num::NonZeroU32, path::Path, time::Duration};

use anyhow::Context;
use clap::Args;
use control_plane::{ClusterConfig, ControlPlane};
use proto::region::Region;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use crate::{
    admin::{self, Admin, Half},
    cluster,
    data_dir::{self, Credentials, DataDir, credentials_path},
    forwarded,
    hub::{self, HubListener},
    layers, listen,
    people::People,
    ready::ReadyFile,
    serve::{Limits, serve},
    shutdown::{on_signal, within},
    style::{Style, say},
    unrepeated::Unrepeated,
};

/// Flags of `ventus control-plane`.
#[derive(Debug, Args)]
pub struct Options {
    /// Address to serve the API on
    #[arg(long, env = "VENTUS_LISTEN", default_value = "127.0.0.1:8080", value_parser = listen::address, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Address that agents dial (gRPC)
    #[arg(long, env = "VENTUS_HUB_LISTEN", default_value = "127.0.0.1:8081", value_parser = listen::address, value_name = "ADDRESS")]
    hub_listen: SocketAddr,
    #[command(flatten)]
    hub_tls: hub::Tls,
    /// Token that agents join with [default: made once, kept in the data directory]
    ///
    /// Arguments can be seen by other users of the machine: prefer the environment.
    #[arg(long, env = "VENTUS_JOIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    join_token: Option<String>,
    #[command(flatten)]
    server: listen::Options,
    #[command(flatten)]
    admin: admin::Options,
    #[command(flatten)]
    proxies: forwarded::Options,
    #[command(flatten)]
    data_dir: data_dir::Options,
    #[command(flatten)]
    store: Store,
    #[command(flatten)]
    people: People,
    #[command(flatten)]
    cluster: cluster::Options,
}

/// What the control plane stores, and where.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Store {
    #[command(flatten)]
    pub database: Database,
    /// Region of sessions that name none
    #[arg(long, env = "VENTUS_REGION", default_value = "local", value_name = "NAME")]
    pub region: Region,
    /// API key of the first start, vs_<ULID>.<32 letters and digits> [default: made then, and
    /// printed]
    ///
    /// For installations that know their key beforehand. Later starts make nothing of it.
    /// Arguments can be seen by other users of the machine: prefer the environment.
    #[arg(long, env = "VENTUS_FIRST_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub first_api_key: Option<String>,
    /// Requests a minute that an API key may make
    #[arg(long, env = "VENTUS_RATE_LIMIT_PER_MINUTE", default_value = "6000", value_name = "N")]
    pub rate_limit_per_minute: NonZeroU32,
    /// Days to keep sessions that are over, with their events and files; 0: for ever
    #[arg(long, env = "VENTUS_RETAIN_SESSIONS_DAYS", default_value = "30", value_name = "DAYS")]
    pub retain_sessions_days: u32,
    /// Days to keep the audit log; 0: for ever
    #[arg(long, env = "VENTUS_RETAIN_AUDIT_DAYS", default_value = "365", value_name = "DAYS")]
    pub retain_audit_days: u32,
    /// Where to keep what large profiles hold, file:///directory or s3://bucket/prefix [default:
    /// in the database]
    ///
    /// Credentials, region and endpoint of a bucket come from the usual AWS_… variables.
    #[arg(long, env = "VENTUS_OBJECT_STORE", value_name = "URL", value_parser = Unrepeated(object_store))]
    pub object_store: Option<String>,
}

/// The store itself.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Database {
    /// Where to store sessions and keys, sqlite:///path or postgres://… [default: a SQLite
    /// file in the data directory]
    #[arg(long, env = "VENTUS_DATABASE_URL", hide_env_values = true, value_name = "URL", value_parser = Unrepeated(database_url))]
    pub database_url: Option<String>,
}

impl Database {
    /// Its URL.
    pub fn url(&self, data_dir: &Path) -> String {
        let default = || format!("sqlite://{}", data_dir.join("ventus.db").display());
        self.database_url.clone().unwrap_or_else(default)
    }

    /// Its kind, for people.
    pub fn kind(&self) -> &'static str {
        let url = self.database_url.as_deref().unwrap_or_default();
        if url.starts_with("postgres") { "PostgreSQL" } else { "SQLite" }
    }
}

fn database_url(text: &str) -> Result<(), &'static str> {
    let known = ["sqlite://", "postgres://", "postgresql://"];
    let good = known.iter().any(|scheme| text.starts_with(scheme));
    good.then_some(()).ok_or("not a URL like sqlite:///path or postgres://user@host/name")
}

fn object_store(text: &str) -> Result<(), &'static str> {
    let at = |scheme| text.strip_prefix(scheme).is_some_and(|rest: &str| !rest.is_empty());
    if !at("file:///") && !at("s3://") {
        return Err("not a URL like file:///directory or s3://bucket/prefix");
    }
    if text.contains(['@', '?']) {
        return Err("credentials and settings belong into AWS_… variables");
    }
    Ok(())
}

/// How long the hub may take to end the agents' streams, and the control plane its tasks.
const STOP: Duration = Duration::from_millis(1500);

/// Runs the control plane until a signal ends it.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let stop = on_signal()?;
    let cluster = options.cluster.chosen()?;
    let data = options.data_dir.open()?;
    let admin = Admin::open(&options.admin, 1, &stop).await?;
    let listener = listen::bind(options.listen).await?;
    let hub = HubListener::bind(options.hub_listen, options.hub_tls).await?;
    let hub_url = hub.url();
    let ready = ReadyFile::prepare(options.server.ready_file.as_deref())?;
    let base_url = options.server.base_url(listener.local_addr()?);
    let (join_token, token_path) = match options.join_token {
        Some(token) => (token, None),
        None => data.join_token().map(|(token, path)| (token, Some(path)))?,
    };
    let role = Role { base_url: &base_url, join_token, own_data_plane: None, cluster };
    let running = Running::start(&data, &options.store, &options.people, role, hub).await?;
    let key = keep_key(&data, &running.control_plane, &base_url)?;
    let routes = layers::around(running.control_plane.router(), &base_url);
    let routes = forwarded::told(routes, &options.proxies, false);
    let limits = Limits::with_per_address(options.server.connections_per_address);
    let serving = TaskTracker::new();
    serving.spawn(serve(listener, routes, limits, stop.clone()));
    serving.close();
    admin.add(Half::ControlPlane(running.control_plane.monitor()));
    announce(&data, &ready, &base_url, key)?;

    let style = Style::of_stdout();
    say(&format!("\n  {} is ready\n", style.bold(&format!("Ventus control plane {VERSION}"))));
    say(&format!("  API       {base_url}"));
    say(&format!("  Agents    {hub_url}"));
    if let Some(path) = &token_path {
        say(&format!("  Token     agents join with the one in {}", path.display()));
    }
    say_key(style, &running.control_plane, data.path());
    say("");
    info!(%base_url, hub = %hub_url, "the control plane is ready");

    stop.cancelled().await;
    running.control_plane.close();
    // `serve` bounds itself.
    serving.wait().await;
    running.stop().await;
    admin.close().await;
    info!("stopped");
    Ok(())
}

/// Who owns the workspace of the first start, unless it is said.
pub const OWNER_EMAIL: &str = "owner@localhost";

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the command that starts a replica tells it, beside the flags that all have.
pub struct Role<'a> {
    /// Where callers reach it.
    pub base_url: &'a str,
    /// What agents join with.
    pub join_token: String,
    /// The data plane of the agent in the same process.
    pub own_data_plane: Option<String>,
    /// Whose scale-down is told which agents are idle.
    pub cluster: Option<ClusterConfig>,
}

/// A control plane with its hub being served.
pub struct Running {
    /// The control plane itself.
    pub control_plane: ControlPlane,
    hub: TaskTracker,
    stop: CancellationToken,
}

impl Running {
    /// Starts both.
    pub async fn start(
        data: &DataDir,
        store: &Store,
        people: &People,
        role: Role<'_>,
        hub: HubListener,
    ) -> anyhow::Result<Self> {
        let config = control_plane::Config {
            database_url: store.database.url(data.path()),
            data_dir: data.path().to_owned(),
            public_url: role.base_url.to_owned(),
            default_region: store.region.clone(),
            join_token: role.join_token,
            own_data_plane: role.own_data_plane,
            rate_limit_per_minute: store.rate_limit_per_minute,
            retain_sessions_days: store.retain_sessions_days,
            retain_audit_days: store.retain_audit_days,
            object_store: store.object_store.clone(),
            first_key: store.first_api_key.clone(),
            owner_email: people.owner_email.clone(),
            mail: people.mail(data.path())?,
            cluster: role.cluster,
        };
        let stop = CancellationToken::new();
        let control_plane = ControlPlane::start(config, stop.clone()).await?;
        let tracker = TaskTracker::new();
        tracker.spawn(hub.serve(control_plane.hub(), stop.clone()));
        tracker.close();
        Ok(Self { control_plane, hub: tracker, stop })
    }

    /// Ends the hub, then the control plane's tasks.
    pub async fn stop(self) {
        self.stop.cancel();
        within(STOP, "the hub", self.hub.wait()).await;
        within(STOP, "the control plane", self.control_plane.stopped()).await;
    }
}

/// The key that this server goes by, if this process knows one. That of a first start is
/// kept at once: the store has only its hash.
pub fn keep_key(
    data: &DataDir,
    control_plane: &ControlPlane,
    base_url: &str,
) -> anyhow::Result<Option<String>> {
    match control_plane.first_key() {
        Some(key) => {
            let credentials =
                Credentials { base_url: base_url.to_owned(), api_key: key.to_owned() };
            data.keep(&credentials).context("cannot keep the API key")?;
            Ok(Some(credentials.api_key))
        }
        None => Ok(data.credentials()?.map(|credentials| credentials.api_key)),
    }
}

/// Tells those who wait that the server is ready, and `ventus try` where it is now.
pub fn announce(
    data: &DataDir,
    ready: &ReadyFile,
    base_url: &str,
    key: Option<String>,
) -> anyhow::Result<()> {
    ready.write(base_url, key.as_deref())?;
    match key {
        Some(api_key) => data.keep(&Credentials { base_url: base_url.to_owned(), api_key }),
        None => Ok(()),
    }
}

/// Shows the key of a first start, this once.
pub fn say_key(style: Style, control_plane: &ControlPlane, data_dir: &Path) {
    let path = credentials_path(data_dir);
    if let Some(key) = control_plane.first_key() {
        say(&format!("  API key   {}", style.green(key)));
        say(&format!("            {}", style.dim("shown this once, and kept for you in")));
        say(&format!("            {}", style.dim(&path.display().to_string())));
    } else if path.exists() {
        say(&format!("  API key   in {}", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_named_by_urls() {
        for good in ["sqlite:///x", "postgres://u:p@h/d", "postgresql://h/d"] {
            assert!(database_url(good).is_ok(), "{good}");
        }
        for bad in ["", "/var/lib/x.db", "mysql://h/d"] {
            assert!(database_url(bad).is_err(), "{bad}");
        }
        for good in ["file:///var/lib/objects", "s3://bucket", "s3://bucket/some/prefix"] {
            assert!(object_store(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/var",
            "file://host",
            "file:///",
            "s3://",
            "https://b",
            "s3://k:s@b",
            "s3://b?k=s",
        ] {
            assert!(object_store(bad).is_err(), "{bad}");
        }
    }
}
