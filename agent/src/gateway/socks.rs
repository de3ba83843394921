//! SOCKS5 (RFC 1928), CONNECT only: served to the browser without authentication, and asked of
//! an upstream proxy, where need be with a user name and a password (RFC 1929).

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Most bytes of a name, a user name or a password: their length is one byte.
pub const TEXT_MAX: usize = 255;

/// A host as the browser names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Host {
    /// Still to be resolved: visible ASCII, 1 to 255 bytes.
    Name(String),
    /// As it is.
    Address(IpAddr),
}

impl Host {
    /// Tells addresses from names: Chrome hands over both as text. `None`: neither.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse() {
            return Some(Self::Address(address));
        }
        // As browsers and systems read `0x7f.1`. It must not pass for a name.
        if let Ok(url::Host::Ipv4(address)) = url::Host::parse(text) {
            return Some(Self::Address(address.into()));
        }
        let fits = (1..=TEXT_MAX).contains(&text.len());
        // What could end a line or a host where a proxy is asked for it.
        let is_name = |byte: u8| byte.is_ascii_graphic() && !b"/?#@:[]\\".contains(&byte);
        (fits && text.bytes().all(is_name)).then(|| Self::Name(text.to_owned()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// Where the browser wants to go. Shown as in a URL: `host:port`, `[::1]:port`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    pub host: Host,
    pub port: u16,
}

impl Target {
    /// Whether there can be no such host (RFC 6761, section 6.4). Chrome's own questions to its
    /// vendor are sent there, and are nobody's business: neither policy's nor a name server's.
    pub fn is_nowhere(&self) -> bool {
        const NOWHERE: &str = ".invalid";
        let Host::Name(name) = &self.host else { return false };
        let name = name.strip_suffix('.').unwrap_or(name);
        let end = name.len().checked_sub(NOWHERE.len()).and_then(|at| name.get(at..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(NOWHERE))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

/// An answer to a request. Chrome shows all but the first as `ERR_SOCKS_CONNECTION_FAILED`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Reply {
    Succeeded = 0,
    Failed = 1,
    NotAllowed = 2,
    NetworkUnreachable = 3,
    HostUnreachable = 4,
    Refused = 5,
    TimedOut = 6,
    CommandUnknown = 7,
    AddressTypeUnknown = 8,
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("this is not SOCKS5")]
    NotSocks,
    #[error("it insists on authentication")]
    Method,
    #[error("its request makes no sense: {0:?}")]
    Request(Reply),
}

/// Why an upstream proxy opens no connection.
#[derive(Debug, thiserror::Error)]
pub enum Denial {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("it does not speak SOCKS5")]
    NotSocks,
    #[error("it does not accept the credentials, or wants some")]
    Credentials,
    #[error("it answers with code {0}")]
    Refused(u8),
}

/// Reads the greeting and the request, and answers what can be answered by now: the request
/// itself only when it is refused. Reads nothing beyond it.
pub async fn request<S>(stream: &mut S) -> Result<Target, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    version(stream).await?;
    let mut methods = [0; 255];
    let methods = &mut methods[..usize::from(stream.read_u8().await?)];
    stream.read_exact(methods).await?;
    if !methods.contains(&NO_AUTHENTICATION) {
        stream.write_all(&[VERSION, NO_METHOD]).await?;
        return Err(Fault::Method);
    }
    stream.write_all(&[VERSION, NO_AUTHENTICATION]).await?;

    version(stream).await?;
    let refusal = match target(stream).await? {
        Ok(target) => return Ok(target),
        Err(refusal) => refusal,
    };
    reply(stream, refusal).await?;
    Err(Fault::Request(refusal))
}

/// Answers a request. No address is told: nobody asked from where the gateway connects.
pub async fn reply<S: AsyncWrite + Unpin>(stream: &mut S, reply: Reply) -> io::Result<()> {
    stream.write_all(&[VERSION, reply as u8, 0, IPV4, 0, 0, 0, 0, 0, 0]).await
}

/// Asks a proxy for a connection. What comes after its answer is the site's.
pub async fn ask<S>(
    stream: &mut S,
    credentials: Option<&(String, String)>,
    target: &Target,
) -> Result<(), Denial>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // With credentials only by them: they may decide what the proxy does.
    let method = credentials.map_or(NO_AUTHENTICATION, |_| PASSWORD);
    stream.write_all(&[VERSION, 1, method]).await?;
    match array(stream).await? {
        [VERSION, chosen] if chosen == method => {}
        [VERSION, NO_METHOD] => return Err(Denial::Credentials),
        _ => return Err(Denial::NotSocks),
    }
    if let Some((username, password)) = credentials {
        const NEGOTIATION: u8 = 1; // a version of its own
        let mut message = vec![NEGOTIATION];
        put_text(&mut message, username);
        put_text(&mut message, password);
        stream.write_all(&message).await?;
        if array(stream).await? != [NEGOTIATION, 0] {
            return Err(Denial::Credentials);
        }
    }
    let mut message = vec![VERSION, CONNECT, 0];
    match &target.host {
        Host::Address(IpAddr::V4(address)) => {
            message.push(IPV4);
            message.extend(address.octets());
        }
        Host::Address(IpAddr::V6(address)) => {
            message.push(IPV6);
            message.extend(address.octets());
        }
        Host::Name(name) => {
            message.push(NAME);
            put_text(&mut message, name);
        }
    }
    message.extend(target.port.to_be_bytes());
    stream.write_all(&message).await?;
    let kind = match array(stream).await? {
        [VERSION, 0, _, kind] => kind,
        [VERSION, code, ..] => return Err(Denial::Refused(code)),
        _ => return Err(Denial::NotSocks),
    };
    let address = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => usize::from(stream.read_u8().await?),
        _ => return Err(Denial::NotSocks),
    };
    stream.read_exact(&mut vec![0; address + 2]).await?; // from where it connects, and the port
    Ok(())
}

/// Its length, then the text: of [`TEXT_MAX`] bytes at most.
fn put_text(message: &mut Vec<u8>, text: &str) {
    let text = &text.as_bytes()[..text.len().min(TEXT_MAX)];
    message.push(text.len() as u8);
    message.extend(text);
}

async fn version<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(), Fault> {
    match stream.read_u8().await? {
        VERSION => Ok(()),
        _ => Err(Fault::NotSocks),
    }
}

async fn target<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Result<Target, Reply>, Fault> {
    let [command, reserved, kind] = array(stream).await?;
    if reserved != 0 {
        return Err(Fault::NotSocks);
    }
    let host = match kind {
        IPV4 => Some(Host::Address(Ipv4Addr::from(array(stream).await?).into())),
        NAME => {
            let mut name = vec![0; usize::from(stream.read_u8().await?)];
            stream.read_exact(&mut name).await?;
            str::from_utf8(&name).ok().and_then(Host::parse)
        }
        IPV6 => Some(Host::Address(Ipv6Addr::from(array::<16, S>(stream).await?).into())),
        _ => return Ok(Err(Reply::AddressTypeUnknown)),
    };
    let port = stream.read_u16().await?;
    Ok(match (command, host, port) {
        (CONNECT, Some(host), 1..) => Ok(Target { host, port }),
        (CONNECT, ..) => Err(Reply::Failed),
        _ => Err(Reply::CommandUnknown),
    })
}

async fn array<const N: usize, S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    /// What comes of these bytes, when the browser then closes; and what it was answered.
    fn judged(bytes: &[u8]) -> (Result<Target, Fault>, Vec<u8>) {
        let (mut browser, mut ours) = tokio::io::duplex(1 << 16);
        let judging = async {
            browser.write_all(bytes).await.unwrap();
            browser.shutdown().await.unwrap();
            let outcome = request(&mut ours).await;
            drop(ours);
            let mut answers = Vec::new();
            browser.read_to_end(&mut answers).await.unwrap();
            (outcome, answers)
        };
        judging.now_or_never().expect("nothing is left to wait for")
    }

    fn asking(command: u8, kind: u8, host: &[u8], port: u16) -> Vec<u8> {
        [&[5, 1, 0, 5, command, 0, kind][..], host, &port.to_be_bytes()].concat()
    }

    fn named(name: &str) -> Vec<u8> {
        [&[u8::try_from(name.len()).unwrap()], name.as_bytes()].concat()
    }

    #[test]
    fn a_target_may_be_a_name_or_an_address_of_either_kind_also_as_text() {
        let v6 = Ipv6Addr::LOCALHOST;
        for (kind, host, shown) in [
            (3, named("example.com"), "example.com:443"),
            (3, named("xn--bcher-kva.example."), "xn--bcher-kva.example.:443"),
            (3, named("127.0.0.1"), "127.0.0.1:443"),
            (3, named("::1"), "[::1]:443"),
            (3, named("[::1]"), "[::1]:443"),
            (3, named("0x7f.1"), "127.0.0.1:443"),
            (3, named("2130706433"), "127.0.0.1:443"),
            (3, named("0177.0.0.01"), "127.0.0.1:443"),
            (1, vec![127, 0, 0, 1], "127.0.0.1:443"),
            (4, v6.octets().to_vec(), "[::1]:443"),
        ] {
            let (target, answers) = judged(&asking(1, kind, &host, 443));
            assert_eq!(target.unwrap().to_string(), shown);
            assert_eq!(answers, [5, 0], "{shown}: the request itself is not answered yet");
        }
    }

    #[test]
    fn what_is_not_served_is_refused_by_its_code() {
        for (bytes, code) in [
            (asking(2, 3, &named("example.com"), 80), Reply::CommandUnknown), // BIND
            (asking(3, 1, &[1, 1, 1, 1], 80), Reply::CommandUnknown),         // UDP ASSOCIATE
            (asking(1, 2, &[], 80), Reply::AddressTypeUnknown),
            (asking(1, 3, &named(""), 80), Reply::Failed),
            (asking(1, 3, &named("a b"), 80), Reply::Failed),
            (asking(1, 3, &named("a\r\nb"), 80), Reply::Failed),
            (asking(1, 3, &named("user@host"), 80), Reply::Failed),
            (asking(1, 3, &[2, 0xff, 0xfe], 80), Reply::Failed),
            (asking(1, 3, &named("example.com"), 0), Reply::Failed),
        ] {
            let (fault, answers) = judged(&bytes);
            assert!(matches!(fault, Err(Fault::Request(refused)) if refused == code), "{fault:?}");
            assert_eq!(answers[..4], [5, 0, 5, code as u8]);
            assert_eq!(answers.len(), 12);
        }
    }

    #[test]
    fn who_insists_on_authentication_or_speaks_something_else_is_sent_away() {
        let (fault, answers) = judged(&[5, 2, 1, 2]);
        assert!(matches!(fault, Err(Fault::Method)), "{fault:?}");
        assert_eq!(answers, [5, 0xff]);
        for other in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[4, 1, 0, 80, 1, 1, 1, 1, 0]] {
            let (fault, answers) = judged(other);
            assert!(matches!(fault, Err(Fault::NotSocks)), "{fault:?}");
            assert!(answers.is_empty());
        }
    }

    #[tokio::test]
    async fn what_follows_the_request_is_left_alone() {
        let (mut browser, mut ours) = tokio::io::duplex(1 << 10);
        let bytes = asking(1, 3, &named("example.com"), 80);
        browser.write_all(&[&bytes[..], b"GET / HTTP/1.1"].concat()).await.unwrap();
        request(&mut ours).await.unwrap();
        assert_eq!(&array::<14, _>(&mut ours).await.unwrap(), b"GET / HTTP/1.1");
    }

    /// What a proxy hears that answers so, and what comes of it.
    fn asked(answers: &[u8], credentials: Option<(&str, &str)>) -> (Result<(), Denial>, Vec<u8>) {
        let (mut proxy, mut ours) = tokio::io::duplex(1 << 12);
        let credentials = credentials.map(|(name, word)| (name.to_owned(), word.to_owned()));
        let target = Target { host: Host::parse("example.com").unwrap(), port: 443 };
        let asking = async {
            proxy.write_all(answers).await.unwrap();
            proxy.shutdown().await.unwrap();
            let outcome = ask(&mut ours, credentials.as_ref(), &target).await;
            drop(ours);
            let mut heard = Vec::new();
            proxy.read_to_end(&mut heard).await.unwrap();
            (outcome, heard)
        };
        asking.now_or_never().expect("nothing is left to wait for")
    }

    #[test]
    fn a_proxy_hears_the_name_and_only_the_credentials_that_there_are() {
        let request = [&[5, 1, 0, 3, 11][..], b"example.com", &443_u16.to_be_bytes()].concat();
        let (outcome, heard) = asked(&[5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0], None);
        outcome.unwrap();
        assert_eq!(heard, [&[5, 1, 0][..], &request].concat());
        let (outcome, heard) =
            asked(&[5, 2, 1, 0, 5, 0, 0, 3, 2, 0, 0, 0, 0], Some(("me", "secret")));
        outcome.unwrap();
        let credentials = b"\x01\x02me\x06secret";
        assert_eq!(heard, [&[5, 1, 2][..], credentials, &request].concat());
    }

    #[test]
    fn a_proxy_that_refuses_is_told_by_why() {
        let me = Some(("me", "secret"));
        for (answers, credentials, why) in [
            (&[5, 0xff][..], None, "wants some"),
            (&[5, 0xff], me, "not accept the credentials"),
            (&[5, 2, 1, 1], me, "not accept the credentials"),
            (&[5, 2], None, "not speak SOCKS5"),
            (b"HTTP/1.1 400 Bad Request", None, "not speak SOCKS5"),
            (&[5, 0, 5, 5, 0, 1, 0, 0, 0, 0, 0, 0], None, "code 5"),
            (&[5, 0, 5, 0, 0, 9], None, "not speak SOCKS5"),
            (&[5, 0, 5, 0, 0, 1], None, "broke"),
        ] {
            let (outcome, _) = asked(answers, credentials);
            let denial = outcome.unwrap_err().to_string();
            assert!(denial.contains(why), "{denial}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_of_a_proxy_does_any_harm(
            start in 0..3_usize, rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let start = [&[][..], &[5, 0], &[5, 0, 5, 0, 0]][start];
            let _ = asked(&[start, &rest].concat(), None);
        }

        #[test]
        fn no_bytes_do_any_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = judged(&bytes);
        }

        #[test]
        fn no_request_does_any_harm(
            command in 0..4_u8, kind in 0..6_u8, rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            if let (Ok(target), _) = judged(&[&[5, 1, 0, 5, command, 0, kind][..], &rest].concat()) {
                // Whatever it names fits into a line of HTTP.
                prop_assert!(target.to_string().bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert_eq!(command, CONNECT);
            }
        }

        #[test]
        fn every_name_and_port_arrives_as_it_is(name in "[a-z0-9_.-]{1,255}", port in 1..=u16::MAX) {
            let (target, _) = judged(&asking(1, 3, &named(&name), port));
            let target = target.unwrap();
            prop_assert_eq!(target.port, port);
            prop_assert_eq!(Some(target.host), Host::parse(&name));
        }

        #[test]
        fn half_a_request_is_no_request(cut in 0..20_usize) {
            let whole = asking(1, 3, &named("example.com"), 80);
            let (fault, _) = judged(&whole[..cut.min(whole.len() - 1)]);
            prop_assert!(matches!(fault, Err(Fault::Io(_))), "{fault:?}");
        }
    }
}
