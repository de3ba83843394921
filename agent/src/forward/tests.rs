//! Two agents' forwarders against each other, with a browser's place taken by a plain answer.

use std::time::Instant;

use axum::{Router, extract::State, routing::any};
use proto::{agent::Peer as Told, problem::Frame};
use tokio::net::TcpListener;

use super::*;

/// An agent that answers what is forwarded to it.
struct Agent {
    id: AgentId,
    forwarder: Arc<Forwarder>,
    url: String,
}

impl Agent {
    async fn start() -> Self {
        let id = AgentId::generate();
        let forwarder = Forwarder::new(
            id,
            Arc::new(Clock::new()),
            TaskTracker::new(),
            CancellationToken::new(),
        );
        let forwarder = forwarder.unwrap();
        let forwarder = Arc::new(forwarder);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let frame = Frame { base_url: "http://owner.test".into() };
        let routes = Router::new()
            .route("/{*path}", any(answer))
            .with_state(forwarder.clone())
            .layer(axum::middleware::from_fn_with_state(frame, proto::problem::frame));
        tokio::spawn(async { axum::serve(listener, routes).await });
        Self { id, forwarder, url }
    }

    fn told(&self) -> Told {
        Told {
            agent_id: self.id.to_string(),
            data_plane_url: self.url.clone(),
            forwarding_key: self.forwarder.key(),
        }
    }

    fn meet(&self, peers: &[Told]) {
        self.forwarder.meet(agent::Peers { peers: peers.to_vec() });
    }

    /// What a client gets that asks for a session of this owner.
    async fn forwards(&self, owner: AgentId, path: &str) -> Result<(StatusCode, String), Problem> {
        let asked = Asked {
            session: SessionId::generate(),
            owner,
            token: "secret-token",
            path,
            query: "",
            base: "ws://client-sees-this",
        };
        let answer = self.forwarder.forward(asked, &mut Request::new(Body::empty())).await?;
        let status = answer.status();
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        Ok((status, String::from_utf8(body.to_vec()).unwrap()))
    }
}

/// What would be the browser's answer, with all that came in place of the client's own.
async fn answer(
    State(forwarder): State<Arc<Forwarder>>,
    request: Request,
) -> Result<String, Problem> {
    for value in request.headers().values() {
        assert!(!String::from_utf8_lossy(value.as_bytes()).contains("secret-token"));
    }
    assert!(!request.uri().to_string().contains("secret-token"));
    let pass = request.headers().get(FORWARDED).expect("a pass");
    let pass = forwarder.check(pass, request.method(), request.uri()).await?;
    if request.uri().path().ends_with("/json/gone") {
        return Err(Problem::new(Slug::Gone, "the session is over: idle").with_retry_after(7));
    }
    Ok(format!("{}?token={}", pass.base, pass.in_place_of_token))
}

#[tokio::test]
async fn the_token_stays_where_it_was_shown_and_is_in_the_answer() {
    let (here, owner) = (Agent::start().await, Agent::start().await);
    let all = [here.told(), owner.told()];
    here.meet(&all);
    owner.meet(&all);
    let (status, body) = here.forwards(owner.id, "json/version").await.unwrap();
    assert_eq!(
        (status, body.as_str()),
        (StatusCode::OK, "ws://client-sees-this?token=secret-token")
    );
    let over = here.forwards(owner.id, "json/gone").await.unwrap_err();
    assert_eq!((over.slug(), over.detail()), (Slug::Gone, "the session is over: idle"));
}

#[tokio::test]
async fn who_is_not_of_the_region_is_neither_asked_nor_believed() {
    let (here, owner) = (Agent::start().await, Agent::start().await);
    here.meet(&[here.told()]);
    let unknown = here.forwards(owner.id, "json").await.unwrap_err();
    assert_eq!(unknown.slug(), Slug::NotFound);
    // It is known here, but the owner was not told of this one; or of another key of it.
    here.meet(&[owner.told()]);
    let strangers = Agent::start().await;
    for told in [vec![], vec![Told { forwarding_key: strangers.forwarder.key(), ..here.told() }]] {
        owner.meet(&told);
        let refused = here.forwards(owner.id, "json").await.unwrap_err();
        assert_eq!((refused.slug(), refused.status().as_u16()), (Slug::SessionNotReady, 503));
    }
    owner.meet(&[here.told()]);
    assert!(here.forwards(owner.id, "json").await.is_ok());
}

#[tokio::test]
async fn an_agent_that_is_told_of_late_is_waited_for() {
    let (here, owner) = (Agent::start().await, Agent::start().await);
    owner.meet(&[here.told()]);
    let (answer, ()) = tokio::join!(here.forwards(owner.id, "json"), async {
        tokio::task::yield_now().await;
        here.meet(&[owner.told()]);
    });
    assert!(answer.is_ok());
}

#[tokio::test]
async fn what_comes_to_the_wrong_agent_goes_no_further() {
    // All are told of by one address, as that of a load balancer, which leads to a third, or
    // back to where it came from.
    let (here, owner, third) = (Agent::start().await, Agent::start().await, Agent::start().await);
    third.meet(&[here.told(), owner.told()]);
    owner.meet(&[here.told(), third.told()]);
    for wrong in [&third, &here] {
        here.meet(&[Told { data_plane_url: wrong.url.clone(), ..owner.told() }]);
        let lost = here.forwards(owner.id, "json").await.unwrap_err();
        assert_eq!(lost.status().as_u16(), 503);
        assert!(lost.detail().contains("wrong agent"), "{}", lost.detail());
    }
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_told_of_soon() {
    let (here, owner) = (Agent::start().await, Agent::start().await);
    // Nobody listens there, and from there nobody answers (RFC 5737).
    for url in ["ws://127.0.0.1:1", "ws://192.0.2.1:9"] {
        here.meet(&[Told { data_plane_url: url.to_owned(), ..owner.told() }]);
        let begun = Instant::now();
        let away = here.forwards(owner.id, "json").await.unwrap_err();
        assert_eq!((away.slug(), away.status().as_u16()), (Slug::SessionNotReady, 503), "{url}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{url}: {:?}", begun.elapsed());
    }
}
