//! Agents' doors where the session is not yet, or not any more, with a hub that the test plays.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proto::{
    agent::{Peer, Peers},
    id::WorkspaceId,
    problem::{Frame, frame},
    session::EndReason,
    token::{AUDIENCE, ISSUER},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;
use crate::{
    browser::testing::CHROMIUM,
    clock::Clock,
    control::testing::{Files, hub_with_files},
    sessions::{
        Ending, Sessions,
        testing::{Fakes, dialer, order, soon},
    },
};

/// An agent of the region, as clients and other agents reach it.
struct Door {
    agent: AgentId,
    sessions: Sessions,
    forwarder: Arc<Forwarder>,
    router: Router,
    url: String,
}

impl Door {
    async fn open(hub_url: &str, jwks: &str) -> Self {
        let agent = AgentId::generate();
        let hub = Hub::new(dialer(hub_url), agent, "join");
        let registry = Registry::new(2);
        let (sessions, _) = Sessions::new(registry.clone(), Fakes::new(), hub.clone());
        let clock = Arc::new(Clock::new());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let forwarder = Forwarder::new(agent, clock.clone(), tasks.clone(), stop).unwrap();
        let forwarder = Arc::new(forwarder);
        let verifier = Verifier::new(clock);
        verifier.replace(jwks).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let data_plane = DataPlane {
            agent,
            forwarder: forwarder.clone(),
            hub,
            registry,
            verifier: Arc::new(verifier),
            url: url.clone(),
            allowed_origins: Vec::new(),
            browser: CHROMIUM.into(),
            connections: tasks,
        };
        let framed = axum::middleware::from_fn_with_state(
            Frame { base_url: "http://agent.test".into() },
            frame,
        );
        let router = router(data_plane).layer(framed);
        let served = router.clone();
        tokio::spawn(async { axum::serve(listener, served).await });
        Self { agent, sessions, forwarder, router, url }
    }

    fn told(&self) -> Peer {
        Peer {
            agent_id: self.agent.to_string(),
            data_plane_url: self.url.clone(),
            forwarding_key: self.forwarder.key(),
        }
    }

    /// What a client is answered that asks for the browser's protocol.
    fn ask(&self, session: SessionId, token: &str) -> JoinHandle<StatusCode> {
        let uri = format!("/v1/sessions/{session}/cdp/json/protocol?token={token}");
        let request = Request::get(uri).body(axum::body::Body::empty()).unwrap();
        let answered = self.router.clone().oneshot(request);
        tokio::spawn(async move { answered.await.unwrap().status() })
    }
}

/// Two agents and their hub.
struct Region {
    here: Door,
    there: Door,
    hub: Arc<Files>,
    key: EncodingKey,
}

impl Region {
    async fn start() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let public = URL_SAFE_NO_PAD.encode(pair.public_key());
        let jwks = serde_json::json!({ "keys": [
            { "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "one", "x": public }
        ] });
        let (hub_url, _, hub) = hub_with_files().await;
        let (here, there) = (
            Door::open(&hub_url, &jwks.to_string()).await,
            Door::open(&hub_url, &jwks.to_string()).await,
        );
        for door in [&here, &there] {
            door.forwarder.meet(Peers { peers: vec![here.told(), there.told()] });
        }
        Self { here, there, hub, key: EncodingKey::from_ed_der(private.as_ref()) }
    }

    /// A token for a session that was given to an agent.
    fn token(&self, session: SessionId, agent: AgentId) -> String {
        let now = Clock::new().now_ms() / 1_000;
        let claims = ConnectClaims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: session,
            wid: WorkspaceId::generate(),
            agt: agent,
            scp: SCOPE_CDP.to_owned(),
            iat: now,
            exp: now + 60,
        };
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }

    /// What the hub answers when it is asked where a session is.
    fn places(&self, places: &[&str]) {
        *self.hub.places.lock().unwrap() = places.iter().map(ToString::to_string).collect();
    }
}

#[tokio::test]
async fn a_client_that_is_faster_than_the_order_waits_for_it() {
    let region = Region::start().await;
    let order = order();
    let token = region.token(order.id, region.here.agent);
    region.places(&[&region.here.agent.to_string()]);
    // At the agent itself, and through another one.
    let asked = [&region.here, &region.there].map(|door| door.ask(order.id, &token));
    region.here.sessions.assign(order);
    for asked in asked {
        assert_eq!(soon(asked).await.unwrap(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_launch_that_has_moved_is_found_by_the_url_from_before() {
    let region = Region::start().await;
    let order = order();
    let token = region.token(order.id, region.here.agent);
    // It is handed back, which the hub has yet to hear, and waits for a slot for a while.
    region.here.sessions.registry().close();
    region.here.sessions.assign(order.clone());
    region.places(&[&region.here.agent.to_string(), "", &region.there.agent.to_string()]);
    let asked = region.here.ask(order.id, &token);
    region.there.sessions.assign(order.clone());
    assert_eq!(soon(asked).await.unwrap(), StatusCode::OK);
    // An agent that never had it knows as much.
    let third = SessionId::generate();
    let token = region.token(third, region.here.agent);
    region.there.sessions.assign(crate::sessions::Order { id: third, ..order });
    assert_eq!(soon(region.here.ask(third, &token)).await.unwrap(), StatusCode::OK);
    // So does one that was told to ask an agent that is gone.
    let gone = region.token(third, AgentId::generate());
    assert_eq!(soon(region.here.ask(third, &gone)).await.unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn what_is_over_is_over_wherever_the_hub_has_it() {
    let region = Region::start().await;
    let order = order();
    let id = order.id;
    let token = region.token(id, region.here.agent);
    let ask = |door: &Door| soon(door.ask(id, &token));
    assert_eq!(ask(&region.here).await.unwrap(), StatusCode::NOT_FOUND, "nobody has it");
    region.places(&[&region.here.agent.to_string()]);
    region.here.sessions.assign(order);
    assert_eq!(ask(&region.here).await.unwrap(), StatusCode::OK);
    assert!(region.here.sessions.registry().end(id, &Ending::new(EndReason::Released, "")));
    let mut phase = region.here.sessions.registry().watch(id).unwrap();
    soon(phase.wait_for(|phase| matches!(phase, Phase::Over(_)))).await.unwrap();
    region.places(&[]);
    for door in [&region.here, &region.there] {
        assert_eq!(ask(door).await.unwrap(), StatusCode::GONE);
    }
}
