//! The flags about what one session may take of the machine.

use agent::limits::Limits;
use clap::Args;

/// What one session may take. One that takes more ends as `resource_limit`.
#[derive(Debug, Args)]
#[group(skip)]
pub struct SessionLimits {
    /// Memory that one session may take, in MiB; 0 is no bound
    #[arg(long, env = "VENTUS_SESSION_MEMORY_MB", value_name = "MB", default_value_t = Limits::default().memory_mb)]
    session_memory_mb: u32,
    /// Processes and threads that one session may have; 0 is no bound
    ///
    /// A page takes about 20, an idle browser 110.
    #[arg(long, env = "VENTUS_SESSION_PROCESSES", value_name = "N", default_value_t = Limits::default().processes)]
    session_processes: u32,
    /// Processor time of one session, in per cent of a core; 0 is no bound
    ///
    /// Kept by the kernel where the agent has a cgroup of its own. Elsewhere a session that
    /// takes more than this, or than its share, lets the others go first.
    #[arg(long, env = "VENTUS_SESSION_CPU_PERCENT", value_name = "PERCENT", default_value_t = Limits::default().cpu_percent)]
    session_cpu_percent: u32,
    /// Disk that the directory of one session may take, in MiB; 0 is no bound
    #[arg(long, env = "VENTUS_SESSION_DISK_MB", value_name = "MB", default_value_t = Limits::default().disk_mb)]
    session_disk_mb: u32,
    /// What may pass between one session and the network, both directions together, in Mbit/s;
    /// 0 is no bound
    #[arg(long, env = "VENTUS_SESSION_BANDWIDTH_MBIT", value_name = "MBIT", default_value_t = Limits::default().bandwidth_mbit)]
    session_bandwidth_mbit: u32,
}

impl SessionLimits {
    /// The limits as the agent takes them.
    pub fn chosen(&self) -> Limits {
        Limits {
            memory_mb: self.session_memory_mb,
            processes: self.session_processes,
            cpu_percent: self.session_cpu_percent,
            disk_mb: self.session_disk_mb,
            bandwidth_mbit: self.session_bandwidth_mbit,
        }
    }
}
