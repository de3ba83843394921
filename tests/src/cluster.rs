//! A stand-in for the API server of Kubernetes: takes patches of pods by TLS, and keeps them.

use std::{
    collections::HashMap,
    fs,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    routing::patch,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Duration, Instant},
};

use crate::{authority::Authority, fleet, server::Plan, tls::Front};

/// What scale-down goes by.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A cluster with a namespace and the service account of a pod in it. Dropped, it is gone.
#[derive(Debug)]
pub struct StandInCluster {
    authority: Authority,
    /// As it is mounted into the pod.
    account: TempDir,
    port: u16,
    books: Arc<Mutex<Books>>,
    site: String,
    serving: JoinHandle<()>,
    front: Option<Front>,
}

#[derive(Debug, Default)]
struct Books {
    token: String,
    /// By name: the uid.
    pods: HashMap<String, String>,
    /// What is answered instead of what was asked for.
    refusal: Option<StatusCode>,
    costs: Vec<Cost>,
    refused: usize,
}

/// What a pod was said to cost to delete.
#[derive(Clone, Debug)]
pub struct Cost {
    /// The pod's name.
    pub pod: String,
    /// The annotation's value.
    pub value: String,
    /// When.
    pub at: Instant,
    /// The token that it was written with.
    pub token: String,
}

/// The one namespace.
const NAMESPACE: &str = "browsers";

impl StandInCluster {
    /// Makes one whose API cannot be reached yet.
    ///
    /// # Panics
    ///
    /// When there is no port or no folder left.
    pub async fn new() -> Self {
        let authority = Authority::new().await;
        let account = tempfile::tempdir().expect("a folder");
        fs::copy(authority.certificate(), account.path().join("ca.crt")).expect("a copy");
        fs::write(account.path().join("namespace"), NAMESPACE).expect("a file");
        let books = Arc::<Mutex<Books>>::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let site = format!("http://{}", listener.local_addr().expect("it listens"));
        let one = "/api/v1/namespaces/{namespace}/pods/{name}";
        let routes = Router::new().route(one, patch(take)).with_state(books.clone());
        let serving = tokio::spawn(async move {
            axum::serve(listener, routes).await.expect("a server");
        });
        let port = fleet::free_port();
        let cluster = Self { authority, account, port, books, site, serving, front: None };
        cluster.rotate_token();
        cluster
    }

    /// From now on its API is reached.
    pub async fn listen(&mut self) {
        let signed = self.authority.sign("kube-apiserver").await;
        self.front = Some(Front::start_on(self.port, &signed, &self.site).await);
    }

    /// Has a control plane run in a pod of it.
    pub fn of(&self, plan: Plan) -> Plan {
        plan.env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
            .env("KUBERNETES_SERVICE_PORT", self.port)
            .env("VENTUS_SERVICE_ACCOUNT", self.account.path().display())
            .env("VENTUS_POD_DELETION_COST", "true")
    }

    /// Has a pod of this name, and says what its agent is told: `name/uid`.
    pub fn pod(&self, name: &str) -> String {
        // A UUID as any other, but for its version.
        let uid = format!("{:032x}", u128::from(ulid::Ulid::generate()));
        let cut = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &uid[part]);
        let uid = cut.join("-");
        self.books().pods.insert(name.to_owned(), uid.clone());
        format!("{name}/{uid}")
    }

    /// Puts another token into the pod; those before it are good no more.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn rotate_token(&self) -> String {
        let token = format!("token-{}", ulid::Ulid::generate());
        let mut books = self.books();
        // As the kubelet does: what is read is one or the other.
        let beside = self.account.path().join("token.new");
        fs::write(&beside, &token).expect("a file");
        fs::rename(beside, self.account.path().join("token")).expect("a file in place of another");
        books.token.clone_from(&token);
        token
    }

    /// Answers with this from now on, and `None`: does what is asked.
    pub fn refuse(&self, with: Option<StatusCode>) {
        self.books().refusal = with;
    }

    /// All that pods were said to cost, in order.
    pub fn costs(&self) -> Vec<Cost> {
        self.books().costs.clone()
    }

    /// How many requests were refused.
    pub fn refused(&self) -> usize {
        self.books().refused
    }

    /// The shortest time between two writes to one pod.
    pub fn shortest_pause(&self) -> Option<Duration> {
        let costs = self.costs();
        let pauses = costs.iter().enumerate().filter_map(|(n, cost)| {
            let before = costs[..n].iter().rfind(|before| before.pod == cost.pod)?;
            Some(cost.at - before.at)
        });
        pauses.min()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for StandInCluster {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// `PATCH` of a pod's annotations, and of nothing else.
async fn take(
    State(books): State<Arc<Mutex<Books>>>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, Json<Value>) {
    let mut books = books.lock().unwrap_or_else(PoisonError::into_inner);
    let status = match books.judge(&namespace, &name, &headers, &body) {
        Ok(cost) => {
            books.costs.push(cost);
            StatusCode::OK
        }
        Err(status) => {
            books.refused += 1;
            status
        }
    };
    (status, Json(json!({"kind": "Pod", "metadata": {"name": name}})))
}

impl Books {
    fn judge(
        &self,
        namespace: &str,
        name: &str,
        headers: &HeaderMap,
        body: &str,
    ) -> Result<Cost, StatusCode> {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let token = header(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let token = token.filter(|token| *token == self.token).ok_or(StatusCode::UNAUTHORIZED)?;
        if let Some(status) = self.refusal {
            return Err(status);
        }
        if namespace != NAMESPACE {
            return Err(StatusCode::FORBIDDEN);
        }
        let uid = self.pods.get(name).ok_or(StatusCode::NOT_FOUND)?;
        if header(header::CONTENT_TYPE) != Some("application/merge-patch+json") {
            return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        let patch: Value = serde_json::from_str(body).map_err(|_| StatusCode::BAD_REQUEST)?;
        let value = patch["metadata"]["annotations"][COST].as_str().unwrap_or_default();
        // Nothing more than this; and a uid cannot be changed.
        let expected = json!({"metadata": {"uid": uid, "annotations": {COST: value}}});
        if patch != expected || value.parse::<i32>().is_err() {
            return Err(StatusCode::UNPROCESSABLE_ENTITY);
        }
        let (pod, value) = (name.to_owned(), value.to_owned());
        Ok(Cost { pod, value, at: Instant::now(), token: token.to_owned() })
    }
}
