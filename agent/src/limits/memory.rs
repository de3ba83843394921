//! How much memory is free, for the machine or the container around this process.

use std::fs;

/// Memory that a new process can have without taking it from others, in bytes: what the
/// kernel estimates (proc_meminfo(5)), or what the control group leaves, if that is less.
/// `None` when the system does not say.
pub fn available() -> Option<u64> {
    let machine = field(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")? * 1024;
    Some(machine.min(left_by_group().unwrap_or(u64::MAX)))
}

/// What the limit of a container leaves; its page cache can be had back.
fn left_by_group() -> Option<u64> {
    let read = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
    let limit: u64 = read("memory.max")?.trim().parse().ok()?;
    let used: u64 = read("memory.current")?.trim().parse().ok()?;
    let cache = field(&read("memory.stat")?, "inactive_file").unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(cache)))
}

/// The number behind a name at the beginning of a line.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_says_what_it_has_left() {
        let available = available().unwrap();
        assert!(available > 16 << 20, "{available}");
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "RssAnon:\t   12 kB\nRssShmem:\t    3 kB\n";
        assert_eq!(field(text, "RssShmem:"), Some(3));
        assert_eq!(field(text, "Shmem:"), None);
    }
}
