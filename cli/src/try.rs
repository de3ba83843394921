//! `ventus try`: a first session, from its creation to its release, with the time that each
//! stage took and code to go on with.

mod cdp;
mod snippets;

use std::{
    borrow::Cow,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use axum::{Router, response::Html, routing::get};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;
use proto::id::SessionId;
use reqwest::Url;
use serde::Deserialize;
use serde_json::json;
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

use self::{cdp::Cdp, snippets::Snippets};
use crate::{
    client::{Api, Request, error::Error},
    data_dir::{self, credentials_in, credentials_path},
    listen,
    serve::{Limits, serve},
    style::{Style, say},
    usage,
};

/// Flags of `ventus try`.
#[derive(Debug, Args)]
pub struct Options {
    /// The server [default: the one of the data directory]
    #[arg(long, env = "VENTUS_URL", value_name = "URL", value_parser = listen::base_url)]
    url: Option<String>,
    /// Key for its API [default: the one of the data directory]
    ///
    /// Arguments can be seen by other users of the machine: prefer the environment.
    #[arg(long, env = "VENTUS_API_KEY", hide_env_values = true, value_name = "KEY")]
    api_key: Option<String>,
    #[command(flatten)]
    data_dir: data_dir::Options,
    /// Address to reach the browser at, instead of the one in its connect URL: from within a
    /// cluster, for one, where that is for clients outside
    #[arg(long, env = "VENTUS_TRY_DATA_PLANE", value_name = "URL", value_parser = listen::data_plane_url)]
    data_plane: Option<String>,
    /// Where to put the screenshot
    #[arg(
        long,
        env = "VENTUS_TRY_OUTPUT",
        value_name = "PATH",
        default_value = "ventus-first-session.png"
    )]
    output: PathBuf,
}

/// Longest that a stage may take: creating waits for a slot, and a cold browser for its start.
const STAGE: Duration = Duration::from_secs(60);

/// The page that the session opens.
const PAGE: &str = include_str!("try/page.html");

/// Runs a first session.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let server = Server::find(&options)?;
    let pages = CancellationToken::new();
    let page = server.page(&pages).await?;
    let mut stages = Stages::default();

    let session = stages.run("create", server.create()).await?;
    let driven = drive(&server.way_to(&session), &page, &mut stages).await;
    let released = stages.run("release", server.release(&session)).await;
    pages.cancel();
    let picture = driven?;
    released?;

    let path = std::path::absolute(&options.output)?;
    std::fs::write(&path, &picture)
        .with_context(|| format!("cannot write the screenshot to {}", path.display()))?;
    let style = Style::of_stdout();
    say(&format!("\n  {} {}\n", style.green("✓"), style.bold("Your first session")));
    say(&format!("  {}", stages.line(style)));
    say(&format!("  {}  {}", style.dim("screenshot in"), path.display()));
    let snippets =
        Snippets { base_url: server.api.base_url(), key_file: server.key_file.as_deref() };
    say(&snippets.text(style));
    Ok(())
}

async fn drive(url: &str, page: &str, stages: &mut Stages) -> anyhow::Result<Vec<u8>> {
    let mut cdp = stages.run("connect", Cdp::connect(url)).await?;
    let target = stages.run("open page", open(&mut cdp, page)).await?;
    let picture = stages.run("screenshot", screenshot(&mut cdp, &target)).await?;
    cdp.close().await;
    Ok(picture)
}

/// Opens the page in a tab of its own and waits until it is loaded. Tells the CDP session.
async fn open(cdp: &mut Cdp, url: &str) -> anyhow::Result<String> {
    let target = cdp.command(None, "Target.createTarget", json!({"url": "about:blank"})).await?;
    let attach = json!({"targetId": target["targetId"], "flatten": true});
    let attached = cdp.command(None, "Target.attachToTarget", attach).await?;
    let page = attached["sessionId"].as_str().context("the browser named no session")?.to_owned();
    cdp.command(Some(&page), "Page.enable", json!({})).await?;
    let navigated = cdp.command(Some(&page), "Page.navigate", json!({"url": url})).await?;
    if let Some(error) = navigated["errorText"].as_str() {
        bail!("the browser could not open the page: {error}");
    }
    cdp.event(&page, "Page.loadEventFired").await?;
    Ok(page)
}

async fn screenshot(cdp: &mut Cdp, page: &str) -> anyhow::Result<Vec<u8>> {
    let taken = cdp.command(Some(page), "Page.captureScreenshot", json!({"format": "png"})).await?;
    let data = taken["data"].as_str().context("the browser sent no picture")?;
    STANDARD.decode(data).context("the browser sent a picture that cannot be read")
}

/// The server under trial.
struct Server {
    api: Api,
    key_file: Option<PathBuf>,
    /// Scheme and authority of the data plane, if not those of connect URLs.
    data_plane: Option<String>,
}

/// What of a session matters here.
#[derive(Deserialize)]
struct Session {
    id: SessionId,
    connect_url: String,
}

impl Server {
    fn find(options: &Options) -> anyhow::Result<Self> {
        let dir = options.data_dir.path()?;
        let kept = match (&options.url, &options.api_key) {
            (Some(_), Some(_)) => None,
            _ => credentials_in(&dir)?,
        };
        let key_file =
            (options.api_key.is_none() && kept.is_some()).then(|| credentials_path(&dir));
        let (kept_url, kept_key) = kept.map(|kept| (kept.base_url, kept.api_key)).unzip();
        let Some(key) = options.api_key.clone().or(kept_key) else {
            return Err(usage(format!(
                "no API key: start `ventus up` first, or set VENTUS_API_KEY (looked in {})",
                dir.display()
            )));
        };
        let url = options.url.clone().or(kept_url);
        let url = url.unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
        if url.starts_with("https:") {
            return Err(usage(
                "`ventus try` speaks plain http only: name the server behind the proxy",
            ));
        }
        let data_plane = options.data_plane.clone();
        Ok(Self { api: Api::new(url)?.with(key), key_file, data_plane })
    }

    /// Where to connect to the session's browser.
    fn way_to<'a>(&self, session: &'a Session) -> Cow<'a, str> {
        let url = &session.connect_url;
        let path = url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
        match (&self.data_plane, path) {
            (Some(place), Some(path)) => format!("{place}{path}").into(),
            _ => url.into(),
        }
    }

    /// The URL of a page to open. The browser runs on the server's machine: where that is
    /// this one the page is served from here, else it travels in its URL.
    async fn page(&self, stop: &CancellationToken) -> anyhow::Result<String> {
        let host = self.api.base_url().parse::<Url>()?;
        let local = matches!(host.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if !local {
            return Ok(format!("data:text/html;base64,{}", STANDARD.encode(PAGE)));
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let routes = Router::new().route("/", get(|| async { Html(PAGE) }));
        tokio::spawn(serve(listener, routes, Limits::with_per_address(0), stop.clone()));
        Ok(url)
    }

    async fn create(&self) -> anyhow::Result<Session> {
        let request = Request::post("/v1/sessions")
            .header("idempotency-key", format!("ventus-try-{}", SessionId::generate()))
            .json(&json!({"timeout_seconds": 300, "labels": {"made-by": "ventus-try"}}))?
            .patience(STAGE)
            .repeatable();
        let answer = self.api.send(request).await.map_err(|error| {
            let away = matches!(error, Error::Unreachable { .. });
            let error = anyhow::Error::from(error);
            if away { error.context("is `ventus up` running?") } else { error }
        });
        Ok(answer?.read()?)
    }

    async fn release(&self, session: &Session) -> anyhow::Result<()> {
        let request = Request::delete(format!("/v1/sessions/{}", session.id)).patience(STAGE);
        self.api.send(request).await?;
        Ok(())
    }
}

/// The stages so far, with their times.
#[derive(Default)]
struct Stages(Vec<(&'static str, Duration)>);

impl Stages {
    async fn run<T>(
        &mut self,
        name: &'static str,
        stage: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let begun = Instant::now();
        let outcome = timeout(STAGE, stage)
            .await
            .unwrap_or_else(|_| bail!("no answer within {} s", STAGE.as_secs()));
        self.0.push((name, begun.elapsed()));
        outcome.with_context(|| format!("stage \"{name}\" failed"))
    }

    fn line(&self, style: Style) -> String {
        let stage = |name: &str, time: Duration| {
            format!("{} {} ms", style.dim(name), style.bold(&time.as_millis().to_string()))
        };
        let total = self.0.iter().map(|(_, time)| *time).sum();
        let mut line: Vec<_> = self.0.iter().map(|(name, time)| stage(name, *time)).collect();
        line.push(stage("total", total));
        line.join(" · ")
    }
}
