//! Memory that processes take, as `/proc` tells it.

use std::fs;

use crate::process::Process;

/// What processes hold, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All pages that are there, with those that others have, too.
    pub resident: u64,
    /// Each page by its share: what many have is counted once over all of them.
    pub proportional: u64,
}

impl Memory {
    /// Of one process. Nothing if it is not there.
    pub fn of(pid: u32) -> Self {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        Self::read(&text)
    }

    /// Of many processes together.
    pub fn of_all(processes: &[Process]) -> Self {
        let each = processes.iter().map(|process| Self::of(process.pid.cast_unsigned()));
        each.fold(Self::default(), |sum, one| Self {
            resident: sum.resident + one.resident,
            proportional: sum.proportional + one.proportional,
        })
    }

    /// From `/proc/<pid>/smaps_rollup` (proc_pid_smaps(5)), which counts in KiB.
    fn read(text: &str) -> Self {
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            kib.unwrap_or_default() << 10
        };
        Self { resident: bytes("Rss:"), proportional: bytes("Pss:") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rollup_of_a_process_is_read() {
        let text = "5603-7ffc ---p 00000000 00:00 0 [rollup]\nRss:   1732 kB\nPss:    200 kB\n\
                    Pss_Dirty:  100 kB\n";
        assert_eq!(Memory::read(text), Memory { resident: 1_732 << 10, proportional: 200 << 10 });
        let own = Memory::of(std::process::id());
        assert!(own.resident >= own.proportional && own.proportional > 1 << 20, "{own:?}");
        assert_eq!(Memory::of(0), Memory::default());
    }
}
