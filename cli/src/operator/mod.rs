//! The operator's commands: they work on a server's own database and master key, whether it
//! runs or not, and need nobody to be signed in.

pub mod keys;

use std::{env, fs, os::unix::fs::MetadataExt, path::Path};

use ::control_plane::{db::Db, secrets::Secrets};
use clap::Args;
use rustix::process::geteuid;

use crate::{control_plane::Database, data_dir, usage};

/// Where the server keeps its things.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Options {
    #[command(flatten)]
    data_dir: data_dir::Options,
    #[command(flatten)]
    database: Database,
}

impl Options {
    /// Opens what a server has stored. Nothing is made anew: a wrong directory shall not get
    /// a database or a master key of its own.
    pub async fn open(&self) -> anyhow::Result<(Db, Secrets)> {
        let dir = self.data_dir.path()?;
        let url = self.database.url(&dir);
        if let Some(path) = url.strip_prefix("sqlite://") {
            may_use(Path::new(path))?;
        }
        if env::var_os("VENTUS_MASTER_KEY").is_none() {
            may_use(&dir.join("master.key"))?;
        }
        let secrets = Secrets::open(&dir)?;
        Ok((Db::open(&url).await?, secrets))
    }
}

/// Refuses to go on with a file that is not there, or that is another user's: whatever SQLite
/// makes beside it would be ours, and the server could not use it.
fn may_use(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let about = fs::metadata(path)
        .map_err(|error| usage(format!("no server has stored anything here: {shown}: {error}")))?;
    if about.uid() != geteuid().as_raw() {
        return Err(usage(format!("{shown} is another user's: run this as the server's user")));
    }
    Ok(())
}
