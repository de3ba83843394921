use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    os::unix::{fs::chown, process::CommandExt},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use super::*;

const CHROMIUM: &str = "/usr/lib/chromium/chromium";
const HEADLESS_SHELL: &str = "/usr/lib/chromium/chromium-headless-shell";

/// A browser with a debugging port, as nothing but this test starts one.
struct WithPort {
    child: Child,
    port: u16,
    _home: tempfile::TempDir,
}

impl WithPort {
    fn start(binary: &str) -> Self {
        const USER: u32 = 65_533; // nobody's, and none of those that agents give out
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new(binary);
        if rustix::process::geteuid().is_root() {
            chown(home.path(), Some(USER), Some(USER)).unwrap();
            command.uid(USER).gid(USER);
        }
        let mut child = command
            .args(["--headless=new", "--remote-debugging-port=0", "--no-first-run"])
            .args(["--disable-crashpad-for-testing", "--disable-gpu"])
            .arg(format!("--user-data-dir={}/p", home.path().display()))
            .env_clear()
            .env("HOME", home.path())
            .env("TMPDIR", home.path())
            .current_dir(home.path())
            .process_group(0)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = lines.find_map(|line| {
            line.unwrap().strip_prefix("DevTools listening on ws://127.0.0.1:").map(str::to_owned)
        });
        let port = said.unwrap().split('/').next().unwrap().parse().unwrap();
        std::thread::spawn(move || lines.count()); // or it would block
        Self { child, port, _home: home }
    }

    fn get(&self, path: &str) -> Vec<u8> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut reader = BufReader::new(socket);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        body
    }
}

impl Drop for WithPort {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn the_description_is_the_one_that_chromes_own_port_serves() {
    for binary in [CHROMIUM, HEADLESS_SHELL] {
        let theirs = WithPort::start(binary).get("/json/protocol");
        let ours = protocol(Path::new(binary)).unwrap();
        assert_eq!(json(&ours), json(&theirs), "{binary}");
    }
}

#[test]
fn it_is_read_once() {
    let first = protocol(Path::new(CHROMIUM)).unwrap();
    let second = protocol(Path::new(CHROMIUM)).unwrap();
    assert_eq!(first.as_ptr(), second.as_ptr());
}

#[test]
fn a_browser_without_resources_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("chrome");
    fs::write(&binary, "").unwrap();
    fs::write(
        directory.path().join("resources.pak"),
        [5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0].repeat(2),
    )
    .unwrap();
    let error = find(&binary).unwrap_err();
    assert!(matches!(error, ProtocolError::NotFound(_)), "{error}");
}

#[test]
fn a_broken_resource_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("chrome");
    fs::write(&binary, "").unwrap();
    fs::write(directory.path().join("resources.pak"), [5, 0, 0, 0, 1, 0, 0, 0, 255, 255, 0, 0])
        .unwrap();
    let error = find(&binary).unwrap_err();
    assert!(error.to_string().contains("resources.pak"), "{error}");
}
