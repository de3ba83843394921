//! `ventus session`: browsers, by their sessions.

mod create;
mod events;
mod files;
mod list;
mod show;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use proto::id::{ProfileId, SessionId};
use serde_json::{Value, json};

use self::show::Session;
pub use self::{create::storage_state, show::bytes};
use super::{
    Answer, Api, EXIT_CODES, Error, Options, Request, Said, error::Result, profile::Profile, report,
};

/// Flags of `ventus session`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start a browser, and say where CDP clients connect
    Create(Box<create::Wanted>),
    /// List sessions, newest first
    #[command(visible_alias = "ls")]
    List(list::Wanted),
    /// Show one session
    Get {
        /// The session
        id: SessionId,
    },
    /// End sessions, and their browsers
    Release {
        /// The sessions
        #[arg(required = true)]
        id: Vec<SessionId>,
    },
    /// Print where CDP clients connect, and nothing else
    ConnectUrl {
        /// The session
        id: SessionId,
    },
    /// Show what happened to a session
    Events {
        /// The session
        id: SessionId,
        /// Go on until the session is over, one event a line
        #[arg(long, short)]
        follow: bool,
    },
    /// Restart a session's keep-alive timer
    Keepalive {
        /// The session
        id: SessionId,
        /// Move its deadline by this many seconds, too
        #[arg(long, value_name = "SECONDS")]
        extend: Option<u32>,
    },
    /// Keep a session's cookies and storage as a profile
    SaveProfile(Saved),
    /// Put files where a session's browser can upload them from
    Upload(files::Upload),
    /// List what a session's browser has downloaded, newest first
    Downloads(files::Downloads),
    /// Get a file that a session's browser has downloaded
    Download(files::Download),
    /// Kill a session's browser at once (needs a key with the scope admin)
    ForceStop {
        /// The session
        id: SessionId,
    },
}

/// Where a session's state goes.
#[derive(Debug, Args)]
struct Saved {
    /// The session
    id: SessionId,
    #[command(flatten)]
    to: Target,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// A new profile of this name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A profile that there is, in place of what it holds
    #[arg(long, value_name = "ID")]
    profile: Option<ProfileId>,
}

/// Runs one of them.
pub async fn run(arguments: Arguments) -> ExitCode {
    let Arguments { options, action } = arguments;
    report(options.json, async { action.run(&options.with_key()?, options.json).await }).await
}

impl Action {
    async fn run(self, api: &Api, json: bool) -> Result<Said> {
        match self {
            Self::Create(wanted) => wanted.create(api).await,
            Self::List(wanted) => wanted.list(api).await,
            Self::Get { id } => shown(api.send(Request::get(path(id, ""))).await?),
            Self::Release { id } => Ok(release(api, id).await),
            Self::ConnectUrl { id } => connect_url(api, id).await,
            Self::Events { id, follow: false } => events::once(api, id).await,
            Self::Events { id, follow: true } => events::follow(api, id, json).await,
            Self::Keepalive { id, extend } => keepalive(api, id, extend).await,
            Self::SaveProfile(saved) => saved.save(api).await,
            Self::Upload(files) => Ok(files.put(api).await),
            Self::Downloads(wanted) => wanted.list(api).await,
            Self::Download(wanted) => wanted.get(api).await,
            Self::ForceStop { id } => force_stop(api, id).await,
        }
    }
}

/// The path of a session, or of something of it.
fn path(id: SessionId, rest: &str) -> String {
    format!("/v1/sessions/{id}{rest}")
}

/// A session as a whole.
fn shown(answer: Answer) -> Result<Said> {
    let session: Session = answer.read()?;
    Ok(Said::new(answer, session.card()))
}

async fn release(api: &Api, ids: Vec<SessionId>) -> Said {
    Said::each(ids, |id| async move {
        api.send(Request::delete(path(id, ""))).await?;
        Ok(format!("released {id}"))
    })
    .await
}

async fn connect_url(api: &Api, id: SessionId) -> Result<Said> {
    let answer = api.send(Request::get(path(id, ""))).await?;
    let session: Session = answer.read()?;
    match session.connect_url {
        Some(url) => Ok(Said::new(answer, url)),
        None => Err(Error::Over(format!("the session is over: {}", session.ending()))),
    }
}

async fn keepalive(api: &Api, id: SessionId, extend: Option<u32>) -> Result<Said> {
    let body = extend.map_or(json!({}), |seconds| json!({ "extend_seconds": seconds }));
    let mut request = Request::post(path(id, "/keepalive")).json(&body)?;
    if extend.is_none() {
        request = request.repeatable();
    }
    shown(api.send(request).await?)
}

async fn force_stop(api: &Api, id: SessionId) -> Result<Said> {
    api.send(Request::post(path(id, "/force-stop")).repeatable()).await?;
    Ok(Said::done(format!("stopped {id}")))
}

impl Saved {
    async fn save(self, api: &Api) -> Result<Said> {
        let Target { name, profile } = self.to;
        let body: Value = match profile {
            Some(id) => json!({ "profile_id": id }),
            None => json!({ "name": name }),
        };
        let request = Request::post(path(self.id, "/save-profile")).patience(show::SAVE);
        let answer = api.send(request.json(&body)?).await?;
        let profile: Profile = answer.read()?;
        Ok(Said::new(answer, profile.card()))
    }
}

#[cfg(test)]
mod tests;
