//! A multiplexer between a client and a browser that both are played: everything happens in one
//! thread, so that always the same happens.

use std::{
    io::{PipeReader, PipeWriter, Read, Write, pipe},
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use costs::Round;
use rustix::fs::{OFlags, fcntl_setfl};
use tokio::{
    net::unix::pipe::{Receiver, Sender},
    runtime::{Builder, Runtime},
    task::yield_now,
};
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Data, OpCode},
};

use super::super::{Backlogs, Endpoint, Guard, Mux};

/// The client's session on the browser.
pub(super) const ROOT: &str = "0123456789ABCDEF0123456789ABCDEF";

/// Its session on a page.
pub(super) const PAGE: &str = "FEDCBA9876543210FEDCBA9876543210";

/// How often the runtime looks for what is ready and carries it out. A message that needs more
/// goes by more tasks than before.
const TURNS: u32 = 2;

/// How long the kernel may take to bring a message from one socket to the other.
const LIMIT: Duration = Duration::from_secs(60);

/// On a busy machine all this takes so long that the client would be pinged, and that counted.
const NO_PINGS: Duration = Duration::from_hours(24);

pub(super) struct Rig {
    runtime: Runtime,
    client: TcpStream,
    /// The agent's end of it, to see what has come.
    at_agent: TcpStream,
    commands: PipeReader,
    says: PipeWriter,
}

impl Rig {
    pub fn new(guard: Guard) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (commands, to_chrome) = pipe().unwrap();
        let (from_chrome, says) = pipe().unwrap();
        fcntl_setfl(&commands, OFlags::NONBLOCK).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nodelay(true).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        let (agent, _) = listener.accept().unwrap();
        agent.set_nonblocking(true).unwrap();
        let at_agent = agent.try_clone().unwrap();
        let mut rig = Self { runtime, client, at_agent, commands, says };

        let joining = {
            let _inside = rig.runtime.enter();
            let from_chrome = Receiver::from_owned_fd(OwnedFd::from(from_chrome)).unwrap();
            let to_chrome = Sender::from_owned_fd(OwnedFd::from(to_chrome)).unwrap();
            let mux = Mux::start(from_chrome, to_chrome, guard, Backlogs::default());
            tokio::spawn(async move { mux.join(&Endpoint::Browser).await })
        };
        rig.turn();
        let asked = rig.commanded();
        let asked: serde_json::Value = serde_json::from_slice(&asked[..asked.len() - 1]).unwrap();
        assert_eq!(asked["method"], "Target.attachToBrowserTarget");
        rig.say(&format!(r#"{{"id":{},"result":{{"sessionId":"{ROOT}"}}}}"#, asked["id"]));
        rig.runtime.block_on(async {
            let mut seat = joining.await.unwrap().unwrap();
            seat.ping_every = NO_PINGS;
            let stream = tokio::net::TcpStream::from_std(agent).unwrap();
            tokio::spawn(seat.serve(stream, Bytes::new()));
        });
        let info = r#"{"targetId":"P","type":"page","title":"","url":"about:blank"}"#;
        let params = format!(r#"{{"sessionId":"{PAGE}","targetInfo":{info}}}"#);
        let attached = format!(r#"{{"method":"Target.attachedToTarget","params":{params}}}"#);
        rig.say(&super::of(ROOT, &attached));
        rig.turn();
        rig.heard(&[attached]);
        rig
    }

    /// The client sends these commands, and Chrome gets those.
    pub fn client_sends(&mut self, round: &mut Round, sent: &[String], arrives: &[String]) {
        let frames: Vec<u8> =
            sent.iter().flat_map(|message| frame(Some([7, 11, 13, 17]), message)).collect();
        self.client.write_all(&frames).unwrap();
        self.until_there(frames.len());
        round.counted(|| self.turn());
        assert_eq!(self.commanded(), (arrives.join("\0") + "\0").into_bytes());
    }

    /// Chrome says this, and the client gets that.
    pub fn chrome_says(&mut self, round: &mut Round, said: &[String], arrives: &[String]) {
        self.say(&said.join("\0"));
        round.counted(|| self.turn());
        self.heard(arrives);
    }

    fn turn(&self) {
        self.runtime.block_on(async {
            for _ in 0..TURNS {
                yield_now().await;
            }
        });
    }

    /// Waits until the kernel has brought so many bytes to the agent's socket.
    fn until_there(&self, count: usize) {
        let (mut peeked, deadline) = (vec![0; count], Instant::now() + LIMIT);
        while self.at_agent.peek(&mut peeked).unwrap_or(0) < count {
            assert!(Instant::now() < deadline, "the kernel does not bring it");
            thread::yield_now();
        }
    }

    /// What has come through Chrome's pipe.
    fn commanded(&mut self) -> Vec<u8> {
        let mut commands = vec![0; 1 << 16];
        let count = self.commands.read(&mut commands).expect("nothing within these turns");
        commands.truncate(count);
        commands
    }

    fn say(&mut self, messages: &str) {
        self.says.write_all(format!("{messages}\0").as_bytes()).unwrap();
    }

    /// Reads these messages at the client.
    fn heard(&mut self, messages: &[String]) {
        let frames: Vec<u8> = messages.iter().flat_map(|message| frame(None, message)).collect();
        let mut bytes = vec![0; frames.len()];
        self.client.read_exact(&mut bytes).expect("not all within these turns");
        assert!(bytes == frames, "{}", String::from_utf8_lossy(&bytes));
    }
}

/// A message as it is on the wire; a client masks it.
fn frame(mask: Option<[u8; 4]>, message: &str) -> Vec<u8> {
    let header = FrameHeader { opcode: OpCode::Data(Data::Text), mask, ..FrameHeader::default() };
    let mut bytes = Vec::new();
    header.format(message.len() as u64, &mut bytes).unwrap();
    let mask = mask.unwrap_or_default();
    bytes.extend(message.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}
