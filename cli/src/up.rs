//! `ventus up`: control plane and agent in one process, on one port, with no configuration.
//!
//! The two halves still talk over the real agent protocol, on a loopback port of its own
//! with a join token that lives as long as the process.

use std::{net::SocketAddr, time::Instant};

use clap::Args;
use proto::egress::{NotARule, Rule};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use crate::{
    admin::{self, Admin, Half},
    agent::{self, Browsers, Chosen, Place, sessions},
    control_plane::{Role, Running, Store, VERSION, announce, keep_key, say_key},
    data_dir::{self, DataDir, random_token},
    forwarded,
    hub::HubListener,
    layers, listen,
    people::People,
    ready::ReadyFile,
    serve::{Limits, serve},
    shutdown::on_signal,
    style::{Style, say},
};

/// Flags of `ventus up`.
#[derive(Debug, Args)]
pub struct Options {
    /// Address to serve the API and the browsers on
    #[arg(long, env = "VENTUS_LISTEN", default_value = "127.0.0.1:8080", value_parser = listen::address, value_name = "ADDRESS")]
    listen: SocketAddr,
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
    browsers: Browsers,
}

/// Runs everything until a signal ends it.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let begun = Instant::now();
    let stop = on_signal()?;
    let mut chosen = options.browsers.choose()?;
    // Whoever tries this on a machine of theirs has pages of their own there.
    chosen.egress.allow.extend(loopback()?);
    let data = options.data_dir.open()?;
    let admin = Admin::open(&options.admin, 2, &stop).await?;
    let listener = listen::bind(options.listen).await?;
    let ready = ReadyFile::prepare(options.server.ready_file.as_deref())?;
    let base_url = options.server.base_url(listener.local_addr()?);
    let hub = HubListener::bind_here().await?;
    let join_token = random_token()?;
    let place = Place {
        region: options.store.region.clone(),
        hub_urls: vec![hub.url()],
        hub_tls: ::agent::HubTls::default(),
        join_token: join_token.clone(),
        data_plane_url: listen::websocket(&base_url),
        peer_url: None,
        pod: None,
        own_ports: [listener.local_addr()?.port(), hub.port()]
            .into_iter()
            .chain(admin.port())
            .collect(),
    };
    let own_data_plane = Some(place.data_plane_url.clone());
    let role = Role { base_url: &base_url, join_token, own_data_plane, cluster: None };
    let banner = banner(&options, &chosen, &base_url, &data);

    let running = Running::start(&data, &options.store, &options.people, role, hub).await?;
    let key = keep_key(&data, &running.control_plane, &base_url)?;
    let agent_stop = CancellationToken::new();
    let agent = match agent::start(&data, place, chosen, &stop, &agent_stop).await {
        Ok(agent) => agent,
        Err(error) => {
            running.stop().await;
            return Err(error);
        }
    };
    let routes = running.control_plane.router().merge(agent.router());
    let any_address = options.server.public_url.is_none() && listen::is_any(options.listen.ip());
    let routes = layers::around(routes, &base_url);
    let routes = forwarded::told(routes, &options.proxies, any_address);
    let limits = Limits::with_per_address(options.server.connections_per_address);
    let serving = TaskTracker::new();
    serving.spawn(serve(listener, routes, limits, stop.clone()));
    serving.close();
    admin.add(Half::ControlPlane(running.control_plane.monitor()));
    admin.add(Half::Agent(agent.monitor()));

    let mut outcome = agent::wait_until_ready(&agent, &stop).await;
    if matches!(outcome, Ok(true)) {
        outcome = announce(&data, &ready, &base_url, key).map(|()| true);
    }
    if matches!(outcome, Ok(true)) {
        let style = Style::of_stdout();
        let title = style.bold(&format!("Ventus {VERSION}"));
        say(&format!("\n  {title} is ready after {:.1} s\n", begun.elapsed().as_secs_f32()));
        say(&banner);
        say_key(style, &running.control_plane, data.path());
        say(&format!("\n  A first session:  {}\n", style.bold("ventus try")));
        info!(%base_url, "ventus is ready");
        stop.cancelled().await;
    }
    stop.cancel();
    running.control_plane.close();
    // The agent first: it still tells the hub how its sessions ended.
    tokio::join!(agent::stop(agent, &agent_stop), serving.wait());
    running.stop().await;
    admin.close().await;
    info!("stopped");
    outcome.map(drop)
}

/// This machine, but for what it is to others.
fn loopback() -> Result<[Rule; 2], NotARule> {
    Ok(["127.0.0.0/8".parse()?, "::1".parse()?])
}

fn banner(options: &Options, chosen: &Chosen, base_url: &str, data: &DataDir) -> String {
    let mut lines = vec![
        format!("  API       {base_url}"),
        format!("  Docs      {base_url}/docs"),
        format!("  Region    {} · {}", options.store.region, sessions(chosen)),
        format!("  Browser   {}", chosen.browser.display()),
        "  Egress    pages may connect to this machine; --egress-deny 127.0.0.0/8,::1 forbids it"
            .to_owned(),
        format!("  Data      {} ({})", data.path().display(), options.store.database.kind()),
    ];
    if chosen.no_sandbox {
        lines.push(format!("  {}", Style::of_stdout().red("Sandbox   OFF")));
    }
    lines.join("\n")
}
