//! The API of the cluster that this replica runs in, as its pod's service account may use it.

use std::{error::Error, fs, io, net::IpAddr, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use proto::pod::{Pod, is_dns_name};
use reqwest::{Certificate, Client, StatusCode, Url, header::CONTENT_TYPE, redirect::Policy};
use serde_json::json;

use crate::config::ClusterConfig;

/// How long the API may take for one patch.
const LIMIT: Duration = Duration::from_secs(5);
/// JSON as RFC 7396 merges it.
const MERGE_PATCH: &str = "application/merge-patch+json";
/// Kubernetes' well-known annotation; its value is an `int32` as text.
const ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The cluster's API.
pub struct Cluster {
    http: Client,
    /// The URL of a pod of this replica's namespace, but for its name.
    pods: String,
    namespace: String,
    /// The kubelet replaces what is in it before it expires.
    token: PathBuf,
}

/// How a patch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patched {
    Done,
    /// The pod is gone, is another one of that name, or was never here.
    NoSuchPod,
}

/// Why a patch failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the service account's token cannot be read")]
    Token(#[source] io::Error),
    #[error("the API of Kubernetes cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("the API of Kubernetes does not believe the service account's token (401)")]
    Unauthorized,
    #[error(
        "the service account may not (403): in namespace {0} it needs a Role with the verb patch \
         on pods"
    )]
    Forbidden(String),
    #[error("the API of Kubernetes answers {0}")]
    Answer(StatusCode),
}

impl Failure {
    /// With all that is behind it.
    pub fn whole(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        text
    }
}

impl Cluster {
    /// Reads who this pod is there.
    ///
    /// # Errors
    ///
    /// When the pod has no service account, or what is mounted of it makes no sense.
    pub fn open(config: &ClusterConfig) -> anyhow::Result<Self> {
        let path = |name: &str| config.service_account.join(name);
        let read = |name: &str| {
            fs::read_to_string(path(name)).with_context(|| {
                format!(
                    "no service account of Kubernetes for pod deletion costs: cannot read {}",
                    path(name).display()
                )
            })
        };
        read("token")?;
        let namespace = read("namespace")?.trim().to_owned();
        ensure!(is_dns_name(&namespace), "{} holds no namespace", path("namespace").display());
        let authorities = Certificate::from_pem_bundle(read("ca.crt")?.as_bytes())?;
        ensure!(!authorities.is_empty(), "{} holds no certificate", path("ca.crt").display());
        let host = match config.host.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => config.host.clone(),
        };
        let pods = format!("https://{host}:{}/api/v1/namespaces/{namespace}/pods/", config.port);
        Url::parse(&pods).context("the address of Kubernetes' API")?;
        let http = Client::builder()
            .user_agent(concat!("ventus/", env!("CARGO_PKG_VERSION")))
            .tls_certs_only(authorities)
            .https_only(true)
            .no_proxy()
            .redirect(Policy::none())
            .timeout(LIMIT)
            .build()?;
        Ok(Self { http, pods, namespace, token: path("token") })
    }

    /// Writes what a pod costs to delete.
    pub(super) async fn patch(&self, pod: &Pod, cost: u64) -> Result<Patched, Failure> {
        let token = tokio::fs::read_to_string(&self.token).await.map_err(Failure::Token)?;
        let url = format!("{}{}", self.pods, pod.name());
        // The uid changes nothing where it is the pod's own, and is refused where it is not.
        let patch = json!({"metadata": {
            "uid": pod.uid(),
            "annotations": {ANNOTATION: cost.to_string()},
        }});
        let request = self.http.patch(url).bearer_auth(token.trim());
        let request = request.header(CONTENT_TYPE, MERGE_PATCH).body(patch.to_string());
        let mut answer = request.send().await.map_err(Failure::Unreachable)?;
        // To its end, so that the connection can serve again.
        while let Ok(Some(_)) = answer.chunk().await {}
        match answer.status() {
            status if status.is_success() => Ok(Patched::Done),
            StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY => Ok(Patched::NoSuchPod),
            StatusCode::UNAUTHORIZED => Err(Failure::Unauthorized),
            StatusCode::FORBIDDEN => Err(Failure::Forbidden(self.namespace.clone())),
            status => Err(Failure::Answer(status)),
        }
    }
}
