//! The server's side of a WebSocket (RFC 6455), cut to what the data path needs: whole
//! messages in, unmasked in place; messages out of shared buffers, many in one write.
//!
//! The header codec is tungstenite's. Nothing is compressed, and nothing is allocated for
//! a length that was only announced.

use std::io::Cursor;

use super::slack::Slack;
use bytes::{Bytes, BytesMut};
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{CloseCode, Control, Data, OpCode},
};

/// Longest message that is taken from a client, in bytes: as much as Chrome's own socket.
pub const MESSAGE_MAX: usize = 100 << 20;

/// Most frames that one message may come in.
const FRAGMENTS_MAX: usize = 65_536;

/// Longest control frame: RFC 6455, section 5.5.
const CONTROL_MAX: u64 = 125;

/// What a client sent.
#[derive(Debug)]
pub(super) enum Incoming {
    Text(BytesMut),
    Binary,
    Ping(Bytes),
    Pong,
    /// The code that the client closed with, if it gave one.
    Close(Option<u16>),
}

/// How a client broke the protocol, and the code it is closed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("malformed frame")]
    Protocol,
    #[error("message over the limit")]
    TooBig,
}

impl Violation {
    pub fn code(self) -> CloseCode {
        match self {
            Self::Protocol => CloseCode::Protocol,
            Self::TooBig => CloseCode::Size,
        }
    }
}

/// Takes a client's bytes apart.
#[derive(Default)]
pub(super) struct Frames {
    /// What came and was not taken yet: the socket is read into it.
    pub buffer: BytesMut,
    /// The header of the frame at hand, and the length of its payload.
    header: Option<(FrameHeader, usize)>,
    /// A message that came in several frames, as far as it is there.
    message: Option<(Data, BytesMut)>,
    fragments: usize,
    slack: Slack,
}

impl Frames {
    /// Begins with bytes that came before the socket was taken over.
    pub fn new(early: Bytes) -> Self {
        Self { buffer: early.into(), ..Self::default() }
    }

    /// The next message in the buffer, or `None` until more has come.
    pub fn next(&mut self) -> Result<Option<Incoming>, Violation> {
        loop {
            if self.header.is_none() && !self.read_header()? {
                return Ok(None);
            }
            let Some((header, length)) =
                self.header.take_if(|(_, length)| self.buffer.len() >= *length)
            else {
                return Ok(None);
            };
            let mut payload = self.buffer.split_to(length);
            self.slack.held(length);
            if let Some(mask) = header.mask {
                unmask(&mut payload, mask);
            }
            match header.opcode {
                OpCode::Data(data) => {
                    if let Some(message) = self.data(data, header.is_final, payload)? {
                        return Ok(Some(message));
                    }
                }
                OpCode::Control(control) => return control_frame(control, payload).map(Some),
            }
        }
    }

    /// Bytes of messages that are not whole yet.
    pub fn held(&self) -> usize {
        self.buffer.len() + self.message.as_ref().map_or(0, |(_, message)| message.len())
    }

    /// Makes room for so many bytes, after giving back what is not needed any more.
    pub fn reserve(&mut self, bytes: usize) {
        self.slack.trim(&mut self.buffer);
        self.buffer.reserve(bytes);
    }

    fn read_header(&mut self) -> Result<bool, Violation> {
        let mut cursor = Cursor::new(&self.buffer[..]);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Violation::Protocol)?;
        let Some((header, length)) = parsed else { return Ok(false) };
        let size = usize::try_from(cursor.position()).map_err(|_| Violation::Protocol)?;
        // A client masks, and no extension was negotiated.
        if header.mask.is_none() || header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Violation::Protocol);
        }
        match header.opcode {
            OpCode::Control(_) if length > CONTROL_MAX || !header.is_final => {
                return Err(Violation::Protocol);
            }
            _ => {}
        }
        let so_far = self.message.as_ref().map_or(0, |(_, message)| message.len()) as u64;
        if length.saturating_add(so_far) > MESSAGE_MAX as u64 {
            return Err(Violation::TooBig);
        }
        let _ = self.buffer.split_to(size);
        self.header = Some((header, usize::try_from(length).map_err(|_| Violation::TooBig)?));
        Ok(true)
    }

    fn data(
        &mut self,
        data: Data,
        last: bool,
        payload: BytesMut,
    ) -> Result<Option<Incoming>, Violation> {
        let (kind, message) = match (data, self.message.take()) {
            (Data::Continue, Some((kind, mut message))) => {
                self.fragments += 1;
                if self.fragments > FRAGMENTS_MAX {
                    return Err(Violation::TooBig);
                }
                message.unsplit(payload);
                (kind, message)
            }
            (Data::Text | Data::Binary, None) => {
                self.fragments = 1;
                (data, payload)
            }
            _ => return Err(Violation::Protocol),
        };
        if !last {
            self.message = Some((kind, message));
            return Ok(None);
        }
        Ok(Some(if kind == Data::Text { Incoming::Text(message) } else { Incoming::Binary }))
    }
}

fn control_frame(control: Control, payload: BytesMut) -> Result<Incoming, Violation> {
    match control {
        Control::Ping => Ok(Incoming::Ping(payload.freeze())),
        Control::Pong => Ok(Incoming::Pong),
        Control::Close => match payload[..] {
            [] => Ok(Incoming::Close(None)),
            [_] => Err(Violation::Protocol),
            [high, low, ..] => Ok(Incoming::Close(Some(u16::from_be_bytes([high, low])))),
        },
        Control::Reserved(_) => Err(Violation::Protocol),
    }
}

/// Takes the mask off, eight bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = payload.chunks_exact_mut(8);
    for word in &mut words {
        if let Ok(bytes) = <[u8; 8]>::try_from(&*word) {
            word.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
        }
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// One frame on its way to a client.
pub(super) struct Frame {
    head: [u8; 10],
    head_length: usize,
    pub payload: Bytes,
}

impl Frame {
    fn new(opcode: OpCode, payload: Bytes) -> Self {
        let mut head = [0; 10];
        let header = FrameHeader { opcode, ..FrameHeader::default() };
        let mut cursor = &mut head[..];
        // Ten bytes hold the longest header of a frame without a mask.
        let _ = header.format(payload.len() as u64, &mut cursor);
        let head_length = 10 - cursor.len();
        Self { head, head_length, payload }
    }

    pub fn text(payload: impl Into<Bytes>) -> Self {
        Self::new(OpCode::Data(Data::Text), payload.into())
    }

    /// Whether it carries a message.
    pub fn is_text(&self) -> bool {
        self.opcode() == u8::from(OpCode::Data(Data::Text))
    }

    pub fn ping() -> Self {
        Self::new(OpCode::Control(Control::Ping), Bytes::new())
    }

    pub fn pong(payload: Bytes) -> Self {
        Self::new(OpCode::Control(Control::Pong), payload)
    }

    pub fn close(code: Option<CloseCode>, reason: &str) -> Self {
        let mut payload = Vec::new();
        if let Some(code) = code {
            payload.extend(u16::from(code).to_be_bytes());
            payload.extend(reason.bytes().take(123));
        }
        Self::new(OpCode::Control(Control::Close), payload.into())
    }

    /// Whether it answers a ping.
    pub fn is_pong(&self) -> bool {
        self.opcode() == u8::from(OpCode::Control(Control::Pong))
    }

    fn opcode(&self) -> u8 {
        const OPCODE: u8 = 0x0f; // RFC 6455, section 5.2
        self.head[0] & OPCODE
    }

    pub fn head(&self) -> &[u8] {
        &self.head[..self.head_length]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A client's frame, masked.
    fn frame(opcode: OpCode, last: bool, payload: &[u8]) -> Vec<u8> {
        let mask = [7, 11, 13, 17];
        let header =
            FrameHeader { is_final: last, opcode, mask: Some(mask), ..FrameHeader::default() };
        let mut bytes = Vec::new();
        header.format(payload.len() as u64, &mut bytes).unwrap();
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    fn all(frames: &mut Frames) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(message) = frames.next().unwrap() {
            seen.push(format!("{message:?}"));
        }
        seen
    }

    const TEXT: OpCode = OpCode::Data(Data::Text);
    const CONTINUE: OpCode = OpCode::Data(Data::Continue);

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..8),
            cut in 1usize..50,
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(|m| frame(TEXT, true, m)).collect();
            let mut frames = Frames::default();
            let mut out = Vec::new();
            for piece in bytes.chunks(cut) {
                frames.buffer.extend_from_slice(piece);
                while let Some(message) = frames.next().unwrap() {
                    let Incoming::Text(text) = message else { panic!("{message:?}") };
                    out.push(text.to_vec());
                }
            }
            prop_assert_eq!(out, messages);
        }
    }

    #[test]
    fn fragments_are_joined_around_control_frames() {
        let mut frames = Frames::default();
        frames.buffer.extend(frame(TEXT, false, b"ab"));
        frames.buffer.extend(frame(OpCode::Control(Control::Ping), true, b"?"));
        frames.buffer.extend(frame(CONTINUE, false, b""));
        frames.buffer.extend(frame(CONTINUE, true, b"cd"));
        assert_eq!(all(&mut frames), ["Ping(b\"?\")", "Text(b\"abcd\")"]);
    }

    #[test]
    fn what_breaks_the_protocol_is_refused() {
        let unmasked = vec![0x81, 1, b'x'];
        let reserved_bit = vec![0xc1, 0x80, 1, 2, 3, 4];
        let long_ping = frame(OpCode::Control(Control::Ping), true, &[0; 126]);
        let split_ping = frame(OpCode::Control(Control::Ping), false, b"");
        let orphan = frame(CONTINUE, true, b"x");
        let interrupted = [frame(TEXT, false, b"x"), frame(TEXT, true, b"y")].concat();
        for bytes in [unmasked, reserved_bit, long_ping, split_ping, orphan, interrupted] {
            let mut frames = Frames::default();
            frames.buffer.extend_from_slice(&bytes);
            assert_eq!(frames.next().unwrap_err(), Violation::Protocol, "{bytes:?}");
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_at_its_header() {
        let mut frames = Frames::default();
        let header = FrameHeader { opcode: TEXT, mask: Some([0; 4]), ..FrameHeader::default() };
        let mut bytes = Vec::new();
        header.format(MESSAGE_MAX as u64 + 1, &mut bytes).unwrap();
        frames.buffer.extend_from_slice(&bytes);
        assert_eq!(frames.next().unwrap_err(), Violation::TooBig);
    }
}
