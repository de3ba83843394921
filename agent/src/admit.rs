//! The door of the data plane: who may talk to which browser.
//!
//! A request is admitted by its connect token alone, before any browser is touched; what
//! is refused gets a problem document. Paths below `/v1/sessions/{id}/cdp` name the session,
//! at the root of the host the token does, for clients that take only a host and a port.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
    routing::any,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use proto::{
    id::{AgentId, SessionId},
    problem::{Problem, Slug},
    reached::ReachedAt,
    token::{ConnectClaims, SCOPE_CDP},
};
use tokio::{net::TcpStream, sync::watch, time};
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::{
    cdp::{
        Endpoint, JoinError, Mux, Seat,
        discovery::{self, Discovery},
    },
    forward::{Asked, FORWARDED, Forwarder},
    hub::Hub,
    origin,
    sessions::{Phase, Registry},
    upgrade,
    verifier::Verifier,
};

/// How long a client may wait for its browser to come up.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// How long a session that the hub says is this agent's may take to be assigned to it.
const ASSIGNED_LIMIT: Duration = Duration::from_secs(5);

/// How long the hub may take to know that a session is over, or is another agent's.
const MOVED_LIMIT: Duration = Duration::from_secs(5);

/// How long a session whose browser does not answer may take to show that it is over.
const OVER_LIMIT: Duration = Duration::from_secs(2);

/// What the data plane needs to know.
pub struct DataPlane {
    /// Which agent this is.
    pub agent: AgentId,
    /// Knows the others of its region.
    pub forwarder: Arc<Forwarder>,
    /// Knows where each session is.
    pub(crate) hub: Hub,
    /// The sessions of this agent.
    pub registry: Arc<Registry>,
    /// Knows a good token.
    pub verifier: Arc<Verifier>,
    /// Where clients reach this agent: `ws://` or `wss://`, without a trailing slash.
    pub url: String,
    /// Web origins whose pages may connect, as browsers write them; `*` is any.
    pub allowed_origins: Vec<String>,
    /// The browser's binary, beside which its protocol description lies.
    pub browser: PathBuf,
    /// Owns the connections.
    pub connections: TaskTracker,
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
    mut request: Request,
) -> Result<Response, Problem> {
    let named = parts.get("id").and_then(|id| id.parse::<SessionId>().ok());
    let path = parts.get("path").cloned().unwrap_or_default();
    if request.headers().contains_key(FORWARDED) {
        return data_plane.serve_forwarded(named, &path, &mut request).await;
    }
    let credential = Credential::of(request.uri().query(), request.headers());
    let claims = data_plane.admit(&credential, &request)?;
    if named != Some(claims.sub) {
        return Err(Problem::new(Slug::Forbidden, "the token belongs to another session"));
    }
    data_plane.serve_or_forward(&claims, credential, &path, &mut request).await
}

/// A path at the root of the host: the token names the session.
async fn root(
    State(data_plane): State<Arc<DataPlane>>,
    mut request: Request,
) -> Result<Response, Problem> {
    let credential = Credential::of(request.uri().query(), request.headers());
    let claims = data_plane.admit(&credential, &request)?;
    let path = request.uri().path().trim_start_matches('/').to_owned();
    data_plane.serve_or_forward(&claims, credential, &path, &mut request).await
}

/// A request that may be served.
struct Admitted {
    session: SessionId,
    /// What URLs in the answer begin with.
    base: String,
    /// What lets their reader in.
    token: String,
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
        let token = token.or_else(bearer).or_else(|| upgrade::token(headers).map(str::to_owned));
        Self { token, rest_of_query: rest.join("&") }
    }
}

impl DataPlane {
    fn admit(&self, credential: &Credential, request: &Request) -> Result<ConnectClaims, Problem> {
        let own = self.url_for(request);
        if !origin::is_allowed(request.headers(), &self.allowed_origins, &own) {
            return Err(Problem::new(
                Slug::Forbidden,
                "pages of this origin may not connect: see VENTUS_ALLOWED_ORIGINS",
            ));
        }
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

    /// Where the caller reaches this agent again.
    fn url_for(&self, request: &Request) -> String {
        ReachedAt::of(request.extensions())
            .map_or_else(|| self.url.clone(), ReachedAt::data_plane_url)
    }

    /// The session's browser, as soon as it is up.
    async fn browser(&self, id: SessionId) -> Result<Arc<Mux>, Problem> {
        let mut phase = match self.registry.watch(id) {
            Some(phase) => phase,
            None => self.assigned(id).await.ok_or_else(unknown)?,
        };
        let settled = phase.wait_for(|phase| !matches!(phase, Phase::Launching));
        let phase = match time::timeout(READY_LIMIT, settled).await {
            Ok(Ok(phase)) => phase.clone(),
            Ok(Err(_)) => return Err(unknown()),
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

    /// A session that the hub has given to this agent, whose client was faster.
    async fn assigned(&self, id: SessionId) -> Option<watch::Receiver<Phase>> {
        if self.hub.locate(id, None, ASSIGNED_LIMIT).await? != self.agent {
            return None;
        }
        time::timeout(ASSIGNED_LIMIT, self.registry.arrival(id)).await.ok()
    }

    /// A session that is known here is served here, any other by the agent that its token names.
    /// If that one does not have it, its launch may have moved since the token was given: then
    /// the hub says where to.
    async fn serve_or_forward(
        &self,
        claims: &ConnectClaims,
        credential: Credential,
        path: &str,
        request: &mut Request,
    ) -> Result<Response, Problem> {
        let protocol = upgrade::protocol(request.headers());
        if request.headers().contains_key(header::UPGRADE) {
            upgrade::accept_key(request)?;
        }
        let admitted = Admitted {
            session: claims.sub,
            base: self.url_for(request),
            token: credential.token.unwrap_or_default(),
        };
        let query = &credential.rest_of_query;
        let is_known = self.registry.watch(claims.sub).is_some();
        let mut owner = if is_known { self.agent } else { claims.agt };
        let end = time::Instant::now() + READY_LIMIT;
        let mut response = loop {
            let problem = match self.ask(owner, &admitted, query, path, request).await {
                Err(problem) if self.may_have_moved(claims.sub, &problem) => problem,
                answer => break answer?,
            };
            let left = end.saturating_duration_since(time::Instant::now());
            // Where it is over the hub may not have heard of it yet.
            let (former, limit) = match problem.slug() {
                Slug::Gone => (Some(owner), left.min(MOVED_LIMIT)),
                _ => (None, left),
            };
            match self.hub.locate(claims.sub, former, limit).await {
                Some(other) if other != owner => owner = other,
                _ => return Err(problem),
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(protocol) = protocol
        {
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        Ok(response)
    }

    /// Whether another agent may have the session that was asked for.
    fn may_have_moved(&self, id: SessionId, problem: &Problem) -> bool {
        let phase = self.registry.watch(id);
        let is_here = phase.is_some_and(|phase| !matches!(*phase.borrow(), Phase::Over(_)));
        !is_here && matches!(problem.slug(), Slug::NotFound | Slug::Gone | Slug::SessionNotReady)
    }

    /// What the owner of a session answers: this agent, or another one of the region.
    async fn ask(
        &self,
        owner: AgentId,
        admitted: &Admitted,
        query: &str,
        path: &str,
        request: &mut Request,
    ) -> Result<Response, Problem> {
        if owner == self.agent {
            return self.serve(admitted, query, path, request).await;
        }
        let asked = Asked {
            session: admitted.session,
            owner,
            token: &admitted.token,
            path: path.trim_end_matches('/'),
            query,
            base: &admitted.base,
        };
        self.forwarder.forward(asked, request).await
    }

    /// What another agent of the region has admitted. It is served here or nowhere.
    async fn serve_forwarded(
        &self,
        named: Option<SessionId>,
        path: &str,
        request: &mut Request,
    ) -> Result<Response, Problem> {
        let mut passes = request.headers().get_all(FORWARDED).iter();
        let (Some(pass), None) = (passes.next(), passes.next()) else {
            return Err(Problem::malformed("there is more than one pass"));
        };
        let pass = self.forwarder.check(pass, request.method(), request.uri()).await?;
        if named != Some(pass.session) {
            return Err(Problem::new(Slug::Forbidden, "the pass belongs to another session"));
        }
        let query = request.uri().query().unwrap_or_default().to_owned();
        let admitted =
            Admitted { session: pass.session, base: pass.base, token: pass.in_place_of_token };
        self.serve(&admitted, &query, path, request).await
    }

    async fn serve(
        &self,
        admitted: &Admitted,
        query: &str,
        path: &str,
        request: &mut Request,
    ) -> Result<Response, Problem> {
        let served = self.endpoint(admitted, query, path, request).await;
        match served {
            Err(problem) if problem.status().is_server_error() => {
                Err(self.over(admitted.session).await.unwrap_or(problem))
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
        admitted: &Admitted,
        query: &str,
        path: &str,
        request: &mut Request,
    ) -> Result<Response, Problem> {
        let session = admitted.session;
        let path = path.trim_end_matches('/');
        let endpoint = match path.split('/').collect::<Vec<_>>()[..] {
            [""] => Endpoint::Browser,
            ["devtools", "browser", id] if id == session.to_string() => Endpoint::Browser,
            ["devtools", "page", target] => Endpoint::Page(target.to_owned()),
            ["json", ..] if !request.headers().contains_key(header::UPGRADE) => {
                let mux = self.browser(session).await?;
                let discovery = Discovery {
                    mux: &mux,
                    browser: &self.browser,
                    session,
                    base: format!("{}/v1/sessions/{session}/cdp", admitted.base),
                    token: &admitted.token,
                };
                let page = discovery.answer(path, query, request.method());
                return Ok(no_store(page.await?));
            }
            _ => return Err(Problem::new(Slug::NotFound, discovery::unknown_path(path))),
        };
        let accept = upgrade::accept_key(request)?;
        let mux = self.browser(session).await?;
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
    fn upgrade(&self, seat: Seat, request: &mut Request) {
        let upgrade = hyper::upgrade::on(request);
        self.connections.spawn(async move {
            match upgrade.await.map(Upgraded::downcast::<TokioIo<TcpStream>>) {
                Ok(Ok(parts)) => seat.serve(parts.io.into_inner(), parts.read_buf).await,
                Ok(Err(_)) => debug!("the listener serves something else than TCP"),
                Err(error) => debug!(%error, "the client left during its upgrade"),
            }
        });
    }
}

fn unknown() -> Problem {
    Problem::new(Slug::NotFound, "no such session on this agent")
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

#[cfg(test)]
#[path = "admit_tests.rs"]
mod tests;
