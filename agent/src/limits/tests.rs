use super::*;

#[test]
fn what_was_too_much_is_said_with_its_figures() {
    let mb = |mb: u64| mb << 20;
    for (excess, text) in [
        (Excess::Memory(mb(2100), mb(2048)), "memory: 2100 MB of 2048 MB"),
        (Excess::Processes(2010, 2000), "processes and threads: 2010 of 2000"),
        (Excess::Disk(mb(50) + 1, mb(50)), "disk: 51 MB of 50 MB"),
    ] {
        assert_eq!(excess.to_string(), text);
    }
}

#[test]
fn zero_is_no_bound() {
    assert_eq!(Limits::NONE.bandwidth_bytes(), None);
    assert_eq!(Limits::NONE.starting_bytes(), STARTING_BYTES);
    assert_eq!(Limits::default().bandwidth_bytes(), Some(125_000_000));
}

/// What a shell does, in a process group of its own; killed when dropped.
struct Shell(std::process::Child);

impl Shell {
    fn run(script: &str) -> Self {
        use std::os::unix::process::CommandExt;
        let command =
            std::process::Command::new("sh").args(["-c", script]).process_group(0).spawn();
        Self(command.unwrap())
    }

    fn leader(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process_group(self.leader(), rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}

/// Runs a script under limits and waits until it is over one.
async fn excess_of(script: &str, limits: Limits) -> Excess {
    let directory = tempfile::tempdir().unwrap();
    let shell = Shell::run(&script.replace("HERE", &directory.path().display().to_string()));
    // Without a cgroup, also where there is one.
    let watchdog = Watchdog::start(limits);
    let limiter = Limiter { limits, cgroups: Err(String::new()), watchdog };
    let limited = limiter.hold(Subject {
        name: "shell".into(),
        leader: shell.leader(),
        user: None,
        directory: directory.path().to_path_buf(),
    });
    let excess = crate::sessions::testing::soon(limited.exceeded()).await;
    assert_eq!(limited.cause_of_end(), Some(excess));
    excess
}

#[tokio::test]
async fn who_takes_too_much_memory_is_told_apart() {
    // `tail` keeps what has no end of line.
    let limits = Limits { memory_mb: 64, ..Limits::NONE };
    let script = "{ head -c 90000000 /dev/zero; sleep 60; } | tail > /dev/null";
    let Excess::Memory(used, limit) = excess_of(script, limits).await else { panic!() };
    assert!(used > limit && limit == 64 << 20);
}

#[tokio::test]
async fn who_starts_too_many_processes_is_told_apart() {
    let limits = Limits { processes: 5, ..Limits::NONE };
    let script = "for n in 1 2 3 4 5 6 7 8; do sleep 60 & done; wait";
    let Excess::Processes(used, 5) = excess_of(script, limits).await else { panic!() };
    assert!((6..=9).contains(&used), "{used}");
}

#[tokio::test]
async fn who_fills_the_disk_is_told_apart() {
    let limits = Limits { disk_mb: 8, ..Limits::NONE };
    let script = "head -c 20000000 /dev/zero > HERE/large; sleep 60";
    let Excess::Disk(used, limit) = excess_of(script, limits).await else { panic!() };
    assert!(used > limit && limit == 8 << 20);
}

#[tokio::test]
async fn a_browser_gives_way_to_the_agent() {
    let shell = Shell::run("sleep 60");
    let limits = Limits::NONE;
    let limiter =
        Limiter { limits, cgroups: Err(String::new()), watchdog: Watchdog::start(limits) };
    let subject =
        Subject { name: String::new(), leader: shell.leader(), user: None, directory: "/x".into() };
    let _limited = limiter.hold(subject);
    assert_eq!(rustix::process::getpriority_process(Some(shell.leader())).unwrap(), order::NICE);
}
