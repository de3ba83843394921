//! A hub that a test plays: it sees every stream that agents open, and answers as it likes.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::stream;

use proto::{
    agent::{
        Acknowledge, Adjust, Assign, Capture, Captured, FileChunk, FileHeader, FileOrder,
        FileRequest, FromAgent, FromHub, Hello, KeepFile, Kept, Lease, LocateRequest, Located,
        Placed, Release, SigningKeys, Welcome,
        from_agent::Message as Said,
        from_hub::Message,
        hub_server::{Hub, HubServer},
        keep_file::Part,
    },
    id::{SessionId, WorkspaceId},
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use crate::sessions::testing::soon;

/// Where the hub listens, and the streams that agents open.
pub(crate) async fn hub() -> (String, mpsc::UnboundedReceiver<Stream>) {
    let (url, streams, _) = hub_with_files().await;
    (url, streams)
}

/// The same, and the files that it has and gets.
pub(crate) async fn hub_with_files() -> (String, mpsc::UnboundedReceiver<Stream>, Arc<Files>) {
    let files = Arc::<Files>::default();
    let (service, streams) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder().add_service(HubServer::new(Service(service, files.clone())));
    tokio::spawn(server.serve_with_incoming(incoming));
    (url, streams, files)
}

/// Hands every stream to the test.
struct Service(mpsc::UnboundedSender<Stream>, Arc<Files>);

/// What the hub has of files.
#[derive(Default)]
pub(crate) struct Files {
    /// Uploads that agents can fetch, by their names.
    pub uploads: Mutex<HashMap<String, Vec<u8>>>,
    /// Downloads that agents brought.
    pub kept: Mutex<Vec<(FileHeader, Vec<u8>)>>,
    /// What those who bring a download are told instead.
    pub refusals: Mutex<Vec<Status>>,
    /// Where sessions are: the first answer comes first, and the last one again and again.
    pub places: Mutex<Vec<String>>,
}

/// An agent's stream, as its hub sees it.
pub(crate) struct Stream {
    inbound: Streaming<FromAgent>,
    pub out: mpsc::Sender<Result<FromHub, Status>>,
}

#[tonic::async_trait]
impl Hub for Service {
    type AttachStream = ReceiverStream<Result<FromHub, Status>>;
    type FetchStream = Pin<Box<dyn futures_util::Stream<Item = Result<FileChunk, Status>> + Send>>;

    async fn fetch(
        &self,
        request: Request<FileRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let uploads = self.1.uploads.lock().unwrap();
        let content = uploads.get(&request.get_ref().name);
        let content = content.ok_or_else(|| Status::not_found("no such file"))?;
        let chunks: Vec<_> =
            content.chunks(1000).map(|data| Ok(FileChunk { data: data.to_vec() })).collect();
        Ok(Response::new(Box::pin(stream::iter(chunks))))
    }

    async fn locate(&self, _: Request<LocateRequest>) -> Result<Response<Located>, Status> {
        let mut places = self.1.places.lock().unwrap();
        let place = if places.len() > 1 { Some(places.remove(0)) } else { places.first().cloned() };
        let agent_id = place.ok_or_else(|| Status::not_found("no such session"))?;
        Ok(Response::new(Located { agent_id }))
    }

    async fn keep(&self, request: Request<Streaming<KeepFile>>) -> Result<Response<Kept>, Status> {
        if let Some(refusal) = self.1.refusals.lock().unwrap().pop() {
            return Err(refusal);
        }
        let mut inbound = request.into_inner();
        let (mut header, mut content) = (FileHeader::default(), Vec::new());
        while let Some(part) = inbound.message().await? {
            match part.part.unwrap() {
                Part::Header(first) => header = first,
                Part::Data(data) => content.extend(data),
            }
        }
        self.1.kept.lock().unwrap().push((header, content));
        Ok(Response::new(Kept {}))
    }

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

    pub fn refuse(&self, code: Code) {
        self.out.try_send(Err(Status::new(code, "refused"))).unwrap();
    }

    /// The database is away.
    pub fn refuse_as_held(&self, held_ms: &'static str) {
        let mut status = Status::unavailable("the database failed");
        status.metadata_mut().insert(proto::HELD_MS, held_ms.parse().unwrap());
        self.out.try_send(Err(status)).unwrap();
    }

    pub fn welcome(&self, heartbeat_ms: u32, valid_ms: u32) {
        let signing_keys = Some(SigningKeys { jwks: r#"{"keys":[]}"#.to_owned() });
        let protocol_version = proto::PROTOCOL_VERSION;
        let welcome = Welcome { epoch: 1, heartbeat_ms, signing_keys, protocol_version };
        self.say(Message::Welcome(welcome));
        self.say(Message::Lease(Lease { valid_ms, ..Lease::default() }));
    }

    /// A welcome by a hub that speaks another version.
    pub fn welcome_of_version(&self, protocol_version: u32) {
        self.say(Message::Welcome(Welcome {
            epoch: 1,
            heartbeat_ms: 30_000,
            signing_keys: None,
            protocol_version,
        }));
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

    pub fn file(&self, id: SessionId, name: &str, size_bytes: u64, remove: bool) {
        let (order_id, session_id) = ("order".to_owned(), id.to_string());
        let name = name.to_owned();
        self.say(Message::File(FileOrder { order_id, session_id, name, size_bytes, remove }));
    }

    pub async fn said_placed(&mut self) -> Placed {
        match self.news().await {
            Some(Said::Placed(placed)) => placed,
            other => panic!("not placed but {other:?}"),
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

    pub async fn said_ending(&mut self) -> (SessionId, String) {
        match self.news().await {
            Some(Said::Ending(ended)) => (ended.session_id.parse().unwrap(), ended.reason),
            other => panic!("not ending but {other:?}"),
        }
    }

    pub async fn said_ended(&mut self) -> (SessionId, String) {
        match self.news().await {
            Some(Said::Ended(ended)) => (ended.session_id.parse().unwrap(), ended.reason),
            other => panic!("not ended but {other:?}"),
        }
    }
}
