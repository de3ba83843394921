//! A control group (cgroup v2) for every browser, below the agent's own.
//!
//! ```text
//! <what the agent was given>     agent/          the agent itself
//!                                browser-3FQ8ZK2M/   one browser, with its limits
//! ```
//!
//! A group with controllers holds no processes (kernel.org, "no internal process"
//! constraint), so the agent moves into one of its own first. It does so only where the
//! group was given to it: by a delegation of systemd (`Delegate=yes`), by being a container's
//! root, or by belonging to its user.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{Access, access, getxattr},
    process::{Pid, geteuid},
};

use super::{Excess, Limits, bound, mebibytes, memory::field};

/// The agent's own group, below the one that it was given. systemd can make it
/// (`DelegateSubgroup=agent`).
const OWN: &str = "agent";
const PREFIX: &str = "browser-";

/// Length of the period of `cpu.max`, in microseconds: the kernel's default.
const PERIOD_US: u64 = 100_000;

/// The group that was given to this process.
pub struct Given {
    base: PathBuf,
    /// The process is in one of its own below it already.
    inside: bool,
    cpu: bool,
}

/// The group that holds those of the browsers.
pub struct Cgroups {
    base: PathBuf,
    cpu: bool,
}

/// One browser's group. Removed when the last copy is dropped.
#[derive(Clone, Debug)]
pub struct Leaf(Arc<Group>);

#[derive(Debug)]
struct Group {
    path: PathBuf,
}

impl Given {
    /// Looks, and changes nothing. The error says why there is none.
    pub fn find() -> Result<Self, String> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let own = own_group(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
            .ok_or("there is no cgroup v2 on this machine")?;
        let above = own.parent().filter(|base| own.ends_with(OWN) && is_given(base));
        let (base, inside) = match above {
            Some(base) => (base.to_path_buf(), true),
            None => (own, false),
        };
        let shown = base.display();
        if !is_given(&base) {
            return Err(format!("{shown} was not delegated to the agent (systemd: Delegate=yes)"));
        }
        if !is_writable(&base.join("cgroup.procs")) {
            return Err(format!("{shown} may only be read, as in a container without privileges"));
        }
        let cpu = has_controllers(&base)?;
        Ok(Self { base, inside, cpu })
    }

    /// Whether it may divide processor time, too.
    pub fn has_cpu(&self) -> bool {
        self.cpu
    }
}

impl Cgroups {
    /// Takes up the group that was given to this process. The error says why not.
    pub fn claim() -> Result<Self, String> {
        let Given { base, inside, .. } = Given::find()?;
        if inside {
            return Self::open(&base);
        }
        // The root of them all may hold processes.
        if base.join("cgroup.type").exists() {
            let own = base.join(OWN);
            let moved = make(&own).and_then(|()| write(&own, "cgroup.procs", "0"));
            moved.map_err(|error| {
                format!("the agent cannot move below {}: {error}", base.display())
            })?;
        }
        Self::open(&base).inspect_err(|_| {
            let _ = write(&base, "cgroup.procs", "0");
            let _ = fs::remove_dir(base.join(OWN));
        })
    }

    /// Hands the controllers down to the groups of browsers.
    fn open(base: &Path) -> Result<Self, String> {
        let cpu = has_controllers(base)?;
        write(base, "cgroup.subtree_control", "+memory +pids").map_err(|error| {
            let shown = base.display();
            match error.kind() {
                io::ErrorKind::ResourceBusy => {
                    format!("other processes than the agent are in {shown}")
                }
                _ => format!("{shown} cannot hand its controllers down: {error}"),
            }
        })?;
        let cpu = cpu && write(base, "cgroup.subtree_control", "+cpu").is_ok();
        for entry in fs::read_dir(base).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                // Left by an earlier run; one that is in use cannot be removed.
                let _ = fs::remove_dir(entry.path());
            }
        }
        Ok(Self { base: base.to_path_buf(), cpu })
    }

    /// Whether processor time is shared by groups, too.
    pub fn cpu(&self) -> bool {
        self.cpu
    }

    /// Makes the group of a browser.
    pub fn leaf(&self, name: &str, limits: &Limits) -> io::Result<Leaf> {
        let path = self.base.join(format!("{PREFIX}{name}"));
        make(&path)?;
        let leaf = Leaf(Arc::new(Group { path }));
        let path = &leaf.0.path;
        if let Some(bytes) = mebibytes(limits.memory_mb) {
            write(path, "memory.max", &bytes.to_string())?;
            // Absent where the kernel does not account for swap.
            let _ = write(path, "memory.swap.max", "0");
        }
        write(path, "memory.oom.group", "1")?;
        if let Some(tasks) = bound(limits.processes) {
            write(path, "pids.max", &tasks.to_string())?;
        }
        if let Some(percent) = bound(limits.cpu_percent).filter(|_| self.cpu) {
            write(path, "cpu.max", &format!("{} {PERIOD_US}", percent * PERIOD_US / 100))?;
        }
        Ok(leaf)
    }
}

impl Leaf {
    /// Takes a process in; what it starts from then on is in, too.
    pub fn take(&self, process: Pid) -> io::Result<()> {
        write(&self.0.path, "cgroup.procs", &process.to_string())
    }

    /// The memory that all in it takes, in bytes.
    pub fn memory_bytes(&self) -> Option<u64> {
        fs::read_to_string(self.0.path.join("memory.current")).ok()?.trim().parse().ok()
    }

    /// Kills all that is in it.
    pub fn kill(&self) {
        // Fails where the kernel is older than 5.14: then processes are looked for.
        let _ = write(&self.0.path, "cgroup.kill", "1");
    }

    /// The limit that the kernel had to hold it to by force, if there was one.
    pub fn excess(&self, limits: &Limits) -> Option<Excess> {
        let events = |file: &str, name: &str| {
            field(&fs::read_to_string(self.0.path.join(file)).ok()?, name).filter(|n| *n > 0)
        };
        if let Some(limit) = mebibytes(limits.memory_mb)
            && events("memory.events", "oom_kill ").is_some()
        {
            return Some(Excess::Memory(limit, limit));
        }
        let limit = bound(limits.processes)?;
        events("pids.events", "max ").map(|_| Excess::Processes(limit, limit))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // By now nothing runs in it. If it does, the next start removes it.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Where the group of this process is, from `mountinfo` and `cgroup` of `/proc/self`.
fn own_group(mounts: &str, groups: &str) -> Option<PathBuf> {
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    // Outside what is mounted here the path begins with "/..".
    let below = Path::new(path).strip_prefix(root).ok()?;
    let inside = !below.components().any(|part| part.as_os_str() == "..");
    inside.then(|| Path::new(point).join(below))
}

/// Whether this process shares the processor by a group below the root of the `cpu` controller,
/// of whichever version.
pub fn divides_cpu() -> bool {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let groups = read("/proc/self/cgroup");
    let first = groups.lines().find_map(group_of_cpu);
    if let Some(path) = first {
        return path != "/";
    }
    let own = own_group(&read("/proc/self/mountinfo"), &groups);
    // Absent at the root of them all; above where this is mounted nothing can be seen.
    own.is_none_or(|own| own.ancestors().any(|group| group.join("cpu.weight").exists()))
}

/// The path in a line of `/proc/self/cgroup`, if that is about the `cpu` controller of version 1.
fn group_of_cpu(line: &str) -> Option<&str> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    controllers.split(',').any(|name| name == "cpu").then_some(path)
}

/// Whether this process may rule over a group.
fn is_given(group: &Path) -> bool {
    let Ok(about) = fs::metadata(group) else { return false };
    // The root of the hierarchy, or of a container's part of it.
    let is_root = fs::metadata(group.join("..")).is_ok_and(|above| above.dev() != about.dev());
    let delegated = ["user.delegate", "trusted.delegate"].iter().any(|name| {
        let mut value = [0; 1];
        getxattr(group, *name, &mut value[..]).is_ok_and(|length| value[..length] == *b"1")
    });
    let own = !geteuid().is_root() && about.uid() == geteuid().as_raw();
    is_root || delegated || own
}

fn is_writable(file: &Path) -> bool {
    access(file, Access::WRITE_OK).is_ok()
}

/// Whether the needed controllers are there, and whether `cpu` is.
fn has_controllers(group: &Path) -> Result<bool, String> {
    let there = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    let has = |name| there.split_ascii_whitespace().any(|controller| controller == name);
    if has("memory") && has("pids") {
        return Ok(has("cpu"));
    }
    Err(format!("{} has not the controllers memory and pids", group.display()))
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn write(group: &Path, file: &str, text: &str) -> io::Result<()> {
    // Never made: every file of a group is there from its beginning.
    let mut file = fs::OpenOptions::new().write(true).open(group.join(file))?;
    io::Write::write_all(&mut file, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_where_it_is_mounted() {
        let line =
            |root, point| format!("30 23 0:26 {root} {point} rw,nosuid - cgroup2 cgroup2 rw");
        let own = |mounts: &str, path: &str| own_group(mounts, &format!("9:pids:/x\n0::{path}\n"));
        let whole = line("/", "/sys/fs/cgroup");
        assert_eq!(own(&whole, "/a/b"), Some("/sys/fs/cgroup/a/b".into()));
        assert_eq!(own(&whole, "/"), Some("/sys/fs/cgroup".into()));
        assert_eq!(own(&whole, "/../x"), None);
        let part = line("/docker/x", "/sys/fs/cgroup");
        assert_eq!(own(&part, "/docker/x/y"), Some("/sys/fs/cgroup/y".into()));
        assert_eq!(own(&part, "/elsewhere"), None);
        assert_eq!(own("", "/"), None);
    }

    #[test]
    fn the_group_of_the_processor_is_told_from_others() {
        assert_eq!(group_of_cpu("4:cpu,cpuacct:/docker/x"), Some("/docker/x"));
        assert_eq!(group_of_cpu("1:cpu:/"), Some("/"));
        assert_eq!(group_of_cpu("2:cpuacct:/y"), None);
        assert_eq!(group_of_cpu("3:cpuset:/y"), None);
        assert_eq!(group_of_cpu("0::/z"), None);
    }

    #[test]
    fn what_may_only_be_read_is_told_apart_for_root_too() {
        assert!(is_writable(tempfile::NamedTempFile::new().unwrap().path()));
        assert!(!is_writable(Path::new("/proc/sys/kernel/osrelease")));
        assert!(!is_writable(Path::new("/nowhere/cgroup.procs")));
    }

    #[test]
    fn what_the_kernel_did_is_read_from_its_events() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leaf");
        fs::create_dir(&path).unwrap();
        let leaf = Leaf(Arc::new(Group { path: path.clone() }));
        let limits = Limits { memory_mb: 64, processes: 10, ..Limits::NONE };
        assert_eq!(leaf.excess(&limits), None);
        fs::write(path.join("memory.events"), "low 0\nmax 7\noom 0\noom_kill 0\n").unwrap();
        fs::write(path.join("pids.events"), "max 0\n").unwrap();
        assert_eq!(leaf.excess(&limits), None);
        fs::write(path.join("pids.events"), "max 3\n").unwrap();
        assert_eq!(leaf.excess(&limits), Some(Excess::Processes(10, 10)));
        fs::write(path.join("memory.events"), "max 7\noom_kill 2\noom_group_kill 1\n").unwrap();
        assert_eq!(leaf.excess(&limits), Some(Excess::Memory(64 << 20, 64 << 20)));
    }
}
