//! One request to a server, and its answer.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use http::{Method, header};
use reqwest::{Body, Client, Response, redirect::Policy};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{fs::OpenOptions, io::AsyncWriteExt, time::sleep};

use super::error::{Error, Refusal, Result};
use crate::control_plane::VERSION;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an ordinary answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// How long to wait before a request is sent again: a server that restarts is back soon.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(750)];

/// What to ask.
#[derive(Clone)]
pub struct Request {
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(&'static str, String)>,
    body: Option<String>,
    /// A file as the body.
    file: Option<PathBuf>,
    patience: Duration,
    repeatable: bool,
}

impl Request {
    fn new(method: Method, path: impl Into<String>, repeatable: bool) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            file: None,
            patience: ANSWER,
            repeatable,
        }
    }

    /// Reads.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, true)
    }

    /// Removes. Twice is as good as once.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path, true)
    }

    /// Makes something, or does something to it.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path, false)
    }

    /// Changes. The same change twice is as good as once.
    pub fn patch(path: impl Into<String>) -> Self {
        Self::new(Method::PATCH, path, true)
    }

    /// Puts a file. The same one twice is as good as once.
    pub fn put_file(path: impl Into<String>, file: PathBuf) -> Self {
        Self { file: Some(file), ..Self::new(Method::PUT, path, true) }
    }

    /// Adds a parameter.
    pub fn query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Gives it a body.
    pub fn json(mut self, body: &impl Serialize) -> Result<Self> {
        self.body = Some(serde_json::to_string(body).map_err(anyhow::Error::from)?);
        Ok(self)
    }

    /// Says that the server takes the second of two for the first.
    pub fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Lets the answer take longer.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// A success.
#[derive(Debug)]
pub struct Answer {
    /// The body, as it came.
    pub text: String,
}

impl Answer {
    /// What the body says.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.text).map_err(|error| {
            Error::Local(anyhow::anyhow!("the server's answer cannot be read: {error}"))
        })
    }
}

/// A server, and what it knows us by.
pub struct Api {
    base_url: String,
    bearer: Option<String>,
    http: Client,
}

impl Api {
    /// A server to which nobody has shown a credential yet.
    pub fn new(base_url: String) -> Result<Self> {
        // Straight to the server: a proxy of the environment is for other traffic. And no
        // credential follows a redirect.
        let http = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .user_agent(format!("ventus-cli/{VERSION}"))
            .build();
        Ok(Self { base_url, bearer: None, http: http.map_err(anyhow::Error::from)? })
    }

    /// The same server, with a key or token.
    pub fn with(&self, bearer: impl Into<String>) -> Self {
        let Self { base_url, http, .. } = self;
        Self { base_url: base_url.clone(), bearer: Some(bearer.into()), http: http.clone() }
    }

    /// Scheme and authority.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Sends a request. It is sent again where that can do no harm: nothing had been sent
    /// yet, or the server takes the second for the first.
    ///
    /// # Errors
    ///
    /// When no answer came, or one that is not a success.
    pub async fn send(&self, request: Request) -> Result<Answer> {
        let response = self.answer(&request).await?;
        let text = response.text().await;
        Ok(Answer { text: text.map_err(|error| Error::unreachable(&self.base_url, &error))? })
    }

    /// Sends a request, and writes the body of the answer to a file: in place of what is
    /// there, or only where nothing is. Says how many bytes it has.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and when the file cannot be written.
    pub async fn fetch(&self, request: Request, to: &Path, replace: bool) -> Result<u64> {
        let mut response = self.answer(&request).await?;
        let mut options = OpenOptions::new();
        options.write(true).create(replace).truncate(replace).create_new(!replace);
        let cannot = || format!("{} cannot be written", to.display());
        let mut file = options.open(to).await.with_context(cannot)?;
        let mut size_bytes = 0;
        while let Some(piece) =
            response.chunk().await.map_err(|error| Error::unreachable(&self.base_url, &error))?
        {
            size_bytes += piece.len() as u64;
            file.write_all(&piece).await.with_context(cannot)?;
        }
        file.flush().await.with_context(cannot)?;
        Ok(size_bytes)
    }

    async fn answer(&self, request: &Request) -> Result<Response> {
        let mut pauses = PAUSES.iter();
        loop {
            let error = match self.attempt(request).await? {
                Ok(outcome) => return outcome,
                Err(error) => error,
            };
            let harmless = error.is_connect() || request.repeatable;
            match pauses.next().filter(|_| harmless && !error.is_timeout()) {
                Some(&pause) => sleep(pause).await,
                None => return Err(Error::unreachable(&self.base_url, &error)),
            }
        }
    }

    /// The inner error is of the way to the server and back.
    async fn attempt(&self, request: &Request) -> Result<reqwest::Result<Result<Response>>> {
        let url = format!("{}{}", self.base_url, request.path);
        let mut sent = self.http.request(request.method.clone(), url).timeout(request.patience);
        if !request.query.is_empty() {
            sent = sent.query(&request.query);
        }
        if let Some(bearer) = &self.bearer {
            sent = sent.bearer_auth(bearer);
        }
        for (name, value) in &request.headers {
            sent = sent.header(*name, value);
        }
        if let Some(body) = &request.body {
            sent = sent.header(header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        if let Some(path) = &request.file {
            let cannot = || format!("{} cannot be read", path.display());
            let file = tokio::fs::File::open(path).await.with_context(cannot)?;
            let length = file.metadata().await.with_context(cannot)?.len();
            sent = sent.header(header::CONTENT_LENGTH, length).body(Body::from(file));
        }
        Ok(self.sent(sent).await)
    }

    async fn sent(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Result<Response>> {
        let response = request.send().await?;
        if response.status().is_success() {
            return Ok(Ok(response));
        }
        let status = response.status();
        let retry_after = response.headers().get(header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        let text = response.text().await?;
        let refusal = Refusal::read(status.as_u16(), text, retry_after);
        Ok(Err(Error::Refused(Box::new(refusal))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;
    use crate::client::stand_in::StandIn;

    #[tokio::test]
    async fn a_request_says_who_asks_for_what() {
        let server = StandIn::start(|_| (200, json!({"a": 1}))).await;
        let api = Api::new(server.url.clone()).unwrap().with("secret");
        let request = Request::post("/x").query("label.a", "b c").header("prefer", "wait=1");
        let answer = api.send(request.json(&json!({"k": "v"})).unwrap()).await.unwrap();
        assert_eq!(answer.read::<Value>().unwrap()["a"], 1);
        let asked = server.only();
        assert_eq!((asked.method.as_str(), asked.uri.as_str()), ("POST", "/x?label.a=b+c"));
        assert_eq!(asked.body, json!({"k": "v"}));
        for (name, value) in [
            ("authorization", "Bearer secret"),
            ("prefer", "wait=1"),
            ("content-type", "application/json"),
        ] {
            assert_eq!(asked.headers[name], value);
        }
    }

    #[tokio::test]
    async fn no_credential_follows_a_redirect() {
        let server = StandIn::start(|_| (307, json!({}))).await;
        let api = Api::new(server.url.clone()).unwrap().with("secret");
        let error = api.send(Request::get("/")).await.unwrap_err();
        assert_eq!(error.exit_code(), 1);
        server.only();
    }

    /// Takes connections, reads a little and hangs up. Tells how many came.
    async fn hangs_up(request: Request) -> (Error, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Api::new(format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let sending = tokio::spawn(async move { api.send(request).await.unwrap_err() });
        let mut taken = 0;
        while !sending.is_finished() {
            let next = tokio::time::timeout(Duration::from_millis(20), listener.accept());
            if let Ok(connection) = next.await {
                taken += 1;
                let _ = connection.unwrap().0.read(&mut [0; 64]).await;
            }
        }
        (sending.await.unwrap(), taken)
    }

    #[tokio::test]
    async fn only_what_may_come_twice_is_sent_again() {
        let (error, taken) = hangs_up(Request::get("/x?token=secret")).await;
        assert_eq!((error.exit_code(), taken), (7, PAUSES.len() + 1));
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(hangs_up(Request::post("/x")).await.1, 1);
        assert_eq!(hangs_up(Request::post("/x").repeatable()).await.1, PAUSES.len() + 1);
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told_from_one_that_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = Api::new(url).unwrap().send(Request::post("/x")).await.unwrap_err();
        assert_eq!(error.exit_code(), 7);
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
