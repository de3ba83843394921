//! The hub that listens, and the agent that a test plays.

use super::*;

/// A hub that listens.
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    pub(super) stop: CancellationToken,
}

pub(super) async fn listen(app: &TestApp) -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let service = HubServer::new(Service::new(app.app.clone(), stop.clone()));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    let looks = app.app.clone();
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(reconcile::LOOK_EVERY);
        // Fails when the test is over.
        while reconcile::look_for_all(&looks).await.is_ok() {
            tick.tick().await;
        }
    });
    Listening { address, stop }
}

/// An agent in region `local` that the test plays.
pub(super) struct Agent {
    pub(super) id: AgentId,
    pub(super) epoch: u64,
    pub(super) out: mpsc::Sender<FromAgent>,
    pub(super) inbound: Streaming<FromHub>,
}

pub(super) fn hello(id: AgentId) -> Hello {
    Hello {
        protocol_version: proto::PROTOCOL_VERSION,
        agent_id: id.to_string(),
        instance: InstanceId::generate().to_string(),
        join_token: "join".to_owned(),
        region: "local".to_owned(),
        capacity: 2,
        warm: 1,
        data_plane_url: "ws://agent.test".to_owned(),
        browser_version: "Chromium/1".to_owned(),
        sessions: Vec::new(),
        isolation: Vec::new(),
        ..Hello::default()
    }
}

pub(super) fn report(id: SessionId, state: session_report::State) -> SessionReport {
    SessionReport { session_id: id.to_string(), state: Some(state) }
}

impl Agent {
    pub(super) async fn attach(hub: &Listening, hello: &Hello) -> Result<Self, Status> {
        let mut client = HubClient::connect(format!("http://{}", hub.address)).await.unwrap();
        let (out, outgoing) = mpsc::channel(64);
        let id = hello.agent_id.parse().unwrap_or_else(|_| AgentId::generate());
        out.try_send(FromAgent { message: Some(Said::Hello(hello.clone())) }).unwrap();
        let inbound = client.attach(ReceiverStream::new(outgoing)).await?.into_inner();
        let mut agent = Self { id, epoch: 0, out, inbound };
        match agent.hear().await? {
            Message::Welcome(welcome) => agent.epoch = welcome.epoch,
            other => panic!("no welcome but {other:?}"),
        }
        match agent.hear().await? {
            Message::Lease(lease) => assert_eq!((lease.sequence, lease.valid_ms), (0, 10_000)),
            other => panic!("no lease but {other:?}"),
        }
        Ok(agent)
    }

    pub(super) async fn hear_any(&mut self) -> Result<Message, Status> {
        let heard = timeout(PATIENCE, self.inbound.message()).await.expect("the hub is silent");
        Ok(heard?.expect("the hub closed the stream").message.unwrap())
    }

    /// The next message, unless it only says that something is recorded.
    pub(super) async fn hear(&mut self) -> Result<Message, Status> {
        loop {
            match self.hear_any().await? {
                Message::Recorded(_) => (),
                message => return Ok(message),
            }
        }
    }

    /// The next message that says what is recorded.
    pub(super) async fn hear_recorded(&mut self) -> Vec<String> {
        loop {
            if let Message::Recorded(recorded) = self.hear_any().await.unwrap() {
                return recorded.session_ids;
            }
        }
    }

    /// The next message that is no repetition of an assignment.
    pub(super) async fn hear_release(&mut self) -> Release {
        loop {
            match self.hear().await.unwrap() {
                Message::Assign(_) => (),
                Message::Release(release) => return release,
                other => panic!("no release but {other:?}"),
            }
        }
    }

    pub(super) async fn hear_assign(&mut self) -> SessionId {
        match self.hear().await.unwrap() {
            Message::Assign(assign) => assign.session_id.parse().unwrap(),
            other => panic!("no assignment but {other:?}"),
        }
    }

    /// The next assignment, with all that it says.
    pub(super) async fn hear_whole_assign(&mut self) -> Assign {
        match self.hear().await.unwrap() {
            Message::Assign(assign) => assign,
            other => panic!("no assignment but {other:?}"),
        }
    }

    /// The next message that is no repetition of an assignment.
    pub(super) async fn hear_adjust(&mut self) -> Adjust {
        loop {
            match self.hear().await.unwrap() {
                Message::Assign(_) => (),
                Message::Adjust(adjust) => return adjust,
                other => panic!("no adjustment but {other:?}"),
            }
        }
    }

    pub(super) async fn hear_capture(&mut self) -> Capture {
        loop {
            match self.hear().await.unwrap() {
                Message::Assign(_) => (),
                Message::Capture(capture) => return capture,
                other => panic!("no capture but {other:?}"),
            }
        }
    }

    pub(super) async fn hear_acknowledge(&mut self) -> SessionId {
        loop {
            match self.hear().await.unwrap() {
                // The hub's look at the database may have been faster.
                Message::Assign(_) | Message::Release(_) => (),
                Message::Acknowledge(acknowledge) => {
                    return acknowledge.session_id.parse().unwrap();
                }
                other => panic!("no acknowledgement but {other:?}"),
            }
        }
    }

    /// Waits until the hub ends the stream with this code.
    pub(super) async fn hear_end(&mut self) -> Code {
        loop {
            if let Err(status) = self.hear().await {
                return status.code();
            }
        }
    }

    pub(super) fn say(&self, message: Said) {
        self.out.try_send(FromAgent { message: Some(message) }).unwrap();
    }

    /// Ends the agent's side, and waits until the hub has taken in all that was said.
    pub(super) async fn leave(mut self) {
        drop(self.out);
        while let Ok(Some(_)) = timeout(PATIENCE, self.inbound.message()).await.expect("no end") {}
    }

    pub(super) fn running(&self, id: SessionId) {
        self.say(Said::Running(Running { session_id: id.to_string() }));
    }

    pub(super) fn ending(&self, id: SessionId, reason: EndReason) {
        self.say(Said::Ending(ended(id, reason)));
    }

    pub(super) fn ended(&self, id: SessionId, reason: EndReason) {
        self.say(Said::Ended(ended(id, reason)));
    }
}

pub(super) async fn refused(hub: &Listening, hello: Hello) -> Option<Code> {
    Agent::attach(hub, &hello).await.err().map(|status| status.code())
}

pub(super) fn ended(id: SessionId, reason: EndReason) -> Ended {
    Ended { session_id: id.to_string(), reason: reason.to_string(), detail: String::new() }
}

/// Records a session and answers at once.
pub(super) async fn provision(app: &TestApp, key: &str) -> SessionId {
    let created = app.create(key).header("prefer", "respond-async").json(&json!({})).send().await;
    id_of(&created.expect(201))
}

pub(super) async fn becomes(app: &TestApp, id: SessionId, status: SessionStatus) {
    until(|| async { app.session(id).await.status == status }).await;
}

/// A session on this agent, as far as RUNNING.
pub(super) async fn run_session(app: &TestApp, agent: &mut Agent, key: &str) -> SessionId {
    let id = provision(app, key).await;
    while agent.hear_assign().await != id {} // an earlier one may have been repeated
    agent.running(id);
    becomes(app, id, SessionStatus::Running).await;
    id
}

pub(super) async fn regions(app: &TestApp) -> Value {
    app.get("/v1/regions").send().await.expect(200)["items"][0].clone()
}
