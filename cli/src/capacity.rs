//! How many sessions a machine takes when nobody says.

use std::{fs, thread};

/// Memory that one session is reckoned with. An ordinary page takes 250 to 400 MiB.
const SESSION_BYTES: u64 = 512 << 20;
/// Memory left to the system and to ventus itself.
const RESERVED_BYTES: u64 = 1 << 30;
/// Sessions per core: a browser mostly waits, but not always.
const SESSIONS_PER_CORE: u64 = 8;
/// The most that is taken without being asked for.
const MOST: u64 = 64;

/// The capacity of this machine, or of the container around this process.
pub fn of_this_machine() -> u32 {
    let cores = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    capacity(memory_bytes(), cores)
}

fn capacity(memory_bytes: u64, cores: u64) -> u32 {
    let by_memory = memory_bytes.saturating_sub(RESERVED_BYTES) / SESSION_BYTES;
    let sessions = by_memory.min(cores * SESSIONS_PER_CORE).clamp(1, MOST);
    u32::try_from(sessions).unwrap_or(1)
}

/// The machine's memory, or the control group's limit where that is lower.
fn memory_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    machine.unwrap_or(0).min(limit.unwrap_or(u64::MAX))
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_cores_bound_the_capacity() {
        let gib = 1 << 30;
        assert_eq!(capacity(0, 1), 1);
        assert_eq!(capacity(3 * gib, 4), 4);
        assert_eq!(capacity(24 * gib, 2), 16);
        assert_eq!(capacity(512 * gib, 128), 64);
    }

    #[test]
    fn the_total_of_meminfo_is_in_bytes() {
        assert_eq!(total("MemTotal:       24576 kB\nMemFree: 1 kB\n"), Some(24 << 20));
        assert_eq!(total("MemFree: 1 kB\n"), None);
    }
}
