//! The site that browsers open in the tests. Reached as `localhost` and as `127.0.0.1` it is
//! two sites, so a frame of one in the other runs in another process.

use axum::{
    Json, Router,
    extract::Request,
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::{any, get},
};
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// A running site; it ends when dropped.
#[derive(Debug)]
pub struct Site {
    /// `http://localhost:port`
    pub url: String,
    serving: JoinHandle<()>,
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
        let routes = Router::new()
            .route("/", page!("index.html"))
            .route("/index.html", page!("index.html"))
            .route("/second.html", page!("second.html"))
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
        Self { url: format!("http://localhost:{port}"), serving }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Answers what was asked.
async fn echo(request: Request) -> Response {
    let mut headers = Map::new();
    for (name, value) in request.headers() {
        headers.insert(name.to_string(), Value::from(String::from_utf8_lossy(value.as_bytes())));
    }
    let path = request.uri().to_string();
    Json(json!({ "method": request.method().as_str(), "path": path, "headers": headers }))
        .into_response()
}
