//! What runs on this machine, as `/proc` tells it.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

/// Lets what it starts lead a session of its own, as a service does and a browser that Puppeteer
/// starts: by sessions the kernel divides the processor (sched(7), "The autogroup feature").
pub fn lead_a_session(command: &mut Command) -> &mut Command {
    #[expect(unsafe_code, reason = "the standard library's own way to call it is unstable")]
    // SAFETY: between fork and exec it makes one system call, and allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?))
    }
}

/// A process. Chrome writes its own command line anew, as one text with blanks.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its command line.
    pub arguments: Vec<OsString>,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let arguments = split(&fs::read(format!("/proc/{pid}/cmdline")).ok()?);
        Some(Self { pid, arguments })
    }

    /// Whether this is a browser itself, not one of its helpers.
    pub fn is_browser(&self) -> bool {
        let starts =
            |prefix: &str| self.arguments.iter().any(|a| a.to_string_lossy().starts_with(prefix));
        starts("--remote-debugging-pipe") && !starts("--type=")
    }

    /// Kills it with no chance to clean up.
    pub fn kill(&self) {
        kill(self.pid);
    }
}

fn split(bytes: &[u8]) -> Vec<OsString> {
    let parts = |by: u8| bytes.split(move |byte| [0, by].contains(byte)).filter(|p| !p.is_empty());
    let by = if parts(0).count() > 1 { 0 } else { b' ' };
    parts(by).map(|part| OsString::from_vec(part.to_vec())).collect()
}

/// All processes that were started for something below `folder`, `except` one: told by their
/// arguments or, as Chrome's helpers have none of their own, their environment.
pub fn below(folder: &Path, except: Option<u32>) -> Vec<Process> {
    let folder = folder.as_os_str().as_encoded_bytes();
    let mentions = |file: PathBuf| {
        fs::read(file).is_ok_and(|bytes| bytes.windows(folder.len()).any(|part| part == folder))
    };
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| except.is_none_or(|except| i64::from(*pid) != i64::from(except)))
        .filter(|pid| {
            let of = |file: &str| PathBuf::from(format!("/proc/{pid}/{file}"));
            mentions(of("cmdline")) || mentions(of("environ"))
        })
        .filter_map(Process::read)
        .collect()
}

/// Kills a process with no chance to clean up.
pub fn kill(pid: i32) {
    signal(pid, Signal::KILL);
}

/// Sends a signal. A process that is already gone is no fault.
pub fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// Open descriptors of a process.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// The processes that a process has started and that run.
pub fn children(pid: u32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
