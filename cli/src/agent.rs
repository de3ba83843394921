//! `ventus agent`, and the flags about browsers that `ventus up` has too.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use agent::{Agent, browser::Strictness, limits::Limits};
use anyhow::{Context, bail};
use axum::{Json, extract::Path, response::Html, routing::get};
use clap::{Args, builder::FalseyValueParser};
use proto::{
    egress::{Egress, RuleList},
    pod::Pod,
    problem::{Problem, Slug, page},
    region::Region,
};
use serde_json::json;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use crate::{
    admin::{self, Admin, Half},
    browser, capacity,
    control_plane::VERSION,
    data_dir::{self, DataDir},
    layers, listen,
    ready::ReadyFile,
    serve::{self, serve},
    session_limits::SessionLimits,
    shutdown::{on_signals, within},
    style::{Style, say},
    usage,
};

/// Flags of `ventus agent`.
#[derive(Debug, Args)]
pub struct Options {
    /// Where the control plane's hub is, such as https://hub.example:8081; of several addresses,
    /// the next one is dialled when one does not answer
    #[arg(
        long,
        env = "VENTUS_CONTROL_PLANE",
        value_name = "URL",
        value_delimiter = ',',
        required = true,
        value_parser = listen::base_url
    )]
    control_plane: Vec<String>,
    #[command(flatten)]
    tls: HubTls,
    /// Token to join with
    ///
    /// Arguments can be seen by other users of the machine: prefer --join-token-file or the
    /// environment.
    #[arg(long, env = "VENTUS_JOIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    join_token: Option<String>,
    /// File with the token to join with
    #[arg(
        long,
        env = "VENTUS_JOIN_TOKEN_FILE",
        value_name = "PATH",
        conflicts_with = "join_token"
    )]
    join_token_file: Option<PathBuf>,
    /// Address to serve the data plane on
    #[arg(long, env = "VENTUS_LISTEN", default_value = "127.0.0.1:8082", value_parser = listen::address, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Address that CDP clients reach this agent at, for instance ws://agent-1:8082
    /// [default: the one it listens on]
    #[arg(long, env = "VENTUS_ADVERTISE", value_name = "URL", value_parser = listen::data_plane_url)]
    advertise: Option<String>,
    /// Address that the other agents of the region reach this one at, where the one for clients
    /// leads to any of them, as a load balancer's does
    #[arg(long, env = "VENTUS_PEER_URL", value_name = "URL", value_parser = listen::data_plane_url)]
    peer_url: Option<String>,
    /// In Kubernetes: the pod that this agent runs in, its metadata.name and metadata.uid with a
    /// slash between them. A control plane of the same namespace can then tell scale-down whether
    /// it is idle
    #[arg(long, env = "VENTUS_POD", value_name = "NAME/UID")]
    pod: Option<Pod>,
    /// Seconds that running sessions may go on after SIGTERM, while no new ones are taken; 0 ends
    /// them at once. A second SIGTERM ends them too.
    #[arg(long, env = "VENTUS_DRAIN_SECONDS", value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(..=86_400))]
    drain_seconds: u32,
    /// Region that this agent serves
    #[arg(long, env = "VENTUS_REGION", default_value = "local", value_name = "NAME")]
    region: Region,
    #[command(flatten)]
    server: listen::Options,
    #[command(flatten)]
    admin: admin::Options,
    #[command(flatten)]
    data_dir: data_dir::Options,
    #[command(flatten)]
    browsers: Browsers,
}

/// The way to the hub by TLS.
#[derive(Debug, Args)]
#[group(skip)]
struct HubTls {
    /// Certificates of who signs the hub's (PEM) [default: those that this machine trusts]
    #[arg(long, env = "VENTUS_CONTROL_PLANE_CA", value_name = "PATH")]
    control_plane_ca: Option<PathBuf>,
    /// This agent's own certificate (PEM), for a hub that asks for one
    #[arg(long, env = "VENTUS_TLS_CERT", value_name = "PATH", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(long, env = "VENTUS_TLS_KEY", value_name = "PATH", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl From<HubTls> for ::agent::HubTls {
    fn from(tls: HubTls) -> Self {
        Self { ca: tls.control_plane_ca, identity: tls.tls_cert.zip(tls.tls_key) }
    }
}

/// Which browsers, and how many.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Browsers {
    /// Sessions at once [default: from this machine's memory and cores]
    #[arg(long, env = "VENTUS_CAPACITY", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub capacity: Option<u32>,
    /// Idle browsers to keep ready
    #[arg(long, env = "VENTUS_WARM", value_name = "N", default_value_t = 1)]
    pub warm: u32,
    /// The browser's binary [default: the first that is found]
    #[arg(long, env = "VENTUS_BROWSER", value_name = "PATH")]
    pub browser: Option<PathBuf>,
    /// Switch the browser's own sandbox off. A page can then take over the browser's user.
    #[arg(long, env = "VENTUS_NO_SANDBOX", value_parser = FalseyValueParser::new())]
    pub no_sandbox: bool,
    /// Whether to start when a layer of the browsers' isolation is missing: best-effort warns
    /// and goes on, strict does not start
    #[arg(long, env = "VENTUS_ISOLATION", value_name = "HOW", default_value = "best-effort")]
    pub isolation: Strictness,
    /// What browsers may connect to that is no public address, such as 10.0.0.0/8:443,*.corp
    ///
    /// Hosts, addresses and blocks of addresses with commas between them, each perhaps with a
    /// port or ports. A host is opened at whatever address its name servers say.
    #[arg(
        long,
        env = "VENTUS_EGRESS_ALLOW",
        value_name = "LIST",
        default_value = "",
        hide_default_value = true
    )]
    pub egress_allow: RuleList,
    /// What browsers may not connect to, whatever is allowed
    #[arg(
        long,
        env = "VENTUS_EGRESS_DENY",
        value_name = "LIST",
        default_value = "",
        hide_default_value = true
    )]
    pub egress_deny: RuleList,
    #[command(flatten)]
    pub limits: SessionLimits,
    /// Web origins whose pages may connect to browsers, such as https://tools.example;
    /// `*` is any. Clients that are no pages send no origin and need none.
    #[arg(
        long,
        env = "VENTUS_ALLOWED_ORIGINS",
        value_name = "ORIGINS",
        value_delimiter = ',',
        value_parser = listen::origin
    )]
    pub allowed_origins: Vec<String>,
}

/// The flags about browsers, with what was left open filled in.
#[derive(Debug)]
pub struct Chosen {
    /// Sessions at once.
    pub capacity: u32,
    /// Idle browsers.
    pub warm: u32,
    /// The binary itself.
    pub browser: PathBuf,
    /// Whether the browser's sandbox is off.
    pub no_sandbox: bool,
    /// Whether every layer of isolation must be there.
    pub isolation: Strictness,
    /// What they may connect to besides public addresses, and what not even of those.
    pub egress: Egress,
    /// What one session may take.
    pub limits: Limits,
    /// Web origins that may connect.
    pub allowed_origins: Vec<String>,
}

impl Browsers {
    /// Fills in what was left open.
    ///
    /// # Errors
    ///
    /// When there is no browser, or the numbers do not fit together.
    pub fn choose(&self) -> anyhow::Result<Chosen> {
        let capacity = self.capacity.unwrap_or_else(capacity::of_this_machine);
        if self.warm > capacity {
            return Err(usage(format!(
                "--warm {} is more than the capacity, {capacity}",
                self.warm
            )));
        }
        let browser = browser::find(self.browser.as_deref())?;
        let egress =
            Egress { allow: self.egress_allow.0.clone(), deny: self.egress_deny.0.clone() };
        Ok(Chosen {
            capacity,
            warm: self.warm,
            browser,
            no_sandbox: self.no_sandbox,
            isolation: self.isolation,
            egress,
            limits: self.limits.chosen(),
            allowed_origins: self.allowed_origins.clone(),
        })
    }
}

/// How long a first browser and the way to the hub may take.
const READY: Duration = Duration::from_secs(60);
/// How long ending all sessions may take.
const STOP: Duration = Duration::from_secs(6);

/// Where an agent belongs.
#[derive(Debug)]
pub struct Place {
    /// Its region.
    pub region: Region,
    /// Where the hub is.
    pub hub_urls: Vec<String>,
    /// The way there by TLS.
    pub hub_tls: ::agent::HubTls,
    /// What it joins with.
    pub join_token: String,
    /// Where CDP clients reach it.
    pub data_plane_url: String,
    /// Where other agents reach it, if not there.
    pub peer_url: Option<String>,
    /// Its pod, in the control plane's own namespace of Kubernetes.
    pub pod: Option<Pod>,
    /// Where this process listens: no browser may connect there.
    pub own_ports: Vec<u16>,
}

/// Starts an agent that `stop` ends. Given up when a signal comes first.
pub async fn start(
    data: &DataDir,
    place: Place,
    chosen: Chosen,
    signal: &CancellationToken,
    stop: &CancellationToken,
) -> anyhow::Result<Agent> {
    let config = agent::Config {
        data_dir: data.path().to_owned(),
        region: place.region,
        capacity: chosen.capacity,
        warm: chosen.warm,
        browser: chosen.browser,
        hub_urls: place.hub_urls,
        hub_tls: place.hub_tls,
        join_token: place.join_token,
        data_plane_url: place.data_plane_url,
        peer_url: place.peer_url,
        pod: place.pod,
        no_sandbox: chosen.no_sandbox,
        isolation: chosen.isolation,
        egress: chosen.egress,
        own_ports: place.own_ports,
        limits: chosen.limits,
        allowed_origins: chosen.allowed_origins,
    };
    tokio::select! {
        () = signal.cancelled() => bail!("stopped before it was ready"),
        started = Agent::start(config, stop.clone()) => started,
    }
}

/// Waits until the agent takes sessions. False when `stop` came first.
///
/// # Errors
///
/// When it takes too long.
pub async fn wait_until_ready(agent: &Agent, stop: &CancellationToken) -> anyhow::Result<bool> {
    let mut ready = agent.ready();
    tokio::select! {
        () = stop.cancelled() => Ok(false),
        waited = timeout(READY, ready.wait_for(|&ready| ready)) => match waited {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(_)) => bail!("the agent ended before it was ready; the log says why"),
            Err(_) => bail!(
                "no browser was ready after {} s; the log above and `ventus doctor` say why",
                READY.as_secs()
            ),
        },
    }
}

/// Ends the agent's sessions and browsers.
pub async fn stop(agent: Agent, stop: &CancellationToken) {
    stop.cancel();
    within(STOP, "the agent", agent.stopped()).await;
}

/// Runs an agent until a signal ends it.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let [drain_signal, stop_signal] = on_signals()?;
    let chosen = options.browsers.choose()?;
    let join_token = join_token(&options)?;
    let data = options.data_dir.open()?;
    let admin = Admin::open(&options.admin, 1, &drain_signal).await?;
    let listener = listen::bind(options.listen).await?;
    let ready = ReadyFile::prepare(options.server.ready_file.as_deref())?;
    let base_url = options.server.base_url(listener.local_addr()?);
    let data_plane_url = match options.advertise {
        Some(url) => url,
        None if listen::is_any(options.listen.ip()) && options.server.public_url.is_none() => {
            return Err(usage("say with --advertise how clients reach this agent"));
        }
        None => listen::websocket(&base_url),
    };
    let banner = banner(&chosen, &options.region, &data_plane_url);
    let place = Place {
        region: options.region,
        hub_urls: options.control_plane,
        hub_tls: options.tls.into(),
        join_token,
        data_plane_url,
        peer_url: options.peer_url,
        pod: options.pod,
        own_ports: [listener.local_addr()?.port()].into_iter().chain(admin.port()).collect(),
    };
    let agent_stop = CancellationToken::new();
    let agent = start(&data, place, chosen, &drain_signal, &agent_stop).await?;
    let routes =
        agent.router().route("/errors/{slug}", get(problem_page)).route("/healthz", get(health));
    let routes = layers::around(routes, &base_url);
    let limits = serve::Limits::with_per_address(options.server.connections_per_address);
    let serving = TaskTracker::new();
    serving.spawn(serve(listener, routes, limits, stop_signal.clone()));
    serving.close();
    admin.add(Half::Agent(agent.monitor()));

    let mut outcome = wait_until_ready(&agent, &drain_signal).await;
    if matches!(outcome, Ok(true)) {
        outcome = ready.write(&base_url, None).map(|()| true);
    }
    if matches!(outcome, Ok(true)) {
        say(&banner);
        info!(%base_url, "the agent is ready");
        drain_signal.cancelled().await;
        let span = Duration::from_secs(options.drain_seconds.into());
        // Clients of what still runs are served meanwhile.
        stop_signal.run_until_cancelled(agent.drain(span)).await;
    }
    stop_signal.cancel();
    tokio::join!(stop(agent, &agent_stop), serving.wait());
    admin.close().await;
    info!("stopped");
    outcome.map(drop)
}

fn banner(chosen: &Chosen, region: &Region, data_plane_url: &str) -> String {
    let title = Style::of_stdout().bold(&format!("Ventus agent {VERSION}"));
    format!(
        "\n  {title} is ready\n\n  Clients   {data_plane_url}\n  Region    {region} · {}\n  \
         Browser   {}\n",
        sessions(chosen),
        chosen.browser.display()
    )
}

/// Explains a kind of problem. In `ventus up` it is the control plane that does.
async fn problem_page(Path(slug): Path<String>) -> Result<Html<String>, Problem> {
    page(&slug)
        .map(Html)
        .ok_or_else(|| Problem::new(Slug::NotFound, "there is no problem of this name"))
}

/// As the control plane's: an agent that answers is alive.
async fn health() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok", "version": VERSION }))
}

/// How many sessions and browsers, in words.
pub fn sessions(chosen: &Chosen) -> String {
    let Chosen { capacity, warm, .. } = chosen;
    let plural = if *capacity == 1 { "" } else { "s" };
    format!("up to {capacity} session{plural} at once, {warm} warm")
}

fn join_token(options: &Options) -> anyhow::Result<String> {
    let token = match (&options.join_token, &options.join_token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(path)) => read_token(path)?,
        (None, None) => {
            return Err(usage(
                "a token to join with is needed: set VENTUS_JOIN_TOKEN or --join-token-file; \
                 the control plane says at its start where its token is",
            ));
        }
    };
    Ok(token)
}

fn read_token(path: &std::path::Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the join token from {}", path.display()))?;
    Ok(text.trim().to_owned())
}
