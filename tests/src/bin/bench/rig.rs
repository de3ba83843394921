//! The sides that are compared: each with one browser of the same binary and flags, all running
//! at once, so that they can take turns.

use std::{ffi::OsString, path::PathBuf};

use harness::{
    Chrome, Server, Session,
    chrome::Piped,
    fleet::{agent_of, free_port, small_control_plane},
    server::Plan,
};
use serde_json::{Value, json};

use crate::{Options, link::Link, peer::Peer, relay::Relay};

/// How many times less than browserless we are to add to Chrome's own time.
pub const LESS_THAN_PEER: f64 = 1.5;

/// Who is between the client and Chrome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Nobody: Chrome's own WebSocket.
    Direct,
    /// Not even a WebSocket: Chrome's own pipe, which is the limit.
    Pipe,
    /// What does nothing but frames: the limit of who is between them.
    Relay,
    /// A connect URL, dialled at the agent that has the session.
    Ventus,
    /// A connect URL, dialled at another agent, which forwards.
    Forwarded,
    /// browserless.
    Peer,
}

impl Side {
    pub const ALL: [Self; 6] =
        [Self::Direct, Self::Pipe, Self::Relay, Self::Ventus, Self::Forwarded, Self::Peer];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Pipe => "pipe",
            Self::Relay => "relay",
            Self::Ventus => "ventus",
            Self::Forwarded => "forwarded",
            Self::Peer => "browserless",
        }
    }
}

/// What runs on the sides.
pub struct Rig {
    server: Server,
    session: Session,
    fleet: Fleet,
    chrome: Chrome,
    piped: Piped,
    relay: Relay,
    /// Or why it is left out.
    pub peer: Result<Peer, String>,
}

/// A session that outlives any section, whether a client is there or not.
pub fn lasting() -> Value {
    json!({ "timeout_seconds": 86_400, "keep_alive_seconds": 3_600 })
}

/// Which peer there was, or why there was none.
pub fn peer_note(peer: &Result<Peer, String>) -> String {
    match peer {
        Ok(_) => format!("browserless is {}.", Peer::versions()),
        Err(why) => {
            let why: Vec<_> = why.lines().take(2).collect();
            format!("browserless was left out: {}.", why.join(": "))
        }
    }
}

/// Two agents of a region and their control plane, with one session.
pub struct Fleet {
    control: Server,
    /// Runs the session.
    pub owner: Server,
    /// Forwards to it.
    pub other: Server,
    pub session: Session,
}

impl Rig {
    pub async fn start(options: &Options) -> Self {
        let server = options.browser(Server::up().capacity(1, 0)).start().await;
        let session = server.api.create(lasting()).await;
        let command = Chrome::command_of(server.data()).await;
        let (program, flags) = &command;
        let fleet = Fleet::start(|plan| options.browser(plan)).await;
        let chrome = Chrome::start(program, flags.clone()).await;
        let piped = Piped::start(program, flags.clone());
        let relay = Relay::start(Piped::start(program, flags.clone()));
        let peer = peer(options, &command).await;
        Self { server, session, fleet, chrome, piped, relay, peer }
    }

    /// A connection with a page on every side. Those over a pipe can be had once.
    pub async fn links(&mut self) -> Vec<(Side, Link)> {
        let mut links = vec![(Side::Direct, Link::dial(&self.chrome.url).await)];
        links.push((Side::Pipe, Link::over(&mut self.piped)));
        links.push((Side::Relay, self.relay.link().await));
        links.push((Side::Ventus, Link::dial(self.session.connect_url()).await));
        links.push((Side::Forwarded, Link::dial(&self.fleet.elsewhere()).await));
        if let Ok(peer) = &self.peer {
            links.push((Side::Peer, Link::dial(&peer.url()).await));
        }
        for (_, link) in &mut links {
            link.open_page().await;
        }
        links
    }

    /// While this connection lasts, browserless keeps its browser.
    pub async fn hold_peer(&self) -> Option<Link> {
        let peer = self.peer.as_ref().ok()?;
        Some(Link::dial(&peer.url()).await)
    }

    /// Where clients reach the browser of a side that runs already. There is no URL of the pipe, and the
    /// relay's is for one connection.
    pub async fn urls(&self) -> Vec<(Side, String)> {
        let mut urls = vec![
            (Side::Direct, self.chrome.url.clone()),
            (Side::Ventus, self.session.connect_url().to_owned()),
            (Side::Forwarded, self.fleet.elsewhere()),
        ];
        if let Ok(peer) = &self.peer {
            urls.push((Side::Peer, peer.running().await));
        }
        urls
    }

    /// Ends all of it.
    ///
    /// # Panics
    ///
    /// When something is left.
    pub async fn stop(self) {
        drop(self.chrome);
        drop(self.piped);
        drop(self.relay);
        if let Ok(peer) = self.peer {
            peer.stop().await;
        }
        self.server.api.release(self.session.id()).await;
        self.server.stop().await;
        self.fleet.stop().await;
    }
}

/// browserless, if it can be had.
pub async fn peer(
    options: &Options,
    (program, flags): &(PathBuf, Vec<OsString>),
) -> Result<Peer, String> {
    if options.no_peer {
        return Err("--no-peer was given".into());
    }
    Peer::start(program, flags).await.map_err(|error| format!("{error:#}"))
}

impl Fleet {
    pub async fn start(change: impl Fn(Plan) -> Plan) -> Self {
        let hub = free_port();
        let control = small_control_plane(hub).start().await;
        let plan = || change(agent_of(hub, 1));
        let owner = plan().start().await;
        let session = control.api.create(lasting()).await;
        // It comes later, so it is another one that has the session.
        let other = plan().start().await;
        Self { control, owner, other, session }
    }

    /// The session's connect URL at the agent that does not run it.
    pub fn elsewhere(&self) -> String {
        let host = |agent: &Server| agent.api.base_url.trim_start_matches("http://").to_owned();
        self.session.connect_url().replace(&host(&self.owner), &host(&self.other))
    }

    pub async fn stop(self) {
        self.control.api.release(self.session.id()).await;
        self.owner.stop_process().await;
        self.other.stop_process().await;
        self.control.stop().await;
    }
}
