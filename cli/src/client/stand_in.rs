//! A server on loopback that answers as a test wants, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, Response, StatusCode, header},
};
use serde_json::Value;
use tokio::{net::TcpListener, task::AbortHandle};

/// Ends with the test.
pub struct StandIn {
    /// `http://127.0.0.1:port`
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    serving: AbortHandle,
}

/// What it was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// In capitals.
    pub method: String,
    /// Path and query.
    pub uri: String,
    /// All of them.
    pub headers: HeaderMap,
    /// Null where there was none.
    pub body: Value,
}

impl Asked {
    /// Method and URI in one.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.uri)
    }
}

impl StandIn {
    /// Starts one. A null answer is none.
    pub async fn start(
        answer: impl Fn(&Asked) -> (u16, Value) + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        let routes = Router::new().fallback(move |request: Request| {
            let (heard, answer) = (heard.clone(), answer.clone());
            async move {
                let asked = read(request).await;
                let (status, body) = answer(&asked);
                heard.lock().unwrap().push(asked);
                respond(status, &body)
            }
        });
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, asked, serving: serving.abort_handle() }
    }

    /// All requests so far, oldest first.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Their methods and URIs.
    pub fn lines(&self) -> Vec<String> {
        self.asked().iter().map(Asked::line).collect()
    }

    /// The one request that there was.
    pub fn only(&self) -> Asked {
        let mut asked = self.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn read(request: Request) -> Asked {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    Asked {
        method: parts.method.to_string(),
        uri: parts.uri.to_string(),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    }
}

fn respond(status: u16, body: &Value) -> Response<Body> {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let kind = if status < 400 { "application/json" } else { "application/problem+json" };
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header(header::CONTENT_TYPE, kind)
        .header(header::LOCATION, "/elsewhere")
        .body(Body::from(text))
        .unwrap()
}
