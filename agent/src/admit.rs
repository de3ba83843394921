//! The door of the data plane: who may talk to which browser.
//!
//! A request is admitted by its connect token alone, before any browser is touched; what
//! is refused gets a problem document. Paths below `/v1/sessions/{id}/cdp` name the session,
//! at the root of the host the token does, for clients that take only a host and a port.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
    routing::any,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use proto::{
    id::SessionId,
    problem::{Problem, Slug},
    token::{AUDIENCE, ConnectClaims, ISSUER, SCOPE_CDP},
};
use tokio::{net::TcpStream, time};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::{
    cdp::{
        Endpoint, JoinError, Mux, Seat,
        discovery::{self, Discovery},
    },
    sessions::{Phase, Registry},
};

/// How long a client may wait for its browser to come up.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// How long a session whose browser does not answer may take to show that it is over.
const OVER_LIMIT: Duration = Duration::from_secs(2);

/// How far the clocks of control plane and agent may differ, in seconds.
const LEEWAY_SECONDS: u64 = 5;

/// What the data plane needs to know.
pub struct DataPlane {
    /// The sessions of this agent.
    pub registry: Arc<Registry>,
    /// Knows a good token.
    pub verifier: Arc<Verifier>,
    /// Where clients reach this agent: `ws://` or `wss://`, without a trailing slash.
    pub url: String,
    /// The browser's binary, beside which its protocol description lies.
    pub browser: PathBuf,
    /// Owns the connections.
    pub connections: TaskTracker,
}

/// Checks connect tokens with the public keys that the hub sent.
#[derive(Default)]
pub struct Verifier {
    keys: RwLock<HashMap<String, DecodingKey>>,
}

/// The keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Not a key set (RFC 7517).
    #[error("not a key set")]
    Malformed(#[from] serde_json::Error),
    /// A key of it is not usable.
    #[error("a key of the set cannot be used")]
    Unusable(#[from] jsonwebtoken::errors::Error),
}

impl Verifier {
    /// Knows no key yet, so no token is good.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes these keys from now on, and no others.
    pub fn replace(&self, jwks: &str) -> Result<(), KeysError> {
        let set: JwkSet = serde_json::from_str(jwks)?;
        let mut keys = HashMap::new();
        for key in &set.keys {
            let id = key.common.key_id.clone().unwrap_or_default();
            keys.insert(id, DecodingKey::from_jwk(key)?);
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// What a token says, if one of our keys signed it and it still counts.
    fn verify(&self, token: &str) -> Option<ConnectClaims> {
        // The header only picks the key; the algorithm is fixed here.
        let id = jsonwebtoken::decode_header(token).ok()?.kid?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        validation.leeway = LEEWAY_SECONDS;
        let token = jsonwebtoken::decode(token, keys.get(&id)?, &validation).ok()?;
        Some(token.claims)
    }
}

/// The routes of the data plane.
pub fn router(data_plane: DataPlane) -> Router {
    Router::new()
        .route("/v1/sessions/{id}/cdp", any(session))
        .route("/v1/sessions/{id}/cdp/{*path}", any(session))
        .route("/json", any(root))
        .route("/json/{*path}", any(root))
        .route("/devtools/{*path}", any(root))
        .with_state(Arc::new(data_plane))
}

/// A path that names the session.
async fn session(
    State(data_plane): State<Arc<DataPlane>>,
    Path(parts): Path<HashMap<String, String>>,
    request: Request,
) -> Result<Response, Problem> {
    let credential = Credential::of(request.uri().query(), request.headers());
    let claims = data_plane.admit(&credential)?;
    let named = parts.get("id").and_then(|id| id.parse::<SessionId>().ok());
    if named != Some(claims.sub) {
        return Err(Problem::new(Slug::Forbidden, "the token belongs to another session"));
    }
    let path = parts.get("path").cloned().unwrap_or_default();
    data_plane.serve(&claims, credential, &path, request).await
}

/// A path at the root of the host: the token names the session.
async fn root(
    State(data_plane): State<Arc<DataPlane>>,
    request: Request,
) -> Result<Response, Problem> {
    let credential = Credential::of(request.uri().query(), request.headers());
    let claims = data_plane.admit(&credential)?;
    let path = request.uri().path().trim_start_matches('/').to_owned();
    data_plane.serve(&claims, credential, &path, request).await
}

/// A request's connect token, and what else its query says.
pub(crate) struct Credential {
    pub token: Option<String>,
    pub rest_of_query: String,
}

impl Credential {
    pub fn of(query: Option<&str>, headers: &HeaderMap) -> Self {
        let mut token = None;
        let mut rest = Vec::new();
        for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            match part.strip_prefix("token=") {
                Some(value) if token.is_none() => token = Some(value.to_owned()),
                _ => rest.push(part),
            }
        }
        let bearer = || {
            let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
        };
        Self { token: token.or_else(bearer), rest_of_query: rest.join("&") }
    }
}

impl DataPlane {
    fn admit(&self, credential: &Credential) -> Result<ConnectClaims, Problem> {
        let token = credential.token.as_deref().ok_or_else(|| {
            Problem::new(Slug::Unauthorized, "a connect token is required: see `connect_url`")
        })?;
        let claims = self.verifier.verify(token).ok_or_else(|| {
            Problem::new(Slug::Unauthorized, "the connect token is malformed, forged or expired")
        })?;
        if claims.scp != SCOPE_CDP {
            return Err(Problem::new(Slug::Forbidden, "the token does not allow this"));
        }
        Ok(claims)
    }

    /// The session's browser, as soon as it is up.
    async fn browser(&self, id: SessionId) -> Result<Arc<Mux>, Problem> {
        let mut phase = self
            .registry
            .watch(id)
            .ok_or_else(|| Problem::new(Slug::NotFound, "no such session on this agent"))?;
        let settled = phase.wait_for(|phase| !matches!(phase, Phase::Launching));
        let phase = match time::timeout(READY_LIMIT, settled).await {
            Ok(Ok(phase)) => phase.clone(),
            Ok(Err(_)) => {
                return Err(Problem::new(Slug::NotFound, "no such session on this agent"));
            }
            Err(_) => {
                let detail = "the browser is still starting";
                return Err(Problem::new(Slug::SessionNotReady, detail).with_retry_after(1));
            }
        };
        match phase {
            Phase::Running(mux) => Ok(mux),
            Phase::Over(reason) => Err(refused(JoinError::Over(reason))),
            Phase::Launching => Err(Problem::new(Slug::SessionNotReady, "the browser is starting")),
        }
    }

    async fn serve(
        &self,
        claims: &ConnectClaims,
        credential: Credential,
        path: &str,
        request: Request,
    ) -> Result<Response, Problem> {
        let served = self.endpoint(claims, credential, path, request).await;
        match served {
            Err(problem) if problem.status().is_server_error() => {
                Err(self.over(claims.sub).await.unwrap_or(problem))
            }
            served => served,
        }
    }

    /// That the session is over, if that is why its browser did not answer: it may have been
    /// about to end when the client came.
    async fn over(&self, id: SessionId) -> Option<Problem> {
        let mut phase = self.registry.watch(id)?;
        let over = phase.wait_for(|phase| matches!(phase, Phase::Over(_)));
        match &*time::timeout(OVER_LIMIT, over).await.ok()?.ok()? {
            Phase::Over(reason) => Some(refused(JoinError::Over(*reason))),
            Phase::Launching | Phase::Running(_) => None,
        }
    }

    async fn endpoint(
        &self,
        claims: &ConnectClaims,
        credential: Credential,
        path: &str,
        request: Request,
    ) -> Result<Response, Problem> {
        let path = path.trim_end_matches('/');
        let endpoint = match path.split('/').collect::<Vec<_>>()[..] {
            [""] => Endpoint::Browser,
            ["devtools", "browser", id] if id == claims.sub.to_string() => Endpoint::Browser,
            ["devtools", "page", target] => Endpoint::Page(target.to_owned()),
            ["json", ..] if !request.headers().contains_key(header::UPGRADE) => {
                let mux = self.browser(claims.sub).await?;
                let discovery = Discovery {
                    mux: &mux,
                    browser: &self.browser,
                    session: claims.sub,
                    base: format!("{}/v1/sessions/{}/cdp", self.url, claims.sub),
                    token: credential.token.as_deref().unwrap_or_default(),
                };
                let page = discovery.answer(path, &credential.rest_of_query, request.method());
                return Ok(no_store(page.await?));
            }
            _ => return Err(Problem::new(Slug::NotFound, discovery::unknown_path(path))),
        };
        let accept = accept_key(&request)?;
        let mux = self.browser(claims.sub).await?;
        let seat = mux.join(&endpoint).await.map_err(refused)?;
        self.upgrade(seat, request);
        let headers = [
            (header::CONNECTION, HeaderValue::from_static("Upgrade")),
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::SEC_WEBSOCKET_ACCEPT, accept),
        ];
        Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
    }

    /// Takes the connection over once the answer is out.
    fn upgrade(&self, seat: Seat, mut request: Request) {
        let upgrade = hyper::upgrade::on(&mut request);
        self.connections.spawn(async move {
            match upgrade.await.map(Upgraded::downcast::<TokioIo<TcpStream>>) {
                Ok(Ok(parts)) => seat.serve(parts.io.into_inner(), parts.read_buf).await,
                Ok(Err(_)) => debug!("the listener serves something else than TCP"),
                Err(error) => debug!(%error, "the client left during its upgrade"),
            }
        });
    }
}

/// What answers the client's key, if this is a WebSocket upgrade (RFC 6455, section 4.2.1).
fn accept_key(request: &Request) -> Result<HeaderValue, Problem> {
    let headers = request.headers();
    let has = |name, wanted: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(wanted)))
    };
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    // 16 bytes in base64.
    let key = key.filter(|key| key.len() == 24 && key.ends_with(b"=="));
    let upgrade = request.method() == http::Method::GET
        && has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    key.filter(|_| upgrade)
        .and_then(|key| HeaderValue::from_str(&derive_accept_key(key)).ok())
        .ok_or_else(|| {
            Problem::malformed("this is a WebSocket endpoint: connect a CDP client to it")
                .with_header(header::UPGRADE, HeaderValue::from_static("websocket"))
                .with_header(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
        })
}

fn refused(error: JoinError) -> Problem {
    let slug = match error {
        JoinError::Over(_) => Slug::Gone,
        JoinError::Full => Slug::Conflict,
        JoinError::NoTarget(_) => Slug::NotFound,
        JoinError::Unanswered => Slug::SessionNotReady,
    };
    Problem::new(slug, error.to_string())
}

/// The answer holds URLs with a token.
fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
