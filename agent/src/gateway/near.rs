//! The browser's end of one connection: counted, and read ahead where its first words matter.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes},
    net::TcpStream,
    time::{Sleep, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    bucket::Bucket,
    route::Far,
    socks::{self, Reply, Target},
};
use crate::{latest::Latest, metrics::COUNTS};

/// What one direction of a connection holds at most, in bytes.
const BUFFER: usize = 16 << 10;

/// How long the other side may go on when the browser has left. Chrome never closes only its
/// own half of a connection: what still comes, nobody reads.
const FAREWELL: Duration = Duration::from_secs(10);

/// How much of a first request is read to judge it, in bytes; a longer one is not a WebSocket's.
const HEAD_MAX: usize = 64 << 10;

/// The longest method, in bytes. Those that are registered have up to 16.
const METHOD_MAX: usize = 32;

/// What passed between a browser and the network, and where that was. Clones share it.
#[derive(Clone, Default, Debug)]
pub struct Meter(Arc<Metered>);

#[derive(Default, Debug)]
struct Metered {
    bytes: AtomicU64,
    places: Mutex<Latest>,
    /// Holds back what passes too fast.
    bucket: Option<Bucket>,
}

impl Meter {
    /// Lets so many bytes a second pass; `None` is no bound.
    pub(super) fn new(bandwidth: Option<u64>) -> Self {
        let bucket = bandwidth.map(|rate| Bucket::new(rate, Instant::now()));
        Self(Arc::new(Metered { bucket, ..Metered::default() }))
    }

    /// The running total in bytes, both directions together.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Relaxed)
    }

    /// The latest places that the browser asked for, `host:port` each.
    pub(crate) fn places(&self) -> Vec<String> {
        let places = self.0.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.iter().cloned().collect()
    }

    pub(super) fn asked_for(&self, target: &Target) {
        let mut places = self.0.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.note(target.to_string());
    }

    /// When more may pass; `None`: now.
    fn next(&self) -> Option<Instant> {
        self.0.bucket.as_ref()?.next(Instant::now())
    }

    /// The browser sent so much to the network.
    fn sent(&self, bytes: usize) {
        COUNTS.egress.bytes_out.inc_by(bytes as u64);
        self.add(bytes);
    }

    /// The browser got so much from it.
    fn got(&self, bytes: usize) {
        COUNTS.egress.bytes_in.inc_by(bytes as u64);
        self.add(bytes);
    }

    fn add(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Relaxed);
        if let Some(bucket) = &self.0.bucket {
            bucket.take(bytes, Instant::now());
        }
    }
}

/// What a browser says first on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opening {
    /// A request of HTTP/1, as a plain `http` page makes it.
    Request,
    /// Anything else, among that the upgrade to a WebSocket: bytes to be carried.
    Other,
}

impl Opening {
    /// `None`: it takes more to tell.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let method = bytes.iter().take(METHOD_MAX + 1).position(|byte| !is_token(*byte));
        match method {
            Some(1..) if bytes[method?] == b' ' => {}
            None if bytes.len() <= METHOD_MAX => return None,
            _ => return Some(Self::Other),
        }
        let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
            return (bytes.len() >= HEAD_MAX).then_some(Self::Request);
        };
        let mut lines = bytes[..end].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        let is_http = lines.next().is_some_and(|line| line.ends_with(b" HTTP/1.1"));
        let upgrade =
            |line: &[u8]| line.get(..8).is_some_and(|name| name.eq_ignore_ascii_case(b"upgrade:"));
        Some(if is_http && !lines.any(upgrade) { Self::Request } else { Self::Other })
    }
}

/// What a method consists of (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The browser's end of one connection, after its SOCKS request if it makes one.
pub struct Near {
    stream: TcpStream,
    meter: Meter,
    /// Read from the stream, and by nobody else yet.
    ahead: BytesMut,
    /// The browser has closed it.
    left: CancellationToken,
    /// Until more may pass.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Near {
    pub fn new(stream: TcpStream, meter: Meter) -> Self {
        Self { stream, meter, ahead: BytesMut::new(), left: CancellationToken::new(), pause: None }
    }

    /// The same end, of which this was read before.
    pub fn after(mut self, read: &[u8]) -> Self {
        self.ahead.extend_from_slice(read);
        self
    }

    /// Answers the SOCKS request.
    pub async fn reply(&mut self, reply: Reply) -> io::Result<()> {
        socks::reply(&mut self.stream, reply).await
    }

    /// Waits until the browser has said enough to know what it speaks; nothing is taken away.
    /// An error when it closes the connection before.
    pub async fn opening(&mut self) -> io::Result<Opening> {
        loop {
            if let Some(opening) = Opening::of(&self.ahead) {
                return Ok(opening);
            }
            match self.stream.read_buf(&mut self.ahead).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.meter.sent(read),
            }
        }
    }

    /// Carries bytes both ways until both sides have said all, or one of them breaks off:
    /// then the browser sees a reset, not an end that may look like a whole answer.
    pub async fn relay(mut self, mut far: Far) {
        let left = self.left.clone();
        let carried = tokio::select! {
            carried = copy_bidirectional_with_sizes(&mut self, &mut far, BUFFER, BUFFER) => carried,
            () = async { left.cancelled().await; sleep(FAREWELL).await } => return,
        };
        if carried.is_err() {
            self.reset();
        }
    }

    /// Waits until the browser's bandwidth lets something pass.
    fn poll_bandwidth(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
            }
            let next = self.meter.next();
            self.pause = next.map(|next| Box::pin(sleep_until(next.into())));
            if self.pause.is_none() {
                return Poll::Ready(());
            }
        }
    }

    /// Ends the connection by a reset.
    pub fn reset(self) {
        let _ = self.stream.set_zero_linger(); // fails only when it is gone already
    }
}

impl AsyncRead for Near {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let taken = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..taken]);
            self.ahead.advance(taken);
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_bandwidth(context));
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        match buffer.filled().len() - before {
            0 => self.left.cancel(),
            read => self.meter.sent(read),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Near {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_bandwidth(context));
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.meter.got(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_bandwidth(context));
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        self.meter.got(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plain_page_is_told_from_what_must_be_carried() {
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(HEAD_MAX));
        for (bytes, opening) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], Some(Opening::Request)),
            (b"patch / HTTP/1.1\r\n\r\nbody", Some(Opening::Request)),
            (b"M-SEARCH * HTTP/1.1\r\n\r\n", Some(Opening::Request)),
            (b"POST / HTTP/1.1\r\nX: a\r\n\r\nupgrade: websocket\r\n\r\n", Some(Opening::Request)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", Some(Opening::Other)),
            (b"GET / HTTP/1.1\r\nuPgrade:websocket\r\n\r\n", Some(Opening::Other)),
            (b"GET / HTTP/2.0\r\n\r\n", Some(Opening::Other)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Opening::Other)),
            (b"\x16\x03\x01\x02\x00\x01", Some(Opening::Other)), // TLS
            (b" / HTTP/1.1\r\n\r\n", Some(Opening::Other)),
            (b"AMETHODTHATISFARTOOLONGTOBEONEATALL", Some(Opening::Other)),
            (long.as_bytes(), Some(Opening::Request)),
            (b"", None),
            (b"GE", None),
            (b"GET / HTTP/1.1\r\nHost: a\r\n", None),
            (b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r", None),
        ] {
            assert_eq!(Opening::of(bytes), opening, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    proptest! {
        #[test]
        fn what_is_once_told_stays_so(
            start in "(GET|POST|x) |[A-Z]{0,40}|\\PC{0,5}",
            rest in "([a-zA-Z:/ ]{0,9}(\r\n)?){0,6}", cut in 0..100_usize,
        ) {
            let bytes = format!("{start}{rest} HTTP/1.1\r\n\r\n").into_bytes();
            if let Some(opening) = Opening::of(&bytes[..cut.min(bytes.len())]) {
                prop_assert_eq!(Some(opening), Opening::of(&bytes));
            }
        }
    }
}
