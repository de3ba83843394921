//! A client of the REST API that hides nothing: every answer with status, headers and body.

use std::time::Duration;

use http::{HeaderMap, Method};
use serde_json::{Value, json};
use ulid::Ulid;

use crate::eventually;

/// Talks to one server with one key.
#[derive(Clone, Debug)]
pub struct Api {
    /// `http://host:port`
    pub base_url: String,
    key: Option<String>,
    http: reqwest::Client,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body: JSON, a string when it is something else, null when it is empty.
    pub body: Value,
}

impl Answer {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The slug of a problem, after checking that it is a whole problem document.
    ///
    /// # Panics
    ///
    /// When it is not one.
    pub fn problem(&self) -> &str {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.body["status"], self.status, "{self:?}");
        for member in ["title", "detail", "instance", "request_id"] {
            assert!(
                self.body[member].as_str().is_some_and(|s| !s.is_empty()),
                "{member}: {self:?}"
            );
        }
        let kind = self.body["type"].as_str().expect("a problem has a type");
        assert!(kind.starts_with("http"), "{kind} is absolute");
        kind.rsplit_once("/errors/").expect("a type below /errors/").1
    }

    /// The session in it.
    ///
    /// # Panics
    ///
    /// When the status is another one.
    pub fn session(self, status: u16) -> Session {
        assert_eq!(self.status, status, "{}", self.body);
        Session(self.body)
    }
}

/// A session as the API shows it.
#[derive(Clone, Debug)]
pub struct Session(pub Value);

impl Session {
    /// Its id.
    pub fn id(&self) -> &str {
        self.text("/id")
    }

    /// Its status.
    pub fn status(&self) -> &str {
        self.text("/status")
    }

    /// Why it is over, or an empty string.
    pub fn reason(&self) -> &str {
        self.0.pointer("/status_reason/code").and_then(Value::as_str).unwrap_or_default()
    }

    /// Where CDP clients connect.
    pub fn connect_url(&self) -> &str {
        self.text("/connect_url")
    }

    /// The token in the connect URL.
    pub fn token(&self) -> &str {
        self.connect_url().split_once("?token=").expect("a token in the connect URL").1
    }

    fn text(&self, pointer: &str) -> &str {
        let found = self.0.pointer(pointer).and_then(Value::as_str);
        found.unwrap_or_else(|| panic!("no {pointer} in {}", self.0))
    }
}

impl Api {
    /// A client of a server.
    pub fn new(base_url: &str, key: Option<&str>) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(90));
        let http = http.build().expect("an HTTP client");
        Self { base_url: base_url.to_owned(), key: key.map(str::to_owned), http }
    }

    /// The same key at another replica.
    pub fn at(&self, base_url: &str) -> Self {
        Self { base_url: base_url.to_owned(), ..self.clone() }
    }

    /// Any request. `None` when no answer came.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Option<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.base_url));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.ok()?;
        let body = match text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        };
        Some(Answer { status, headers, body })
    }

    /// Any request.
    ///
    /// # Panics
    ///
    /// When no answer comes.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let shown = format!("{method} {path}");
        let answer = self.try_send(method, path, headers, body).await;
        answer.unwrap_or_else(|| panic!("no answer to {shown}"))
    }

    /// `GET` of a path.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], None).await
    }

    /// Puts a file.
    ///
    /// # Panics
    ///
    /// When no answer comes.
    pub async fn put(&self, path: &str, content: Vec<u8>) -> Answer {
        let request = self.http.put(format!("{}{path}", self.base_url)).body(content);
        let request = request.bearer_auth(self.key.as_deref().unwrap_or_default());
        let response = request.send().await.expect("an answer to PUT");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a whole answer to PUT");
        Answer { status, headers, body: serde_json::from_str(&text).unwrap_or_default() }
    }

    /// Gets a file, or a part of it: status and bytes.
    ///
    /// # Panics
    ///
    /// When no answer comes.
    pub async fn bytes(&self, path: &str, range: Option<&str>) -> (u16, Vec<u8>) {
        let mut request = self.http.get(format!("{}{path}", self.base_url));
        request = request.bearer_auth(self.key.as_deref().unwrap_or_default());
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let response = request.send().await.expect("an answer to GET");
        let status = response.status().as_u16();
        (status, response.bytes().await.expect("a whole file").into())
    }

    /// Asks for a session with a key.
    pub async fn create_with(&self, key: &str, prefer: &str, body: &Value) -> Answer {
        let headers = [("idempotency-key", key), ("prefer", prefer)];
        self.send(Method::POST, "/v1/sessions", &headers, Some(body)).await
    }

    /// Makes a session that runs.
    pub async fn create(&self, body: Value) -> Session {
        let key = Ulid::generate().to_string();
        let session = self.create_with(&key, "wait=60", &body).await.session(201);
        assert_eq!(session.status(), "RUNNING", "{}", session.0);
        session
    }

    /// A session as it is now.
    pub async fn session(&self, id: &str) -> Session {
        self.get(&format!("/v1/sessions/{id}")).await.session(200)
    }

    /// Ends a session.
    pub async fn release(&self, id: &str) {
        let path = format!("/v1/sessions/{id}");
        let answer = self.send(Method::DELETE, &path, &[], None).await;
        assert_eq!(answer.status, 204, "{}", answer.body);
    }

    /// The transitions of a session: status and reason code of each.
    pub async fn events(&self, id: &str) -> Vec<(String, Option<String>)> {
        let answer = self.get(&format!("/v1/sessions/{id}/events")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let items = answer.body["items"].as_array().expect("events").clone();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        items
            .iter()
            .map(|item| (text(&item["status"]).unwrap_or_default(), text(&item["reason"]["code"])))
            .collect()
    }

    /// Every session, newest first.
    pub async fn all(&self) -> Vec<Session> {
        let answer = self.get("/v1/sessions?limit=100").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let items = answer.body["items"].as_array().expect("items").clone();
        items.into_iter().map(Session).collect()
    }

    /// Waits until a session has a status.
    pub async fn wait_for(&self, id: &str, status: &str, within: Duration) -> Session {
        eventually(&format!("{id} is {status}"), within, || async {
            let session = self.session(id).await;
            (session.status() == status).then_some(session)
        })
        .await
    }

    /// Slots in use in all regions.
    pub async fn in_use(&self) -> u64 {
        let answer = self.get("/v1/regions").await;
        let items = answer.body["items"].as_array().cloned().unwrap_or_default();
        items.iter().filter_map(|region| region["in_use"].as_u64()).sum()
    }
}
