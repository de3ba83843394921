//! Who this agent is: an id that survives restarts, and the right to be the only process
//! that uses it.

use std::{
    fs::{self, TryLockError},
    io::Write,
    path::Path,
};

use anyhow::{Context, bail};
use proto::id::{AgentId, InstanceId};

/// Who this agent is. Its data directory is locked while it lives.
pub(crate) struct Identity {
    pub agent: AgentId,
    pub instance: InstanceId,
    _lock: fs::File,
}

impl Identity {
    /// Takes the data directory for this process and reads the agent's id there, or makes one.
    pub fn claim(data_dir: &Path) -> anyhow::Result<Self> {
        let lock = fs::File::create(data_dir.join("agent.lock"))
            .with_context(|| format!("cannot write to {}", data_dir.display()))?;
        match lock.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => {
                bail!("another agent runs with the data directory {}", data_dir.display())
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).context("cannot lock the data directory");
            }
        }
        let agent = agent_id(data_dir)?;
        Ok(Self { agent, instance: InstanceId::generate(), _lock: lock })
    }
}

fn agent_id(data_dir: &Path) -> anyhow::Result<AgentId> {
    let path = data_dir.join("agent-id");
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().with_context(|| {
            format!("{} holds no agent id; remove it to get a new one", path.display())
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id = AgentId::generate();
            // Complete or not there at all, also after a power loss.
            let draft = data_dir.join("agent-id.new");
            let mut file = fs::File::create(&draft)?;
            writeln!(file, "{id}")?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            fs::File::open(data_dir)?.sync_all()?;
            Ok(id)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_keeps_its_id_and_changes_its_instance() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::claim(dir.path()).unwrap();
        let (agent, instance) = (first.agent, first.instance);
        drop(first);
        let second = Identity::claim(dir.path()).unwrap();
        assert_eq!(second.agent, agent);
        assert_ne!(second.instance, instance);
    }

    #[test]
    fn two_agents_cannot_share_a_data_directory() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Identity::claim(dir.path()).unwrap();
        assert!(Identity::claim(dir.path()).is_err());
    }

    #[test]
    fn a_broken_id_is_not_replaced_in_silence() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("agent-id"), "nonsense\n").unwrap();
        assert!(Identity::claim(dir.path()).is_err());
    }
}
