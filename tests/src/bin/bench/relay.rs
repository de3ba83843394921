//! The least that can stand between a client and Chrome: a process of its own that takes
//! WebSocket frames apart and puts them together, and does nothing else. No token, no message
//! read, no timer, no other client: what it takes is what the machine takes for any process
//! between two others. Its client has a CDP session of its own, as any has that shares a browser:
//! what Chrome takes for that is no relay's to save.
//!
//! A thread for each direction, which waits for nothing but its next bytes.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::{AsFd, OwnedFd},
    process::{Stdio, exit},
    thread,
};

use anyhow::{Context, Result};
use command_fds::{CommandFdExt, FdMapping};
use harness::{chrome::Piped, process};
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::link::Link;

/// The number under which it has the answers' end of Chrome's pipe. Its listener is its input,
/// the commands' end its output.
const ANSWERS: i32 = 3;
/// What it reads at once: as much as a pipe holds.
const CHUNK: usize = 1 << 20;

/// A relay with its Chrome; killed when dropped.
pub struct Relay {
    child: Child,
    url: String,
    _chrome: Piped,
}

impl Relay {
    /// Starts one, as a process of this program.
    pub fn start(mut chrome: Piped) -> Self {
        let (commands, answers) = chrome.take_pipe();
        let commands = commands.into_blocking_fd().expect("a pipe");
        let answers = answers.into_blocking_fd().expect("a pipe");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let url = format!("ws://{}/", listener.local_addr().expect("an address"));
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        process::lead_a_session(command.arg("--relay")).kill_on_drop(true);
        command.stdin(Stdio::from(OwnedFd::from(listener))).stdout(Stdio::from(commands));
        let answers = FdMapping { parent_fd: answers, child_fd: ANSWERS };
        command.fd_mappings(vec![answers]).expect("a free number");
        Self { child: command.spawn().expect("it starts"), url, _chrome: chrome }
    }

    /// The connection: there can be one, and the relay ends with it.
    pub async fn link(&self) -> Link {
        let mut link = Link::dial(&self.url).await;
        link.keep_apart().await;
        link
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("a running relay")
    }
}

/// What the process does.
pub fn run() -> Result<()> {
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    let commands = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let answers = File::open(format!("/proc/self/fd/{ANSWERS}"))?;
    let (mut client, _) = listener.accept()?;
    client.set_nodelay(true)?;
    upgrade(&mut client)?;
    let to_client = client.try_clone()?;
    thread::spawn(move || {
        let ended = carry_answers(answers, to_client);
        exit(i32::from(ended.is_err()));
    });
    carry_commands(client, commands)
}

/// Answers a client's upgrade.
fn upgrade(client: &mut TcpStream) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head)?;
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    let key = headers.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    let (_, key) = key.context("no upgrade")?;
    let accept = derive_accept_key(key.as_bytes());
    write!(
        client,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    Ok(())
}

/// The header of a client's frame (RFC 6455, section 5.2), whose payload ends with NUL at Chrome.
struct Header {
    bytes: usize,
    opcode: u8,
    payload: u64,
    mask: [u8; 4],
}

impl Header {
    /// `None` while it is not there as a whole.
    fn of(bytes: &[u8]) -> Option<Self> {
        let number = |from: usize, to: usize| {
            let number = bytes.get(from..to)?.iter();
            Some(number.fold(0, |number, byte| number << 8 | u64::from(*byte)))
        };
        let (payload, end) = match bytes.get(1)? & 0x7f {
            126 => (number(2, 4)?, 4),
            127 => (number(2, 10)?, 10),
            short => (u64::from(short), 2),
        };
        let mask = bytes.get(end..end + 4)?.try_into().ok()?;
        Some(Self { bytes: end + 4, opcode: bytes[0] & 0x0f, payload, mask })
    }
}

/// Payloads go on as they come, one write for all that is there.
fn carry_commands(mut client: TcpStream, mut commands: File) -> Result<()> {
    const TEXT: u8 = 1;
    let (mut got, mut out) = (vec![0; CHUNK], Vec::with_capacity(CHUNK));
    let (mut there, mut left, mut mask) = (0, 0, [0; 4]);
    loop {
        match client.read(&mut got[there..])? {
            0 => return Ok(()),
            count => there += count,
        }
        let mut at = 0;
        loop {
            let part = usize::try_from(left)?.min(there - at);
            let begin = out.len();
            out.extend_from_slice(&got[at..at + part]);
            unmask(&mut out[begin..], mask);
            mask.rotate_left(part % 4);
            (at, left) = (at + part, left - part as u64);
            if left > 0 {
                break;
            }
            if part > 0 {
                out.push(0);
            }
            let Some(header) = Header::of(&got[at..there]) else { break };
            if header.opcode != TEXT {
                return Ok(()); // it leaves
            }
            (at, left, mask) = (at + header.bytes, header.payload, header.mask);
        }
        commands.write_all(&out)?;
        out.clear();
        got.copy_within(at..there, 0);
        there -= at;
    }
}

/// Eight bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let twice = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (eights, rest) = payload.as_chunks_mut();
    for eight in eights {
        *eight = (u64::from_ne_bytes(*eight) ^ twice).to_ne_bytes();
    }
    rest.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

/// Each message becomes a frame, one write for all that are there.
#[expect(clippy::cast_possible_truncation, reason = "they are in range")]
fn carry_answers(mut answers: File, mut client: TcpStream) -> Result<()> {
    let (mut got, mut out) = (vec![0; 2 * CHUNK], Vec::with_capacity(CHUNK));
    let (mut there, mut seen) = (0, 0);
    loop {
        if there == got.len() {
            got.resize(2 * there, 0);
        }
        match answers.read(&mut got[there..])? {
            0 => return Ok(()),
            count => there += count,
        }
        let mut at = 0;
        while let Some(length) = memchr::memchr(0, &got[seen..there]) {
            let end = seen + length;
            let message = &got[at..end];
            out.push(0x81);
            match message.len() {
                length @ ..126 => out.push(length as u8),
                length @ ..0x1_0000 => {
                    out.push(126);
                    out.extend_from_slice(&(length as u16).to_be_bytes());
                }
                length => {
                    out.push(127);
                    out.extend_from_slice(&(length as u64).to_be_bytes());
                }
            }
            out.extend_from_slice(message);
            (at, seen) = (end + 1, end + 1);
        }
        client.write_all(&out)?;
        out.clear();
        got.copy_within(at..there, 0);
        (there, seen) = (there - at, there - at);
    }
}
