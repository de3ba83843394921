//! The site that browsers open in the tests. Reached as `localhost` and as `127.0.0.1` it is
//! two sites, so a frame of one in the other runs in another process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    body::to_bytes,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::{any, get, post},
};
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use ulid::Ulid;

/// A running site; it ends when dropped.
#[derive(Debug)]
pub struct Site {
    /// `http://localhost:port`
    pub url: String,
    shelf: Shelf,
    serving: JoinHandle<()>,
}

/// What a test and the scripts that it runs tell each other: JSON by name, at `/shelf/{name}`.
type Shelf = Arc<Mutex<HashMap<String, Value>>>;

/// What lets one in: the cookie and the token of a login.
#[derive(Clone, Debug)]
struct Login {
    cookie: String,
    token: String,
}

macro_rules! page {
    ($name:literal) => {
        get(|| async { Html(include_str!(concat!("../site/", $name))) })
    };
}

macro_rules! script {
    ($name:literal) => {
        get(|| async {
            ([(header::CONTENT_TYPE, "text/javascript")], include_str!(concat!("../site/", $name)))
        })
    };
}

impl Site {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// When there is no port left.
    pub async fn start() -> Self {
        let shelf = Shelf::default();
        let login =
            Login { cookie: Ulid::generate().to_string(), token: Ulid::generate().to_string() };
        let shelves = Router::new()
            .route("/shelf/{name}", get(from_shelf).put(onto_shelf))
            .with_state(shelf.clone());
        let account = Router::new()
            .route("/login.html", page!("login.html"))
            .route("/login", post(sign_in))
            .route("/account", page!("account.html"))
            .route("/account/name", get(name))
            .with_state(login);
        let routes = Router::new()
            .merge(shelves)
            .merge(account)
            .route("/", page!("index.html"))
            .route("/index.html", page!("index.html"))
            .route("/second.html", page!("second.html"))
            .route("/table.html", page!("table.html"))
            .route("/frames.html", page!("frames.html"))
            .route("/inner.html", page!("inner.html"))
            .route("/popup.html", page!("popup.html"))
            .route("/worker.html", page!("worker.html"))
            .route("/worker.js", script!("worker.js"))
            .route("/service-worker.html", page!("service-worker.html"))
            .route("/service-worker.js", script!("service-worker.js"))
            .route("/upload.html", page!("upload.html"))
            .route("/echo", any(echo))
            .fallback(async || (StatusCode::NOT_FOUND, "not found"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, routes).await;
        });
        Self { url: format!("http://localhost:{port}"), shelf, serving }
    }

    /// Puts something onto the shelf.
    pub fn put(&self, name: &str, value: Value) {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), value);
    }

    /// What is on the shelf.
    pub fn look(&self, name: &str) -> Option<Value> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Answers what was asked, and not before all of it is there: a connection that is closed
/// with bytes unread is reset, and the answer may be lost on the way.
async fn echo(request: Request) -> Response {
    let mut headers = Map::new();
    for (name, value) in request.headers() {
        headers.insert(name.to_string(), Value::from(String::from_utf8_lossy(value.as_bytes())));
    }
    let (method, path) = (request.method().to_string(), request.uri().to_string());
    if to_bytes(request.into_body(), usize::MAX).await.is_err() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    Json(json!({ "method": method, "path": path, "headers": headers })).into_response()
}

async fn from_shelf(State(shelf): State<Shelf>, Path(name): Path<String>) -> Response {
    let found = shelf.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
    found.map_or(StatusCode::NOT_FOUND.into_response(), |value| Json(value).into_response())
}

async fn onto_shelf(
    State(shelf): State<Shelf>,
    Path(name): Path<String>,
    Json(value): Json<Value>,
) {
    shelf.lock().unwrap_or_else(PoisonError::into_inner).insert(name, value);
}

/// Lets anybody in.
async fn sign_in(State(login): State<Login>) -> Response {
    let cookie = format!("sid={}; HttpOnly; Path=/; SameSite=Lax; Max-Age=86400", login.cookie);
    ([(header::SET_COOKIE, cookie)], Json(json!({ "token": login.token }))).into_response()
}

/// Tells the name of who shows both the cookie and the token.
async fn name(State(login): State<Login>, headers: HeaderMap) -> Response {
    let shows = |name, what: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.split("; ").any(|part| part == what))
    };
    let cookie = shows(header::COOKIE, &format!("sid={}", login.cookie));
    let token = shows(header::AUTHORIZATION, &format!("Bearer {}", login.token));
    if cookie && token { "Zoë".into_response() } else { StatusCode::UNAUTHORIZED.into_response() }
}
