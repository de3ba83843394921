//! What a program can and cannot do in the jail: this test's own program is put in the place
//! of the browser and tries. Each attempt that must fail inside is made outside, too, where
//! it must succeed: else it would prove nothing.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr as UnixAddr, UnixListener, UnixStream},
            process::CommandExt,
        },
    },
    path::PathBuf,
    process,
};

use libc::{c_int, c_long};
use rustix::{
    net::{AddressFamily, Protocol, SocketType, ipproto, socket},
    pipe::{PipeFlags, pipe_with},
    process::{geteuid, kill_process, test_kill_process},
};
use serde::{Deserialize, Serialize};

use super::*;
use crate::{
    browser::testing::{CHROMIUM, HEADLESS_SHELL, Place},
    crowd::tests::{crowd_on_this_thread, policy_of},
};

/// A user in the range of browsers' own that no other test takes, nor ends all processes of.
const NOBODYS: u32 = 65_500;

/// What it may take of the machine.
const LIMITS: Limits = Limits { memory_mb: 256, disk_mb: 300, processes: 1000, ..Limits::NONE };

/// What the program tries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Attempt {
    Read(PathBuf),
    Write(PathBuf),
    List(PathBuf),
    Run(PathBuf),
    Connect(String),
    Bind,
    Datagram(String),
    Multipath,
    Unix(PathBuf),
    Abstract(String),
    Netlink,
    DatagramPair,
    Signal(i32),
    Trace(i32),
    ReadMemory(i32),
    SharedMemory,
    IoUring,
    UserFaults,
}
use Attempt::{
    Abstract, Bind, Connect, Datagram, DatagramPair, IoUring, List, Multipath, Netlink, ReadMemory,
    Run, SharedMemory, Signal, Trace, Unix, UserFaults, Write as Put,
};

const ATTEMPTS: &str = "VENTUS_TEST_ATTEMPTS";
const PROBE: &str = "browser::jail::tests::the_program_in_the_browsers_place";

/// No test of its own: what is started in the jail.
#[test]
fn the_program_in_the_browsers_place() {
    let Ok(attempts) = std::env::var(ATTEMPTS) else { return };
    let attempts: Vec<Attempt> = serde_json::from_str(&attempts).unwrap();
    let done: Vec<_> = attempts.iter().map(|attempt| made(attempt).err()).collect();
    let done: Vec<_> = done.iter().map(|error| error.as_ref().map(ToString::to_string)).collect();
    let about = fs::read_to_string("/proc/self/status").unwrap();
    eprintln!("\n{}", serde_json::to_string(&(done, about)).unwrap());
}

fn made(attempt: &Attempt) -> io::Result<()> {
    match attempt {
        Attempt::Read(path) => File::open(path)?.read(&mut [0; 64]).map(drop),
        Put(path) => File::create(path)?.write_all(b"x"),
        List(path) => fs::read_dir(path).map(drop),
        Run(path) => process::Command::new(path).arg("--version").output().map(drop),
        Connect(address) => TcpStream::connect(address).map(drop),
        Bind => TcpListener::bind("127.0.0.1:0").map(drop),
        Datagram(address) => UdpSocket::bind("127.0.0.1:0")?.send_to(b"x", address).map(drop),
        Multipath => new_socket(AddressFamily::INET, Some(ipproto::MPTCP)),
        Unix(path) => UnixStream::connect(path).map(drop),
        Abstract(name) => UnixStream::connect_addr(&UnixAddr::from_abstract_name(name)?).map(drop),
        Netlink => new_socket(AddressFamily::NETLINK, None),
        DatagramPair => std::os::unix::net::UnixDatagram::pair().map(drop),
        Signal(pid) => Ok(test_kill_process(Pid::from_raw(*pid).unwrap())?),
        Trace(pid) => call(libc::SYS_ptrace, [0x4206, (*pid).into(), 0, 0, 0, 0]), // PTRACE_SEIZE
        ReadMemory(pid) => call(libc::SYS_process_vm_readv, [(*pid).into(), 0, 0, 0, 0, 0]),
        SharedMemory => call(libc::SYS_shmget, [0, 4096, 0o600, 0, 0, 0]),
        IoUring => call(libc::SYS_io_uring_setup, [0; 6]),
        UserFaults => call(libc::SYS_userfaultfd, [1, 0, 0, 0, 0, 0]), // of this user's memory only
    }
}

fn new_socket(family: AddressFamily, protocol: Option<Protocol>) -> io::Result<()> {
    let kind = if family == AddressFamily::NETLINK { SocketType::RAW } else { SocketType::STREAM };
    Ok(socket(family, kind, protocol).map(drop)?)
}

/// A call that Rust has no safe name for. Without any address: the kernel touches nothing.
fn call(number: c_long, arguments: [c_long; 6]) -> io::Result<()> {
    let [a, b, c, d, e, f] = arguments;
    #[expect(unsafe_code, reason = "an attack; none of the arguments is an address")]
    match unsafe { libc::syscall(number, a, b, c, d, e, f) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// What came of it.
struct Seen {
    /// In the order of the attempts: why it failed, if it did.
    failures: Vec<(Attempt, Option<String>)>,
    /// `/proc/self/status`
    about: String,
    /// Its `/proc/<pid>/limits`
    limits: String,
}

/// The place of two browsers of one user, as an agent without rights has them: one is the
/// program's, the other its neighbour's.
struct Prison {
    place: Place,
    program: PathBuf,
    user: Option<u32>,
    own: Directory,
    other: Directory,
    gateway: TcpListener,
}

impl Prison {
    fn new() -> Self {
        let place = Place::new();
        let bin = place.path().join("bin");
        fs::create_dir(&bin).unwrap();
        fs::set_permissions(&bin, fs::Permissions::from_mode(0o755)).unwrap();
        let program = bin.join("program");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        fs::create_dir(place.root()).unwrap();
        fs::set_permissions(place.root(), fs::Permissions::from_mode(0o711)).unwrap();
        let user = geteuid().is_root().then_some(NOBODYS);
        let own = Directory::create(&place.root(), user).unwrap();
        let other = Directory::create(&place.root(), user).unwrap();
        let gateway = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { place, program, user, own, other, gateway }
    }

    /// A file that its user may read and write.
    fn file(&self, path: PathBuf) -> PathBuf {
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        path
    }

    /// Makes the attempts as this kind of browser would, inside or outside.
    async fn tries(&self, kind: &str, inside: bool, attempts: &[Attempt]) -> Seen {
        let isolation = Isolation::probe(Path::new(kind), false);
        let gateway = self.gateway.local_addr().unwrap().port();
        let jail = Jail {
            user: self.user,
            directory: &self.own,
            gateway,
            isolation: &isolation,
            limits: LIMITS,
        };
        let (commands, _kept) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (_also_kept, answers) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        crowd_on_this_thread();
        let mut command = jail.command(&self.program, commands, answers).unwrap();
        command.args(["--exact", PROBE, "--nocapture"]);
        command.env(ATTEMPTS, serde_json::to_string(attempts).unwrap());
        let child =
            if inside { jail.spawn(&self.program, command) } else { command.spawn() }.unwrap();
        // There also when it has ended, until it is waited for.
        let limits = fs::read_to_string(format!("/proc/{}/limits", child.id().unwrap())).unwrap();
        let policy = policy_of(&child.id().unwrap().to_string());
        assert!(!inside || policy == libc::SCHED_OTHER, "{policy}: a policy of the agent's");
        crowd::none_on_this_thread();
        let said = child.wait_with_output().await.unwrap();
        let said = String::from_utf8(said.stderr).unwrap();
        let line = said.lines().find(|line| line.starts_with('[')).expect(&said);
        let (failures, about): (Vec<_>, _) = serde_json::from_str(line).unwrap();
        let failures = attempts.iter().cloned().zip(failures).collect();
        Seen { failures, about, limits }
    }
}

/// A process of the same user, beside the browser.
struct Victim(process::Child);

impl Victim {
    fn start(user: Option<u32>) -> Self {
        let mut command = process::Command::new("sleep");
        command.arg("1000").stdin(Stdio::null());
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        Self(command.spawn().unwrap())
    }

    fn pid(&self) -> c_int {
        self.0.id().try_into().unwrap()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}

fn works(seen: &Seen) -> BTreeMap<String, &str> {
    let named = seen.failures.iter();
    named.map(|(attempt, why)| (format!("{attempt:?}"), why.as_deref().unwrap_or("ok"))).collect()
}

#[tokio::test]
async fn what_works_outside_is_refused_inside() {
    let prison = Prison::new();
    let place = prison.place.path();
    let victim = Victim::start(prison.user);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let name = format!("ventus-test-{}", std::process::id());
    let _abstract = UnixListener::bind_addr(&UnixAddr::from_abstract_name(&name).unwrap()).unwrap();
    let open = place.join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let attempts = [
        Attempt::Read("/etc/passwd".into()),
        Attempt::Read("/etc/hostname".into()),
        Attempt::Read("/etc/group".into()),
        Attempt::Read("/sys/kernel/uevent_seqnum".into()),
        Attempt::Read(prison.file(place.join("secret"))),
        Attempt::Read(prison.file(prison.other.profile().join("Cookies"))),
        Attempt::Read(format!("/proc/{}/environ", victim.pid()).into()),
        Attempt::Read(format!("/proc/{}/maps", victim.pid()).into()),
        List("/".into()),
        List("/etc".into()),
        List("/home".into()),
        List("/var".into()),
        List("/dev/shm".into()),
        List(prison.other.path().into()),
        Attempt::Read(format!("/proc/{}/fd/0", victim.pid()).into()),
        Put(open.join("new")),
        Put(prison.file(place.join("writable"))),
        Put(prison.other.tmp().join("new")),
        Put(prison.file(prison.own.uploads().join("sent"))),
        Put("/tmp/ventus-test-written".into()),
        Run("/bin/true".into()),
        Connect(listener.local_addr().unwrap().to_string()),
        Bind,
        Datagram(datagrams.local_addr().unwrap().to_string()),
        Abstract(name),
        Netlink,
        DatagramPair,
        Signal(victim.pid()),
        Trace(victim.pid()),
        ReadMemory(victim.pid()),
        SharedMemory,
    ];
    for kind in [CHROMIUM, HEADLESS_SHELL] {
        let outside = prison.tries(kind, false, &attempts).await;
        let failed: Vec<_> = outside.failures.iter().filter(|(_, why)| why.is_some()).collect();
        assert!(failed.is_empty(), "they prove nothing: {failed:?}");
        let _ = fs::remove_file("/tmp/ventus-test-written");
        let inside = prison.tries(kind, true, &attempts).await;
        let done: Vec<_> = inside.failures.iter().filter(|(_, why)| why.is_none()).collect();
        assert!(done.is_empty(), "{kind}: {done:?}");
        assert!(!Path::new("/tmp/ventus-test-written").exists());
        // What the kernel here may not have, or not for this user, fails outside as well.
        let inside = prison.tries(kind, true, &[Multipath, IoUring, UserFaults]).await;
        for (attempt, why) in &inside.failures {
            assert!(
                why.as_ref().is_some_and(|why| why.contains("not permitted")),
                "{attempt:?}: {why:?}"
            );
        }
        assert!(inside.about.contains("\nNoNewPrivs:\t1\n"), "{}", inside.about);
        assert!(inside.about.contains("\nSeccomp:\t2\n"), "{}", inside.about);
        // The kernel's own bounds, as wide as they are meant to be.
        let per_user = geteuid().is_root().then_some(("Max processes", 4000));
        let per_process = [("Max core file size", 0), ("Max file size", 300 << 20)];
        for (name, limit) in per_process.into_iter().chain(per_user) {
            let line = inside.limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let (soft, hard) = (line.split_whitespace().next(), line.split_whitespace().nth(1));
            assert_eq!((soft, hard), (Some(&*limit.to_string()), soft), "{name}");
        }
    }
}

#[tokio::test]
async fn what_a_browser_needs_works_inside() {
    let prison = Prison::new();
    let attempts = [
        Put(prison.own.home().join("new")),
        Put(prison.own.profile().join("new")),
        Put(prison.own.tmp().join("new")),
        Put(prison.own.downloads().join("new")),
        Attempt::Read(prison.file(prison.own.uploads().join("sent"))),
        List(prison.own.path().into()),
        List(prison.own.uploads()),
        Connect(prison.gateway.local_addr().unwrap().to_string()),
        Attempt::Read("/etc/fonts/fonts.conf".into()),
        Attempt::Read("/proc/self/status".into()),
        Put("/dev/null".into()),
        Run(prison.program.clone()),
    ];
    let seen = prison.tries(CHROMIUM, true, &attempts).await;
    assert!(seen.failures.iter().all(|(_, why)| why.is_none()), "{:#?}", works(&seen));
}

#[tokio::test]
async fn a_browser_cannot_replace_its_own_directories() {
    let prison = Prison::new();
    let attempts = [Put(prison.own.path().join("new")), Put(prison.own.uploads().join("new"))];
    let seen = prison.tries(CHROMIUM, true, &attempts).await;
    assert!(seen.failures.iter().all(|(_, why)| why.is_some()), "{:#?}", works(&seen));
}

#[tokio::test]
async fn a_program_of_another_users_gives_no_rights() {
    if !geteuid().is_root() {
        return; // there is nobody to take rights from
    }
    let prison = Prison::new();
    fs::set_permissions(&prison.program, fs::Permissions::from_mode(0o4755)).unwrap();
    let effective = |seen: &Seen| {
        let line = seen.about.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(effective(&prison.tries(CHROMIUM, false, &[]).await), "0", "it would");
    let user = prison.user.unwrap().to_string();
    assert_eq!(effective(&prison.tries(CHROMIUM, true, &[]).await), user);
}

#[tokio::test]
async fn only_the_full_browser_makes_sockets_of_paths() {
    let prison = Prison::new();
    let path = prison.place.path().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let attempts = [Unix(path)];
    assert!(prison.tries(HEADLESS_SHELL, false, &attempts).await.failures[0].1.is_none());
    assert!(prison.tries(HEADLESS_SHELL, true, &attempts).await.failures[0].1.is_some());
}
