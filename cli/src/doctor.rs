//! `ventus doctor`: what this machine lacks to run browsers, and how to mend it.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use ::agent::checks::{self, Check, Outcome, Subject};
use clap::Args;
use tokio::net::TcpListener;

use crate::{
    agent::Browsers,
    browser::{self, HINT},
    capacity, data_dir, listen,
    style::{Style, say},
};

/// Flags of `ventus doctor`: what `ventus up` would be started with.
#[derive(Debug, Args)]
pub struct Options {
    /// Address that `ventus up` would serve on
    #[arg(long, env = "VENTUS_LISTEN", default_value = "127.0.0.1:8080", value_parser = listen::address, value_name = "ADDRESS")]
    listen: SocketAddr,
    #[command(flatten)]
    data_dir: data_dir::Options,
    #[command(flatten)]
    browsers: Browsers,
}

/// How long a server that is there already may take to say so.
const ANSWER: Duration = Duration::from_secs(2);

/// Checks this machine, prints what it found, and fails if no session could run.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut checks = on_browsers(&options).await?;
    checks.push(port(options.listen).await);
    let style = Style::of_stdout();
    say(&format!("\n{}", table(&checks, style)));
    let worst = checks.iter().map(|check| check.outcome).max();
    let (verdict, code) = match worst {
        Some(Outcome::Fail) => {
            (style.red("Not ready: no session can run here yet."), ExitCode::FAILURE)
        }
        Some(Outcome::Warn) => (style.yellow("Ready, but it could be better."), ExitCode::SUCCESS),
        _ => (style.green("Ready."), ExitCode::SUCCESS),
    };
    say(&format!("  {verdict}\n"));
    Ok(code)
}

async fn on_browsers(options: &Options) -> anyhow::Result<Vec<Check>> {
    let found = browser::find(options.browsers.browser.as_deref());
    let asked = || options.browsers.browser.clone().unwrap_or_else(|| PathBuf::from("chromium"));
    let subject = Subject {
        browser: found.as_deref().map_or_else(|_| asked(), Path::to_owned),
        data_dir: options.data_dir.path()?,
        capacity: options.browsers.capacity.unwrap_or_else(capacity::of_this_machine),
        no_sandbox: options.browsers.no_sandbox,
        isolation: options.browsers.isolation,
    };
    let mut checks = checks::run(&subject).await;
    if let (Err(error), Some(first)) = (found, checks.first_mut()) {
        // Why it was not found says more than that it is not there.
        first.found = error.to_string();
        first.remedy = Some(HINT.into());
    }
    Ok(checks)
}

async fn port(address: SocketAddr) -> Check {
    let (outcome, found, remedy) = match TcpListener::bind(address).await {
        Ok(_) => (Outcome::Ok, format!("{address} is free"), None),
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_ventus(address).await => {
            (Outcome::Ok, format!("{address} is served by ventus already"), None)
        }
        Err(error) => {
            let remedy = "end what uses it, or choose another address with --listen";
            (Outcome::Fail, format!("cannot listen on {address}: {error}"), Some(remedy.into()))
        }
    };
    Check { name: "port", outcome, found, remedy }
}

async fn is_ventus(address: SocketAddr) -> bool {
    let client = reqwest::Client::builder().no_proxy().timeout(ANSWER).build();
    let Ok(client) = client else { return false };
    let ask = async |path| {
        let url = format!("http://{}/{path}", listen::reachable(address));
        client.get(url).send().await?.error_for_status()?.json::<serde_json::Value>().await
    };
    // A control plane's, and an agent's.
    ask("v1/health").await.is_ok() || ask("healthz").await.is_ok()
}

fn table(checks: &[Check], style: Style) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut lines = String::new();
    for check in checks {
        let mark = match check.outcome {
            Outcome::Ok => style.green("✓"),
            Outcome::Warn => style.yellow("!"),
            Outcome::Fail => style.red("✗"),
        };
        let name = format!("{:width$}", check.name);
        lines += &format!("  {mark} {}  {}\n", style.bold(&name), check.found);
        if let Some(remedy) = &check.remedy {
            lines += &format!("    {:width$}  {}\n", "", style.dim(&format!("→ {remedy}")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, routing::get};

    use super::*;

    #[tokio::test]
    async fn a_port_that_something_else_uses_is_a_failure() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let check = port(taken.local_addr().unwrap()).await;
        assert_eq!(check.outcome, Outcome::Fail, "{check:?}");
        assert!(check.remedy.is_some());
        assert_eq!(port("127.0.0.1:0".parse().unwrap()).await.outcome, Outcome::Ok);
    }

    #[tokio::test]
    async fn a_port_that_ventus_serves_is_as_it_should_be() {
        for path in ["/v1/health", "/healthz"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let routes = Router::new().route(path, get(|| async { Json("as a server answers") }));
            let serving = tokio::spawn(axum::serve(listener, routes).into_future());
            let check = port(address).await;
            assert_eq!(check.outcome, Outcome::Ok, "{path}: {check:?}");
            serving.abort();
        }
    }
}
