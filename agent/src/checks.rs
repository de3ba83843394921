//! What this machine lacks to run browsers, and how to mend it: for `ventus doctor`.

mod namespaces;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rustix::process::{Resource, geteuid, getrlimit};

use crate::{
    browser::{
        FIRST_USER, Isolation, LaunchError, LaunchOptions, Launcher, Layer, SHARED_MEMORY_MIN,
        Strictness, blocking_ancestor,
    },
    gateway::Policy,
    limits,
};

/// How one check came out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Works, but not as well as it could.
    Warn,
    /// No session can run.
    Fail,
}

/// One check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// What was looked at, a word or three.
    pub name: &'static str,
    /// How it came out.
    pub outcome: Outcome,
    /// What is there.
    pub found: String,
    /// What to do about it, unless it is as it should be.
    pub remedy: Option<String>,
}

/// What an agent would be started with.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The browser's binary.
    pub browser: PathBuf,
    /// The agent's data directory. It is left as it was.
    pub data_dir: PathBuf,
    /// Sessions at once.
    pub capacity: u32,
    /// Start the browser without its own sandbox.
    pub no_sandbox: bool,
    /// Whether a missing layer keeps the agent from starting.
    pub isolation: Strictness,
}

/// Threads and processes of one browser with a few pages, generously.
const TASKS_PER_BROWSER: u64 = 300;
/// Memory of one browser with a few ordinary pages.
const MEMORY_PER_BROWSER: u64 = 400 << 20;
/// Descriptors that a browser's main process should be allowed to have.
const DESCRIPTORS_MIN: u64 = 4096;

/// Carries out every check; takes as long as a browser's start.
pub async fn run(subject: &Subject) -> Vec<Check> {
    let mut checks = vec![binary(&subject.browser), data_dir(&subject.data_dir)];
    checks.push(namespaces::check(subject.no_sandbox));
    checks.push(shared_memory());
    checks.push(processes(subject.capacity));
    checks.push(descriptors());
    checks.push(memory(subject.capacity));
    checks.push(fonts());
    let isolation = Isolation::probe(&subject.browser, subject.no_sandbox);
    checks.extend(isolation.layers().iter().map(|layer| is_active(layer, subject.isolation)));
    checks.push(Check::ok("limits", limits::outlook()));
    // Last, as the others say why this one failed.
    if checks[0].outcome != Outcome::Fail {
        checks.push(start(subject, isolation).await);
    }
    checks
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, found: found.into(), remedy: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Warn, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn fail(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Fail, found: found.into(), remedy: Some(remedy.into()) }
    }
}

fn binary(path: &Path) -> Check {
    const NAME: &str = "browser";
    let shown = path.display().to_string();
    match fs::metadata(path) {
        Ok(about) if about.is_file() && about.permissions().mode() & 0o111 != 0 => {
            Check::ok(NAME, shown)
        }
        Ok(_) => Check::fail(
            NAME,
            format!("{shown} is no program"),
            "name the browser's binary with --browser",
        ),
        Err(error) => Check::fail(
            NAME,
            format!("{shown}: {error}"),
            "install one (on Debian: apt install chromium), or name it with --browser",
        ),
    }
}

fn data_dir(path: &Path) -> Check {
    const NAME: &str = "data directory";
    let shown = path.display();
    // What does not exist yet will be made below what does.
    let Some(there) = path.ancestors().find(|path| path.is_dir()) else {
        return Check::fail(NAME, format!("{shown} cannot be made"), "choose another --data-dir");
    };
    if !geteuid().is_root() {
        return Check::ok(NAME, format!("{shown}, browsers run as this user"));
    }
    match blocking_ancestor(there) {
        Ok(None) => Check::ok(NAME, format!("{shown}, browsers run as users {FIRST_USER} and up")),
        Ok(Some(barred)) => Check::fail(
            NAME,
            format!("browsers run as users without rights; {} bars their way", barred.display()),
            format!("chmod o+x {}, or choose another --data-dir", barred.display()),
        ),
        Err(error) => Check::fail(NAME, format!("{shown}: {error}"), "choose another --data-dir"),
    }
}

fn is_active(layer: &Layer, strictness: Strictness) -> Check {
    let Layer { name, detail, .. } = layer;
    match (layer.remedy, strictness) {
        (None, _) => Check::ok(name, detail),
        (Some(remedy), Strictness::BestEffort) => Check::warn(name, detail, remedy),
        (Some(remedy), Strictness::Strict) => Check::fail(name, detail, remedy),
    }
}

fn shared_memory() -> Check {
    const NAME: &str = "shared memory";
    match rustix::fs::statvfs("/dev/shm") {
        Ok(about) => {
            let free = about.f_bavail.saturating_mul(about.f_frsize);
            let found = format!("/dev/shm has {} free", size(free));
            if free >= SHARED_MEMORY_MIN {
                Check::ok(NAME, found)
            } else {
                Check::warn(
                    NAME,
                    format!("{found}; pages share memory through files instead"),
                    "in Docker --shm-size=2g, in Kubernetes an emptyDir of medium Memory",
                )
            }
        }
        Err(error) => Check::warn(
            NAME,
            format!("/dev/shm: {error}; pages share memory through files instead"),
            "mount a tmpfs at /dev/shm",
        ),
    }
}

fn processes(capacity: u32) -> Check {
    const NAME: &str = "processes";
    let needed = TASKS_PER_BROWSER * u64::from(capacity);
    let limit = [cgroup_limit("pids.max"), getrlimit(Resource::Nproc).current]
        .into_iter()
        .flatten()
        .chain(number_in("/proc/sys/kernel/threads-max"))
        .min();
    match limit {
        Some(limit) if limit < needed => Check::warn(
            NAME,
            format!("{limit} processes and threads allowed, {capacity} sessions want {needed}"),
            "raise the limit (ulimit -u, Docker --pids-limit, systemd TasksMax), or lower --capacity",
        ),
        Some(limit) => Check::ok(NAME, format!("{limit} processes and threads allowed")),
        None => Check::ok(NAME, "as many as there is memory for"),
    }
}

fn descriptors() -> Check {
    const NAME: &str = "descriptors";
    match getrlimit(Resource::Nofile).maximum {
        Some(limit) if limit < DESCRIPTORS_MIN => Check::warn(
            NAME,
            format!("{limit} open files allowed"),
            format!("raise the limit to {DESCRIPTORS_MIN} or more (ulimit -n)"),
        ),
        Some(limit) => Check::ok(NAME, format!("{limit} open files allowed")),
        None => Check::ok(NAME, "as many open files as wanted"),
    }
}

fn memory(capacity: u32) -> Check {
    const NAME: &str = "memory";
    let needed = MEMORY_PER_BROWSER * u64::from(capacity);
    let Some(free) = free_memory() else {
        return Check::warn(NAME, "/proc/meminfo cannot be read", "mount /proc");
    };
    let found = format!("{} available", size(free));
    if free >= needed {
        Check::ok(NAME, found)
    } else {
        Check::warn(
            NAME,
            format!("{found}, {capacity} sessions want {}", size(needed)),
            "lower --capacity",
        )
    }
}

fn free_memory() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let free = line.split_ascii_whitespace().next()?.parse::<u64>().ok()? << 10;
    let in_cgroup = cgroup_limit("memory.max").map(|limit| {
        limit.saturating_sub(
            cgroup_file("memory.current").and_then(|text| parse(&text)).unwrap_or(0),
        )
    });
    Some(in_cgroup.map_or(free, |limit| limit.min(free)))
}

fn fonts() -> Check {
    const NAME: &str = "fonts";
    const PLACES: [&str; 2] = ["/usr/share/fonts", "/usr/local/share/fonts"];
    let count: usize = PLACES.iter().map(|place| fonts_below(Path::new(place), 4)).sum();
    if count > 0 {
        Check::ok(NAME, format!("{count} files"))
    } else {
        Check::warn(
            NAME,
            "none: text shows as boxes",
            "on Debian: apt install fonts-liberation fonts-noto-color-emoji fonts-noto-cjk",
        )
    }
}

fn fonts_below(directory: &Path, depth: u32) -> usize {
    let Some(depth) = depth.checked_sub(1) else { return 0 };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let one = |path: PathBuf| {
        if path.is_dir() {
            return fonts_below(&path, depth);
        }
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        usize::from(["ttf", "otf", "ttc", "pfb"].iter().any(|known| extension == *known))
    };
    entries.map(|entry| one(entry.path())).sum()
}

/// Starts a browser as an agent would, in a directory of its own: a running agent notices
/// nothing.
async fn start(subject: &Subject, isolation: Isolation) -> Check {
    const NAME: &str = "start";
    let made = !subject.data_dir.exists();
    // No longer than the directory's usual name: the length of the path matters.
    let root = subject.data_dir.join(format!("d{}", std::process::id()));
    let opened = Launcher::open(&subject.browser, &root, isolation, Policy::default());
    let check = match opened.await {
        Ok(launcher) => {
            let check = match launcher.launch(&LaunchOptions::default()).await {
                Ok(browser) => {
                    let found =
                        format!("{} in {} ms", browser.version, browser.start_time.as_millis());
                    browser.close().await;
                    Check::ok(NAME, found)
                }
                Err(error) => Check::fail(NAME, error.to_string(), remedy(&error)),
            };
            launcher.cleared().await;
            check
        }
        Err(error) => Check::fail(
            NAME,
            format!("{error:#}"),
            "mend the directory, or choose another --data-dir",
        ),
    };
    let _ = fs::remove_dir(&root);
    if made {
        let _ = fs::remove_dir(&subject.data_dir);
    }
    check
}

fn remedy(error: &LaunchError) -> &'static str {
    match error {
        LaunchError::NotFound(_) | LaunchError::NotExecutable { .. } => {
            "name a browser that every user can run with --browser"
        }
        LaunchError::NoUser(_) | LaunchError::Spawn(_) => {
            "allow the agent to change users (CAP_SETUID, CAP_SETGID), or do not run it as root"
        }
        LaunchError::Directory { .. } => "free space, or choose another --data-dir",
        LaunchError::Exited { stderr, .. } if is_about_sandbox(stderr) => {
            "allow user namespaces; if this machine cannot, --no-sandbox is the last resort"
        }
        LaunchError::Exited { stderr, .. } if stderr.contains("shared libraries") => {
            "install the libraries the browser needs (ldd names them)"
        }
        _ => "run again with VENTUS_LOG=debug to see what the browser says",
    }
}

/// The process that makes sandboxes ends when it cannot.
fn is_about_sandbox(stderr: &str) -> bool {
    ["sandbox", "Zygote process exited"].iter().any(|sign| stderr.contains(sign))
}

fn number_in(path: &str) -> Option<u64> {
    parse(&fs::read_to_string(path).ok()?)
}

fn parse(text: &str) -> Option<u64> {
    text.trim().parse().ok() // "max" is no limit
}

/// A limit of our cgroup (v2), if there is one.
fn cgroup_limit(file: &str) -> Option<u64> {
    parse(&cgroup_file(file)?)
}

fn cgroup_file(file: &str) -> Option<String> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    fs::read_to_string(Path::new("/sys/fs/cgroup").join(path).join(file)).ok()
}

fn size(bytes: u64) -> String {
    if bytes >= 10 << 30 { format!("{} GiB", bytes >> 30) } else { format!("{} MiB", bytes >> 20) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::browser::testing::{CHROMIUM, Place};

    fn subject(place: &Place) -> Subject {
        Subject {
            browser: CHROMIUM.into(),
            data_dir: place.path().join("data"),
            capacity: 1,
            no_sandbox: false,
            isolation: Strictness::BestEffort,
        }
    }

    #[tokio::test]
    async fn a_machine_that_runs_browsers_passes_and_is_left_as_it_was() {
        let place = Place::new();
        let subject = subject(&place);
        let checks = run(&subject).await;
        assert!(checks.iter().all(|check| check.outcome != Outcome::Fail), "{checks:#?}");
        let start = checks.last().unwrap();
        assert!(start.found.contains("Chrome/"), "{start:?}");
        assert!(!subject.data_dir.exists());
    }

    #[tokio::test]
    async fn a_missing_browser_fails_with_a_remedy() {
        let place = Place::new();
        let checks = run(&Subject { browser: "/nowhere/chrome".into(), ..subject(&place) }).await;
        assert_eq!(checks[0].outcome, Outcome::Fail);
        assert!(checks[0].remedy.as_ref().unwrap().contains("install"));
        assert!(checks.iter().all(|check| check.name != "start"));
    }

    #[tokio::test]
    async fn a_browser_that_does_not_come_up_fails() {
        let place = Place::new();
        let browser = place.script("echo '[1:1:FATAL:x.cc:1] No usable sandbox!' >&2; exit 1");
        // The jail runs no scripts.
        let start = start(&Subject { browser, ..subject(&place) }, Isolation::none()).await;
        assert_eq!(start.outcome, Outcome::Fail);
        assert!(start.found.contains("No usable sandbox"), "{start:?}");
        assert!(start.remedy.unwrap().contains("user namespaces"));
    }

    #[test]
    fn too_much_for_the_machine_is_a_warning() {
        assert_eq!(memory(1_000_000).outcome, Outcome::Warn);
        assert_eq!(processes(100_000_000).outcome, Outcome::Warn);
        assert_eq!(memory(0).outcome, Outcome::Ok);
    }

    #[test]
    fn a_directory_that_bars_the_way_is_named() {
        if !geteuid().is_root() {
            return; // browsers share the agent's user then
        }
        let place = Place::new();
        let barred = place.path().join("barred");
        fs::create_dir(&barred).unwrap();
        fs::set_permissions(&barred, fs::Permissions::from_mode(0o700)).unwrap();
        let check = data_dir(&barred.join("not/there/yet"));
        assert_eq!(check.outcome, Outcome::Fail);
        assert!(check.remedy.unwrap().contains(&barred.display().to_string()));
    }
}
