//! The operator's commands: they work on a server's own database and master key, whether it
//! runs or not, and need nobody to be signed in.

pub mod join_token;
pub mod keys;
pub mod region;
mod workspace;

use std::{
    env, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use ::control_plane::db::Db;
use clap::{Args, Subcommand};
use rustix::process::geteuid;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{client::when, control_plane::Database, data_dir, style::say, usage};

/// Flags of `ventus operator`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// See, close and open all workspaces, whoever is in them
    Workspace(workspace::Arguments),
}

/// Runs one of them.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.action {
        Action::Workspace(arguments) => workspace::run(arguments).await,
    }
}

/// Where the server keeps its things.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Options {
    #[command(flatten)]
    data_dir: data_dir::Options,
    #[command(flatten)]
    database: Database,
}

/// The same for commands that can print JSON.
#[derive(Debug, Args)]
#[group(skip)]
pub struct OptionsWithJson {
    #[command(flatten)]
    server: Options,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a command has to say, in both ways.
struct Told {
    people: String,
    json: Value,
}

impl Told {
    fn say(&self, json: bool) {
        if json { say(&self.json.to_string()) } else { say(&self.people) }
    }
}

/// A time of the store's, RFC 3339.
fn time(us: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1000).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

/// The same for people.
fn for_people(us: i64) -> String {
    when(&time(us))
}

impl Options {
    /// Opens what a server has stored. Nothing is made anew: a wrong directory shall not get
    /// a database of its own.
    pub async fn open(&self) -> anyhow::Result<Db> {
        let url = self.database.url(&self.data_dir.path()?);
        if let Some(path) = url.strip_prefix("sqlite://") {
            may_use(Path::new(path))?;
        }
        Db::open(&url).await
    }

    /// The data directory, where there is a master key, in it or in the environment.
    pub fn with_master_key(&self) -> anyhow::Result<PathBuf> {
        let dir = self.data_dir.path()?;
        if env::var_os("VENTUS_MASTER_KEY").is_none() {
            may_use(&dir.join("master.key"))?;
        }
        Ok(dir)
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
