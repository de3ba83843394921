//! Files on their way to and from agents, by the agent protocol.

use std::{pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt};
use proto::{
    agent::{FileChunk, FileHeader, KeepFile, Kept, keep_file::Part},
    id::{AgentId, SessionId},
};
use tokio::time::timeout;
use tonic::{Status, Streaming};
use tracing::error;

use super::{
    Kind, Source,
    content::{self, New, Writer},
    name, store,
};
use crate::{app::App, error::Error, sessions};

/// How long an agent may be silent in the middle of a file.
const SILENCE: Duration = Duration::from_secs(30);
/// Longest name that a browser has for a download, in bytes: a UUID's text, and some more.
const GUID_MAX: usize = 64;

/// A file on its way to an agent.
pub type Chunks = Pin<Box<dyn Stream<Item = Result<FileChunk, Status>> + Send>>;

/// Sends an upload to the agent of its session.
pub async fn fetch(app: &App, agent: AgentId, session: &str, name: &str) -> Result<Chunks, Status> {
    let id = session.parse::<SessionId>().map_err(|_| refused(Error::NoSuchSession))?;
    let found = async {
        let mut tx = app.db.read().await?;
        let session = sessions::store::get(&mut tx, id).await?;
        session.filter(|row| row.agent_id == Some(agent)).ok_or(Error::NoSuchSession)?;
        store::get(&mut tx, id, Kind::Upload, name).await?.ok_or(Error::NoSuchFile)
    };
    let file = found.await.map_err(refused)?;
    let all = 0..file.size_bytes;
    let content = content::read(app.clone(), file, all).map_err(refused)?;
    Ok(Box::pin(content.map(|chunk| match chunk {
        Ok(data) => Ok(FileChunk { data: data.into() }),
        Err(error) => Err(refused(error)),
    })))
}

/// Keeps a download of a session of this agent.
pub async fn keep(
    app: &App,
    agent: AgentId,
    header: FileHeader,
    mut inbound: Streaming<KeepFile>,
) -> Result<Kept, Status> {
    let session = header.session_id.parse().map_err(|_| refused(Error::NoSuchSession))?;
    if header.guid.is_empty() || header.guid.len() > GUID_MAX || name::check(&header.guid).is_err()
    {
        return Err(Status::invalid_argument("no browser calls a download so"));
    }
    if is_kept(app, agent, session, &header.guid).await.map_err(refused)? {
        return Ok(Kept {});
    }
    let new = New {
        session,
        source: Source::Agent(agent),
        name: name::safe(&header.name),
        guid: Some(header.guid),
        size_bytes: Some(header.size_bytes),
    };
    let mut writer = Writer::begin(app, new).await.map_err(refused)?;
    match receive(&mut writer, &mut inbound, header.size_bytes).await {
        Ok(()) => writer.finish().await.map(|_| Kept {}).map_err(refused),
        Err(status) => {
            writer.give_up().await;
            Err(status)
        }
    }
}

/// Whether the agent has kept this already, and the answer was lost.
async fn is_kept(app: &App, agent: AgentId, id: SessionId, guid: &str) -> Result<bool, Error> {
    let mut tx = app.db.read().await?;
    let session = sessions::store::get(&mut tx, id).await?;
    session.filter(|row| row.agent_id == Some(agent)).ok_or(Error::NoSuchSession)?;
    let file = store::get(&mut tx, id, Kind::Download, guid).await?;
    Ok(file.is_some_and(|file| file.guid.as_deref() == Some(guid)))
}

async fn receive(
    writer: &mut Writer,
    inbound: &mut Streaming<KeepFile>,
    size_bytes: u64,
) -> Result<(), Status> {
    let mut left = size_bytes;
    loop {
        let next = timeout(SILENCE, inbound.message()).await;
        let next = next.map_err(|_| Status::deadline_exceeded("nothing comes any more"))??;
        match next.map(|next| next.part) {
            Some(Some(Part::Data(data))) if data.len() as u64 <= left => {
                left -= data.len() as u64;
                writer.write(&data).await.map_err(refused)?;
            }
            None if left == 0 => return Ok(()),
            _ => return Err(Status::invalid_argument("the file is not as it was announced")),
        }
    }
}

fn refused(error: Error) -> Status {
    let message = error.to_string();
    match error {
        Error::NoSuchSession | Error::NoSuchFile => Status::not_found(message),
        Error::Over => Status::failed_precondition(message),
        Error::TooLarge(_) | Error::Conflict(_) => Status::resource_exhausted(message),
        error => {
            error!(?error, "could not pass a file on");
            Status::unavailable("the hub cannot pass the file on now")
        }
    }
}
