//! A hub that a test plays: it sees every stream that agents open, and answers as it likes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::{
    agent::{
        Acknowledge, Adjust, Assign, Capture, Captured, FromAgent, FromHub, Hello, Lease, Release,
        SigningKeys, Welcome,
        from_agent::Message as Said,
        from_hub::Message,
        hub_server::{Hub, HubServer},
    },
    id::{SessionId, WorkspaceId},
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use crate::sessions::testing::soon;

/// Where the hub listens, and the streams that agents open.
pub(crate) async fn hub() -> (String, mpsc::UnboundedReceiver<Stream>) {
    let (service, streams) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder().add_service(HubServer::new(Service(service)));
    tokio::spawn(server.serve_with_incoming(incoming));
    (url, streams)
}

/// Hands every stream to the test.
struct Service(mpsc::UnboundedSender<Stream>);

/// An agent's stream, as its hub sees it.
pub(crate) struct Stream {
    inbound: Streaming<FromAgent>,
    pub out: mpsc::Sender<Result<FromHub, Status>>,
}

#[tonic::async_trait]
impl Hub for Service {
    type AttachStream = ReceiverStream<Result<FromHub, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<FromAgent>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (out, outgoing) = mpsc::channel(64);
        self.0.send(Stream { inbound: request.into_inner(), out }).unwrap();
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

impl Stream {
    pub async fn said(&mut self) -> Option<Said> {
        soon(self.inbound.message()).await.ok()??.message
    }

    /// The next message that is not about the lease or usage.
    pub async fn news(&mut self) -> Option<Said> {
        loop {
            match self.said().await {
                Some(Said::Heartbeat(_) | Said::Usage(_)) => (),
                other => return other,
            }
        }
    }

    pub async fn hello(&mut self) -> Hello {
        match self.said().await {
            Some(Said::Hello(hello)) => hello,
            other => panic!("no hello but {other:?}"),
        }
    }

    pub fn say(&self, message: Message) {
        self.out.try_send(Ok(FromHub { message: Some(message) })).unwrap();
    }

    pub fn welcome(&self, heartbeat_ms: u32, valid_ms: u32) {
        let signing_keys = Some(SigningKeys { jwks: r#"{"keys":[]}"#.to_owned() });
        self.say(Message::Welcome(Welcome { epoch: 1, heartbeat_ms, signing_keys }));
        self.say(Message::Lease(Lease { sequence: 0, valid_ms }));
    }

    pub fn assign(&self) -> SessionId {
        let id = SessionId::generate();
        let expires = SystemTime::now() + Duration::from_secs(60);
        let expires = expires.duration_since(UNIX_EPOCH).unwrap();
        self.say(Message::Assign(Assign {
            session_id: id.to_string(),
            workspace_id: WorkspaceId::generate().to_string(),
            expires_ms: i64::try_from(expires.as_millis()).unwrap(),
            viewport_width: 1280,
            viewport_height: 720,
            ..Assign::default()
        }));
        id
    }

    /// Moves a session's deadline to now.
    pub fn adjust_to_now(&self, id: SessionId) {
        let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        self.say(Message::Adjust(Adjust {
            session_id: id.to_string(),
            expires_ms: i64::try_from(expires.as_millis()).unwrap(),
            keepalives: 1,
        }));
    }

    pub fn capture(&self, capture_id: &str, id: SessionId) {
        let (capture_id, session_id) = (capture_id.to_owned(), id.to_string());
        self.say(Message::Capture(Capture { capture_id, session_id }));
    }

    pub async fn said_captured(&mut self) -> Captured {
        match self.news().await {
            Some(Said::Captured(captured)) => captured,
            other => panic!("not captured but {other:?}"),
        }
    }

    pub fn acknowledge(&self, id: SessionId) {
        self.say(Message::Acknowledge(Acknowledge { session_id: id.to_string() }));
    }

    pub fn release(&self, id: SessionId, reason: &str) {
        let session_id = id.to_string();
        self.say(Message::Release(Release { session_id, reason: reason.to_owned() }));
    }

    pub async fn said_running(&mut self) -> SessionId {
        match self.news().await {
            Some(Said::Running(running)) => running.session_id.parse().unwrap(),
            other => panic!("not running but {other:?}"),
        }
    }

    pub async fn said_ended(&mut self) -> (SessionId, String) {
        match self.news().await {
            Some(Said::Ended(ended)) => (ended.session_id.parse().unwrap(), ended.reason),
            other => panic!("not ended but {other:?}"),
        }
    }
}
