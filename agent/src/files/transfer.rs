//! Files over the agent protocol.

use std::{io, time::Duration};

use futures_util::stream;
use proto::{
    agent::{FileChunk, FileHeader, FileRequest, KeepFile, keep_file::Part},
    id::SessionId,
};
use tokio::{
    io::{AsyncReadExt, AsyncSeekExt},
    sync::oneshot,
    time::timeout,
};
use tonic::{Status, Streaming};

use crate::hub::Hub;

/// How long the hub may be silent in the middle of a file.
const SILENCE: Duration = Duration::from_secs(30);
/// How much of a file goes into one message, in bytes.
const CHUNK: usize = 1 << 20;

/// A file on its way here.
pub(super) struct Fetched(Streaming<FileChunk>);

/// A download, as it was when it was complete.
pub(super) struct Download {
    pub guid: String,
    /// As the page suggested it.
    pub name: String,
    pub size_bytes: u64,
    pub file: tokio::fs::File,
}

impl Hub {
    /// Asks for an upload.
    pub(super) async fn fetch(&self, session: SessionId, name: &str) -> Result<Fetched, Status> {
        let request = FileRequest {
            agent_id: self.agent.to_string(),
            join_token: self.join_token.to_string(),
            session_id: session.to_string(),
            name: name.to_owned(),
        };
        let mut hub = self.client()?;
        let answer = timeout(SILENCE, hub.fetch(request)).await;
        Ok(Fetched(answer.map_err(|_| silent())??.into_inner()))
    }

    /// Gives a download to be kept.
    pub(super) async fn keep(
        &self,
        session: SessionId,
        download: &mut Download,
    ) -> Result<(), Status> {
        download.file.rewind().await?;
        let file = download.file.try_clone().await?;
        let header = FileHeader {
            agent_id: self.agent.to_string(),
            join_token: self.join_token.to_string(),
            session_id: session.to_string(),
            name: download.name.clone(),
            size_bytes: download.size_bytes,
            guid: download.guid.clone(),
        };
        let (failed, failure) = oneshot::channel();
        let parts = parts(header, file, download.size_bytes, failed);
        let mut hub = self.client()?;
        tokio::select! {
            kept = hub.keep(parts) => kept.map(drop),
            // The stream of parts cannot say why it ended; an error read is never a whole file.
            Ok(error) = failure => Err(error.into()),
        }
    }
}

impl Fetched {
    /// What comes next; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Status> {
        let next = timeout(SILENCE, self.0.message()).await.map_err(|_| silent())??;
        Ok(next.map(|chunk| chunk.data))
    }
}

fn silent() -> Status {
    Status::deadline_exceeded("the hub says nothing")
}

/// A header, then the file in pieces: as many bytes as it had, or fewer if it cannot be read.
fn parts(
    header: FileHeader,
    file: tokio::fs::File,
    size_bytes: u64,
    failed: oneshot::Sender<io::Error>,
) -> impl futures_util::Stream<Item = KeepFile> + Send + 'static {
    let header = stream::iter([KeepFile { part: Some(Part::Header(header)) }]);
    let file = file.take(size_bytes);
    let data = stream::unfold((file, Some(failed)), async |(mut file, mut failed)| {
        let mut data = Vec::with_capacity(CHUNK);
        while data.len() < CHUNK {
            let room = (CHUNK - data.len()) as u64;
            match (&mut file).take(room).read_to_end(&mut data).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    let _ = failed.take()?.send(error);
                    return None;
                }
            }
        }
        let more = !data.is_empty();
        more.then_some((KeepFile { part: Some(Part::Data(data)) }, (file, failed)))
    });
    futures_util::StreamExt::chain(header, data)
}
