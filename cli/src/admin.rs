//! The listener for operators: metrics and probes, by plain HTTP and without credentials. Whoever
//! opens it does so in a network of their own; nothing secret is told there.
//!
//! It is there before the halves of the server are, and until they are gone: a process that
//! starts slowly is alive, and one that drains its sessions is.

use std::{
    fmt, fs,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use clap::Args;
use http::{StatusCode, header};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::{Registry, Unit},
};
use rustix::time::{ClockId, clock_gettime};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tower_http::timeout::TimeoutLayer;
use tracing::{error, info};

use crate::{
    control_plane::VERSION,
    listen,
    serve::{Limits, serve},
};

/// Where the listener is.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Options {
    /// Address to serve metrics and probes on, without credentials: for an operator's own network
    /// [default: none]
    #[arg(long, env = "VENTUS_ADMIN_LISTEN", value_name = "ADDRESS", value_parser = listen::address)]
    admin_listen: Option<SocketAddr>,
}

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Connections of one address: a collector and a few probes.
const CONNECTIONS: u32 = 64;
/// What metrics are written in, whatever was asked for: every Prometheus since 2.5 reads it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A part of the server that is up.
pub enum Half {
    /// The control plane.
    ControlPlane(control_plane::metrics::Monitor),
    /// The agent.
    Agent(::agent::Monitor),
}

/// The listener, if there is one. Dropping it ends it.
pub struct Admin {
    server: Arc<Server>,
    port: Option<u16>,
    serving: TaskTracker,
    stop: CancellationToken,
    _ends: DropGuard,
}

/// What it tells of.
struct Server {
    /// Those that are up.
    halves: RwLock<Vec<Arc<Half>>>,
    /// Of the process, and of the halves that are up.
    metrics: RwLock<Registry>,
    /// How many that will be.
    expected: usize,
    /// The process was told to stop.
    stopping: CancellationToken,
}

/// What a probe finds: why not, if not.
type Found = Result<(), &'static str>;

impl Admin {
    /// Listens. So many halves of a server are going to be added; it is not ready any more once
    /// `stopping` is cancelled.
    ///
    /// # Errors
    ///
    /// When the address cannot be had.
    pub async fn open(
        options: &Options,
        expected: usize,
        stopping: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let mut metrics = Registry::default();
        metrics.register_collector(Box::new(Process));
        let server = Arc::new(Server {
            halves: RwLock::default(),
            metrics: RwLock::new(metrics),
            expected,
            stopping: stopping.clone(),
        });
        let serving = TaskTracker::new();
        let stop = CancellationToken::new();
        let mut port = None;
        if let Some(address) = options.admin_listen {
            let listener = listen::bind(address).await?;
            let here = listener.local_addr()?;
            info!(address = %here, "metrics and probes are served without credentials");
            port = Some(here.port());
            let limits = Limits::with_per_address(CONNECTIONS);
            serving.spawn(serve(listener, routes(server.clone()), limits, stop.clone()));
        }
        serving.close();
        Ok(Self { server, port, serving, _ends: stop.clone().drop_guard(), stop })
    }

    /// The port that no browser may connect to.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// This half is up, and what it serves can be reached.
    pub fn add(&self, half: Half) {
        let collector: Box<dyn Collector> = match &half {
            Half::ControlPlane(control_plane) => Box::new(control_plane.clone()),
            Half::Agent(agent) => Box::new(agent.clone()),
        };
        let Server { metrics, halves, .. } = &*self.server;
        metrics.write().unwrap_or_else(PoisonError::into_inner).register_collector(collector);
        halves.write().unwrap_or_else(PoisonError::into_inner).push(half.into());
    }

    /// Ends it; the last thing that a server does.
    pub async fn close(self) {
        self.stop.cancel();
        self.serving.wait().await;
    }
}

impl Server {
    fn halves(&self) -> Vec<Arc<Half>> {
        self.halves.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All halves, once they are up.
    fn up(&self) -> Result<Vec<Arc<Half>>, &'static str> {
        Some(self.halves()).filter(|up| up.len() == self.expected).ok_or("the server is starting")
    }

    /// Whether the start is over, and probes may judge the process.
    fn started(&self) -> Found {
        self.up()?.iter().try_for_each(|half| match &**half {
            Half::ControlPlane(_) => Ok(()), // its schema and its listeners came before it
            Half::Agent(agent) => agent.started(),
        })
    }

    /// Whether clients are to be sent here.
    async fn ready(&self) -> Found {
        if self.stopping.is_cancelled() {
            return Err("the server is stopping");
        }
        for half in self.up()? {
            match &*half {
                Half::ControlPlane(control_plane) => control_plane.ready().await?,
                Half::Agent(agent) => agent.ready()?,
            }
        }
        Ok(())
    }

    fn metrics(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        encode(&mut page, &self.metrics.read().unwrap_or_else(PoisonError::into_inner))?;
        Ok(page)
    }
}

fn routes(server: Arc<Server>) -> Router {
    let metrics = |State(server): State<Arc<Server>>| async move {
        match server.metrics() {
            Ok(page) => ([(header::CONTENT_TYPE, OPEN_METRICS)], page).into_response(),
            Err(error) => {
                error!(?error, "a metric cannot be written");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    };
    let started = |State(server): State<Arc<Server>>| async move { answer(server.started()) };
    let ready = |State(server): State<Arc<Server>>| async move { answer(server.ready().await) };
    Router::new()
        .route("/metrics", get(metrics))
        // Touches nothing: a process that answers is alive.
        .route("/livez", get(|| async { answer(Ok(())) }))
        .route("/readyz", get(ready))
        .route("/startupz", get(started))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, ANSWER))
        .with_state(server)
}

fn answer(found: Found) -> Response {
    match found {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

/// The server's own process, by the names that every client of Prometheus uses. What cannot be read
/// is left out.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut page: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Always 1; the label says what runs.";
        page.encode_descriptor("ventus_build_info", help, None, MetricType::Gauge)?
            .encode_family(&[("version", VERSION)])?
            .encode_gauge(&1_u32)?;
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let spent = Duration::new(cpu.tv_sec.unsigned_abs(), cpu.tv_nsec.unsigned_abs() as u32);
        let help = "Processor time of the server's own process.";
        page.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, f64>(&spent.as_secs_f64(), None)?;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|text| text.trim_end_matches("kB").trim().parse::<u64>().ok());
        if let Some(kib) = kib {
            let (name, unit) = ("process_resident_memory", Some(&Unit::Bytes));
            let help = "Memory of the server's own process, without its browsers.";
            page.encode_descriptor(name, help, unit, MetricType::Gauge)?
                .encode_gauge(&(kib * 1024))?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            let help = "Files that the server's own process has open.";
            page.encode_descriptor("process_open_fds", help, None, MetricType::Gauge)?
                .encode_gauge(&(open.count() as u64))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open(expected: usize) -> (Admin, CancellationToken) {
        let (stopping, here) = (CancellationToken::new(), "127.0.0.1:0".parse().ok());
        let admin = Admin::open(&Options { admin_listen: here }, expected, &stopping).await;
        (admin.unwrap(), stopping)
    }

    async fn get(admin: &Admin, path: &str) -> (u16, String) {
        let url = format!("http://127.0.0.1:{}{path}", admin.port().unwrap());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    #[tokio::test]
    async fn what_starts_is_alive_and_neither_started_nor_ready() {
        let (admin, _) = open(1).await;
        assert_eq!(get(&admin, "/livez").await, (200, "ok\n".into()));
        for probe in ["/startupz", "/readyz"] {
            assert_eq!(get(&admin, probe).await, (503, "the server is starting\n".into()));
        }
        assert_eq!(get(&admin, "/").await.0, 404);
        admin.close().await;
    }

    #[tokio::test]
    async fn what_stops_is_alive_and_not_ready() {
        let (admin, stopping) = open(0).await;
        assert_eq!(get(&admin, "/readyz").await, (200, "ok\n".into()));
        stopping.cancel();
        assert_eq!(get(&admin, "/readyz").await, (503, "the server is stopping\n".into()));
        assert_eq!(get(&admin, "/livez").await.0, 200);
        admin.close().await;
    }

    #[tokio::test]
    async fn the_process_tells_of_itself() {
        let (admin, _) = open(0).await;
        let (_, text) = get(&admin, "/metrics").await;
        assert!(text.ends_with("\n# EOF\n"), "all of it");
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse::<f64>().unwrap()
        };
        assert!(of("process_resident_memory_bytes ") > 1e6);
        assert!(of("process_cpu_seconds_total ") > 0.0);
        assert!(of("process_open_fds ") >= 3.0);
        assert!(text.contains(&format!("ventus_build_info{{version=\"{VERSION}\"}} 1\n")));
        admin.close().await;
    }

    #[tokio::test]
    async fn metrics_are_of_the_type_that_prometheus_asks_for_first() {
        let (admin, _) = open(0).await;
        let url = format!("http://127.0.0.1:{}/metrics", admin.port().unwrap());
        // As Prometheus 2.42 asks.
        let accept = "application/openmetrics-text;version=1.0.0,\
                      application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(url).header("accept", accept).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], OPEN_METRICS);
        admin.close().await;
    }

    #[tokio::test]
    async fn without_an_address_nothing_listens() {
        let stopping = CancellationToken::new();
        let admin = Admin::open(&Options { admin_listen: None }, 1, &stopping).await.unwrap();
        assert_eq!(admin.port(), None);
        admin.close().await;
    }
}
