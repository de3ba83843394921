//! Where figures come from: the machine, what ran on it, and when.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

/// What a section was measured with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Taken {
    /// Unix seconds.
    pub at: u64,
    /// Of this repository; ends with `+` where files differed from it.
    pub commit: String,
    pub processor: String,
    pub processors: usize,
    pub memory_gib: u64,
    pub kernel: String,
    pub browser: String,
    /// Of the last minute, when it began: what else the machine did.
    pub load: f64,
    /// Whether it was a short run, to see that it works.
    pub quick: bool,
    /// How long it took.
    pub seconds: u64,
}

impl Taken {
    pub fn now(browser: &Path, quick: bool) -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = read("/proc/loadavg");
        let dirty = !said("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
        let commit = said("git", &["rev-parse", "--short=12", "HEAD"]);
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            at: since_epoch.map_or(0, |since| since.as_secs()),
            commit: if dirty { commit + "+" } else { commit },
            processor: model.map_or_else(|| "unknown".into(), |(_, model)| model.to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: memory_mib("MemTotal:").div_ceil(1 << 10),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            browser: said(&browser.display().to_string(), &["--version"]),
            load: load.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or_default(),
            quick,
            seconds: 0,
        }
    }
}

/// Memory that is free for the asking.
pub fn available_mib() -> u64 {
    memory_mib("MemAvailable:")
}

/// From proc_meminfo(5), which counts in KiB.
fn memory_mib(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = kib.and_then(|kib| kib.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() >> 10
}

/// What a program prints, or nothing.
pub fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(harness::folder()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}

/// The browser's program, as far as it is known without starting a server.
pub fn browser(given: Option<&str>) -> PathBuf {
    let known = ["chromium", "google-chrome", "chromium-headless-shell"];
    let found = |name: &&str| !said("which", &[name]).is_empty();
    given.or_else(|| known.into_iter().find(found)).unwrap_or("chromium").into()
}
