//! `ventus agent`, and the flags about browsers that `ventus up` has too.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use agent::{Agent, browser::Strictness};
use anyhow::{Context, bail};
use axum::{extract::Path, response::Html, routing::get};
use clap::{Args, builder::FalseyValueParser};
use proto::{
    egress::{Egress, RuleList},
    problem::{Problem, Slug, page},
    region::Region,
};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use crate::{
    browser, capacity,
    control_plane::VERSION,
    data_dir::{self, DataDir},
    layers, listen,
    ready::ReadyFile,
    serve::{Limits, serve},
    shutdown::{on_signal, within},
    style::{Style, say},
    usage,
};

/// Flags of `ventus agent`.
#[derive(Debug, Args)]
pub struct Options {
    /// Where the control plane's hub is, for instance http://127.0.0.1:8081
    #[arg(long, env = "VENTUS_CONTROL_PLANE", value_name = "URL", value_parser = listen::base_url)]
    control_plane: String,
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
    /// Region that this agent serves
    #[arg(long, env = "VENTUS_REGION", default_value = "local", value_name = "NAME")]
    region: Region,
    #[command(flatten)]
    server: listen::Options,
    #[command(flatten)]
    data_dir: data_dir::Options,
    #[command(flatten)]
    browsers: Browsers,
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
    pub hub_url: String,
    /// What it joins with.
    pub join_token: String,
    /// Where CDP clients reach it.
    pub data_plane_url: String,
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
        hub_url: place.hub_url,
        join_token: place.join_token,
        data_plane_url: place.data_plane_url,
        no_sandbox: chosen.no_sandbox,
        isolation: chosen.isolation,
        egress: chosen.egress,
        own_ports: place.own_ports,
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
    let stop_signal = on_signal()?;
    let chosen = options.browsers.choose()?;
    let join_token = join_token(&options)?;
    let data = options.data_dir.open()?;
    let listener = listen::bind(options.listen).await?;
    let ready = ReadyFile::prepare(options.server.ready_file.as_deref())?;
    let base_url = options.server.base_url(listener.local_addr()?);
    let data_plane_url = match options.advertise {
        Some(url) => url,
        None if options.listen.ip().is_unspecified() && options.server.public_url.is_none() => {
            return Err(usage("say with --advertise how clients reach this agent"));
        }
        None => listen::websocket(&base_url),
    };
    let banner = banner(&chosen, &options.region, &data_plane_url);
    let place = Place {
        region: options.region,
        hub_url: options.control_plane,
        join_token,
        data_plane_url,
        own_ports: vec![listener.local_addr()?.port()],
    };
    let agent_stop = CancellationToken::new();
    let agent = start(&data, place, chosen, &stop_signal, &agent_stop).await?;
    let routes = agent.router().route("/errors/{slug}", get(problem_page));
    let routes = layers::around(routes, &base_url);
    let limits = Limits::with_per_address(options.server.connections_per_address);
    let serving = TaskTracker::new();
    serving.spawn(serve(listener, routes, limits, stop_signal.clone()));
    serving.close();

    let mut outcome = wait_until_ready(&agent, &stop_signal).await;
    if matches!(outcome, Ok(true)) {
        outcome = ready.write(&base_url, None).map(|()| true);
    }
    if matches!(outcome, Ok(true)) {
        say(&banner);
        info!(%base_url, "the agent is ready");
        stop_signal.cancelled().await;
    }
    stop_signal.cancel();
    tokio::join!(stop(agent, &agent_stop), serving.wait());
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
