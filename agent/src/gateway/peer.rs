//! Whose the other end of a loopback connection is. Each browser has a user of its own where
//! the agent is root, and its gateway serves nobody else.
//!
//! Asked of the kernel by `sock_diag(7)` for the one socket, which takes some microseconds;
//! `/proc/net/tcp` holds the same and takes milliseconds, however few sockets there are.

use std::{io, net::SocketAddrV4};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h).
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` (linux/netlink.h).
const REQUEST: u16 = 1;
/// `NLMSG_ERROR` (linux/netlink.h).
const ERROR: u16 = 2;
const AF_INET: u8 = 2;
const IPPROTO_TCP: u8 = 6;
/// A `struct nlmsghdr`.
const HEADER: usize = 16;
/// Where `idiag_uid` is in a `struct inet_diag_msg` (linux/inet_diag.h).
const UID: usize = 64;

/// The user id that a TCP socket of this machine was made with. `None`: there is no such
/// socket any more.
///
/// # Errors
///
/// When the kernel does not say.
pub fn user_of(socket: SocketAddrV4, connected_to: SocketAddrV4) -> io::Result<Option<u32>> {
    let kernel = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    send(&kernel, &question(socket, connected_to), SendFlags::empty())?;
    let mut answer = [0_u8; 1024];
    // Never waits long: the kernel has answered when it has taken the question.
    let (length, _) = recv(&kernel, &mut answer[..], RecvFlags::DONTWAIT)?;
    read(&answer[..length])
}

/// An `inet_diag_req_v2` for one socket, in any state.
fn question(socket: SocketAddrV4, connected_to: SocketAddrV4) -> Vec<u8> {
    const ANY: u32 = u32::MAX;
    let mut request = Vec::with_capacity(72);
    request.extend([AF_INET, IPPROTO_TCP, 0, 0]);
    request.extend(ANY.to_ne_bytes()); // states
    request.extend(socket.port().to_be_bytes());
    request.extend(connected_to.port().to_be_bytes());
    for address in [socket, connected_to] {
        request.extend(address.ip().octets());
        request.extend([0; 12]);
    }
    request.extend(0_u32.to_ne_bytes()); // interface
    request.extend([ANY.to_ne_bytes(), ANY.to_ne_bytes()].concat()); // cookie
    let length = (HEADER + request.len()) as u32;
    let header = [
        &length.to_ne_bytes()[..],
        &BY_FAMILY.to_ne_bytes(),
        &REQUEST.to_ne_bytes(),
        &1_u32.to_ne_bytes(), // sequence
        &0_u32.to_ne_bytes(), // from
    ];
    [header.concat(), request].concat()
}

fn read(answer: &[u8]) -> io::Result<Option<u32>> {
    let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok()).ok_or_else(short)?;
    let body = answer.get(HEADER..).ok_or_else(short)?;
    let number = |at: usize| body.get(at..at + 4)?.try_into().ok();
    match u16::from_ne_bytes(kind) {
        ERROR => {
            let errno = number(0).map(i32::from_ne_bytes).ok_or_else(short)?;
            match io::Error::from_raw_os_error(-errno) {
                gone if gone.kind() == io::ErrorKind::NotFound => Ok(None),
                error => Err(error),
            }
        }
        BY_FAMILY => Ok(Some(number(UID).map(u32::from_ne_bytes).ok_or_else(short)?)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
        os::unix::process::CommandExt,
        process::{Command, Stdio},
    };

    use rustix::process::geteuid;

    use super::*;

    fn four(address: SocketAddr) -> SocketAddrV4 {
        match address {
            SocketAddr::V4(four) => four,
            SocketAddr::V6(six) => panic!("{six}"),
        }
    }

    #[test]
    fn a_connection_belongs_to_whoever_made_it() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let here = four(listener.local_addr().unwrap());
        let ours = TcpStream::connect(here).unwrap();
        let (_accepted, from) = listener.accept().unwrap();
        assert_eq!(user_of(four(from), here).unwrap(), Some(geteuid().as_raw()));
        drop(ours);

        if !geteuid().is_root() {
            return; // nobody else's program can be started
        }
        let program = format!("exec 3<>/dev/tcp/127.0.0.1/{}; read -r _ <&3", here.port());
        let mut other = Command::new("bash");
        other.args(["-c", &program]).uid(65_533).stdin(Stdio::null());
        let mut other = other.spawn().unwrap();
        let (accepted, from) = listener.accept().unwrap();
        assert_eq!(user_of(four(from), here).unwrap(), Some(65_533));
        drop(accepted);
        other.wait().unwrap();
    }

    #[test]
    fn a_socket_that_is_not_there_has_no_user() {
        let nobody = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
        assert_eq!(user_of(nobody, nobody).unwrap(), None);
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_an_error() {
        let whole = [&[0; 4][..], &BY_FAMILY.to_ne_bytes(), &[0; 10 + 72]].concat();
        assert_eq!(read(&whole).unwrap(), Some(0));
        for cut in 0..HEADER + UID + 4 {
            assert!(read(&whole[..cut]).is_err(), "{cut}");
        }
    }
}
