//! What the processes of browsers take, read from `/proc` (proc_pid_stat(5)).

use std::{collections::HashMap, fs, os::unix::fs::MetadataExt};

use rustix::process::Pid;

use super::memory::field;

/// How a browser's processes are known.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mark {
    /// By the user that only they have.
    User(u32),
    /// By their process group.
    Group(i32),
}

/// What the processes of one browser take together.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Taken {
    /// Processes and threads.
    pub tasks: u64,
    /// Processor time of those that live, in clock ticks.
    pub ticks: u64,
    /// Their memory in bytes, what they share among them counted for each: never too little.
    pub resident_bytes: u64,
    pids: Vec<i32>,
}

impl Taken {
    /// Memory in bytes, what is shared counted in shares. Takes the kernel a walk through all
    /// of it, so it is asked for only when there may be too much.
    pub fn own_bytes(&self) -> u64 {
        let own = |pid: &i32| {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            Some(1024 * (field(&text, "Pss_Anon:")? + field(&text, "Pss_Shmem:")?))
        };
        self.pids.iter().filter_map(own).sum()
    }

    /// The processes' ids.
    pub fn processes(&self) -> &[i32] {
        &self.pids
    }

    /// Their threads, those that still live.
    pub fn threads(&self) -> impl Iterator<Item = Pid> {
        let of = |pid: &i32| fs::read_dir(format!("/proc/{pid}/task"));
        let names = self.pids.iter().filter_map(move |pid| of(pid).ok()).flatten().flatten();
        names.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
    }
}

/// What the processes of each browser take. With `memory` left out, only what is cheap to know.
pub fn taken(marks: &[Mark], memory: bool) -> HashMap<Mark, Taken> {
    let mut taken: HashMap<Mark, Taken> =
        marks.iter().map(|mark| (*mark, Taken::default())).collect();
    let by_group = marks.iter().any(|mark| matches!(mark, Mark::Group(_)));
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(about) = entry.metadata() else { continue };
        let mark = Mark::User(about.uid());
        if !by_group && !taken.contains_key(&mark) {
            continue;
        }
        let Some(process) = fs::read(format!("/proc/{pid}/stat")).ok().and_then(|s| stat(&s))
        else {
            continue;
        };
        let mark = if taken.contains_key(&mark) { mark } else { Mark::Group(process.group) };
        let Some(all) = taken.get_mut(&mark) else { continue };
        all.tasks += process.tasks;
        all.ticks += process.ticks;
        all.pids.push(pid);
        if memory && let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) {
            let kib = |name| field(&status, name).unwrap_or(0);
            all.resident_bytes += 1024 * (kib("RssAnon:") + kib("RssShmem:"));
        }
    }
    taken
}

struct Stat {
    group: i32,
    tasks: u64,
    ticks: u64,
}

fn stat(line: &[u8]) -> Option<Stat> {
    // The name in brackets may hold anything, brackets and blanks too.
    let after_name = line.iter().rposition(|&byte| byte == b')')? + 1;
    let fields: Vec<_> =
        std::str::from_utf8(&line[after_name..]).ok()?.split_ascii_whitespace().collect();
    // Counted from the state, which is the third field of the line.
    let number = |field: usize| fields.get(field)?.parse::<u64>().ok();
    let group = fields.get(2)?.parse().ok()?;
    Some(Stat { group, ticks: number(11)? + number(12)?, tasks: number(17)? })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_line_of_proc_is_understood() {
        let line = b"17 (a ) b) S 1 42 42 0 -1 4194560 1 2 3 4 50 60 7 8 20 0 9 0 1 2 3";
        let stat = stat(line).unwrap();
        assert_eq!((stat.group, stat.ticks, stat.tasks), (42, 110, 9));
    }

    #[test]
    fn what_others_take_is_not_counted() {
        use std::os::unix::process::CommandExt;
        let mut child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let group = Mark::Group(child.id().cast_signed());
        let taken = taken(&[group], true);
        let own_bytes = taken[&group].own_bytes();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(taken[&group].tasks, 1);
        assert!(taken[&group].resident_bytes > 0);
        assert!(own_bytes > 0);
    }
}
