//! What a file holds, and where: in chunks of 1 MiB, each encrypted by itself, in the store;
//! or, when there is an object store and it is more than one chunk, one behind the other in
//! an object. So without an object store every file is in the database, which all replicas
//! share.
//!
//! A file's row is there before any of its content and goes after all of it: whatever dies in
//! between, [`super::sweep`] finds what is left.

use std::{mem, ops::Range};

use anyhow::{Context, anyhow};
use axum::body::Bytes;
use futures_util::{Stream, stream};
use object_store::MultipartUpload;
use proto::id::{FileId, SessionId};
use tracing::{debug, warn};

use super::{
    FILE_MAX, FileRow, Source, name,
    orders::{self, Order},
    store, sweep,
};
use crate::{
    app::App,
    error::Error,
    secrets::{DataKey, PIECE_OVERHEAD},
    sessions::SessionRow,
};

/// Bytes of a chunk in clear, but for the last of a file.
pub const CHUNK: usize = 1 << 20;
/// How much longer a chunk is when it is encrypted.
const OVERHEAD: u64 = PIECE_OVERHEAD as u64;
/// Chunks that go to the object store together: S3 takes no parts under 5 MiB.
const PART: usize = 8;

/// What a file's data key is wrapped for, and its chunks encrypted. `secrets::rotate` has the
/// same.
fn purpose(id: FileId) -> String {
    format!("file {id}")
}

/// What is to be written.
#[derive(Clone, Debug)]
pub struct New {
    /// Whose it is to be.
    pub session: SessionId,
    /// Who brings it.
    pub source: Source,
    /// What it is to be called; a download may come to be called otherwise.
    pub name: String,
    /// What the browser calls it.
    pub guid: Option<String>,
    /// If it was announced.
    pub size_bytes: Option<u64>,
}

/// A file that comes into being. End it with [`Writer::finish`] or [`Writer::give_up`].
pub struct Writer {
    app: App,
    new: New,
    id: FileId,
    key: DataKey,
    /// Not yet written: a chunk at most when [`Writer::write`] has returned.
    pending: Vec<u8>,
    chunks: u64,
    size_bytes: u64,
    object: Option<Object>,
}

/// An object that comes into being.
struct Object {
    upload: Box<dyn MultipartUpload>,
    part: Vec<u8>,
}

/// What a caller's or an agent's file has become.
pub struct Stored {
    /// Itself.
    pub file: FileRow,
    /// Whether it took the place of another of its name.
    pub replaced: bool,
    /// What its agent has to do now, if it is an upload.
    pub order: Option<Order>,
    /// Whose it is.
    pub session: SessionRow,
}

impl Writer {
    /// Begins a file, if its session takes it.
    pub async fn begin(app: &App, new: New) -> Result<Self, Error> {
        let (id, key) = (FileId::generate(), DataKey::generate()?);
        let announced = new.size_bytes.unwrap_or(0);
        let mut tx = app.db.begin().await?;
        new.source.lock(&mut tx, new.session).await?;
        let replaced = new.replaces();
        let held = store::held(&mut tx, new.session, new.source.kind(), id, replaced).await?;
        held.admit(announced)?;
        let row = store::NewFile {
            id,
            session: new.session,
            kind: new.source.kind(),
            name: &new.name,
            guid: new.guid.as_deref(),
            size_bytes: announced,
            key: &app.secrets.wrap(&purpose(id), key.as_bytes())?,
        };
        store::insert(&mut tx, &row).await?;
        tx.commit().await?;
        let app = app.clone();
        let pending = Vec::new();
        Ok(Self { app, new, id, key, pending, chunks: 0, size_bytes: 0, object: None })
    }

    /// Writes what comes next.
    pub async fn write(&mut self, mut data: &[u8]) -> Result<(), Error> {
        self.size_bytes += data.len() as u64;
        if self.size_bytes > FILE_MAX {
            return Err(Error::TooLarge(format!("a file may have at most {FILE_MAX} bytes")));
        }
        while self.pending.len() + data.len() > CHUNK {
            let (now, later) = data.split_at(CHUNK - self.pending.len());
            self.pending.extend_from_slice(now);
            data = later;
            self.write_chunk(true).await?;
        }
        self.pending.extend_from_slice(data);
        Ok(())
    }

    /// Writes what is pending as a chunk. `more` follows: the first one decides where all go.
    async fn write_chunk(&mut self, more: bool) -> Result<(), Error> {
        let mut sealed = mem::take(&mut self.pending);
        self.key.encrypt_piece(self.chunks, &purpose(self.id), &mut sealed)?;
        let is_large = self.object.is_some() || self.chunks == 0 && more;
        if is_large && self.app.objects.is_configured() {
            self.write_to_object(&sealed).await?;
        } else {
            let mut tx = self.app.db.begin().await?;
            if !store::insert_chunk(&mut tx, self.id, self.chunks, &sealed).await? {
                return Err(anyhow!("a file was given up while it was written").into());
            }
            tx.commit().await?;
        }
        self.chunks += 1;
        Ok(())
    }

    async fn write_to_object(&mut self, sealed: &[u8]) -> Result<(), Error> {
        let object = match &mut self.object {
            Some(object) => object,
            none => {
                let mut tx = self.app.db.begin().await?;
                store::to_objects(&mut tx, self.id).await?;
                tx.commit().await?;
                let upload = self.app.objects.begin_file(self.id).await?;
                none.insert(Object { upload, part: Vec::new() })
            }
        };
        object.part.extend_from_slice(sealed);
        if object.part.len() >= PART * CHUNK {
            object.upload.put_part(mem::take(&mut object.part).into()).await?;
        }
        Ok(())
    }

    /// The file is whole: it is there from now on, if its session still takes it.
    pub async fn finish(mut self) -> Result<Stored, Error> {
        match self.stored().await {
            Ok(stored) => Ok(stored),
            Err(error) => {
                self.give_up().await;
                Err(error)
            }
        }
    }

    async fn stored(&mut self) -> Result<Stored, Error> {
        if !self.pending.is_empty() {
            self.write_chunk(false).await?;
        }
        if let Some(object) = &mut self.object {
            if !object.part.is_empty() {
                object.upload.put_part(mem::take(&mut object.part).into()).await?;
            }
            object.upload.complete().await?;
        }
        let New { session: id, source, .. } = self.new;
        let mut tx = self.app.db.begin().await?;
        let session = source.lock(&mut tx, id).await?;
        let kind = source.kind();
        let mut held = store::held(&mut tx, id, kind, self.id, self.new.replaces()).await?;
        held.writing = 0; // it was counted when it began
        held.admit(self.size_bytes)?;
        let (name, replaced) = match source {
            Source::Caller(_) => {
                (self.new.name.clone(), store::get(&mut tx, id, kind, &self.new.name).await?)
            }
            Source::Agent(_) => (free_name(&mut tx, id, &self.new.name).await?, None),
        };
        if let Some(replaced) = &replaced {
            store::give_up(&mut tx, replaced.id).await?;
        }
        let file = store::store(&mut tx, self.id, &name, self.size_bytes).await?;
        let file = file.context("a file was given up while it was written")?;
        let order = match source {
            Source::Caller(_) => {
                Some(orders::ask(&mut tx, id, &name, self.size_bytes, false).await?)
            }
            Source::Agent(_) => None,
        };
        tx.commit().await?;
        if replaced.is_some() {
            sweep::soon(&self.app);
        }
        debug!(session = %id, file = %self.id, size_bytes = self.size_bytes, ?kind, "stored a file");
        Ok(Stored { file, replaced: replaced.is_some(), order, session })
    }

    /// The file does not come about: leaves nothing of it.
    pub async fn give_up(mut self) {
        if let Some(object) = &mut self.object
            && let Err(error) = object.upload.abort().await
        {
            warn!(file = %self.id, ?error, "could not abort an object");
        }
        let given_up = async {
            let mut tx = self.app.db.begin().await?;
            store::give_up(&mut tx, self.id).await?;
            tx.commit().await
        };
        match given_up.await {
            Ok(()) => sweep::soon(&self.app),
            Err(error) => {
                warn!(file = %self.id, ?error, "could not give a file up; the sweep will")
            }
        }
    }
}

impl New {
    /// The name of what it takes the place of. Downloads take nobody's place.
    fn replaces(&self) -> &str {
        match self.source {
            Source::Caller(_) => &self.name,
            Source::Agent(_) => "",
        }
    }
}

/// The name that a download can have: no other one of its session has it.
async fn free_name(
    tx: &mut crate::db::Tx,
    session: SessionId,
    wanted: &str,
) -> sqlx::Result<String> {
    let mut name = wanted.to_owned();
    let mut number = 0;
    while store::get(tx, session, super::Kind::Download, &name).await?.is_some() {
        number += 1;
        name = name::numbered(wanted, number);
    }
    Ok(name)
}

/// A part of a file in clear, chunk by chunk. It fails half-way if the file is replaced or
/// removed meanwhile.
pub fn read(
    app: App,
    file: FileRow,
    part: Range<u64>,
) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + 'static, Error> {
    let key = app.secrets.unwrap_key(&purpose(file.id), &file.wrapped_key);
    let key = key.with_context(|| format!("file {}", file.id))?;
    Ok(stream::try_unfold((app, file, key, part), async |(app, file, key, part)| {
        if part.is_empty() {
            return Ok(None);
        }
        let chunk_bytes = CHUNK as u64;
        let seq = part.start / chunk_bytes;
        let clear = Bytes::from(read_chunk(&app, &file, &key, seq).await?);
        let begin = seq * chunk_bytes;
        let end = part.end.min(begin + clear.len() as u64);
        if end <= part.start {
            return Err(anyhow!("a file is shorter than its row says").into());
        }
        let within = |at: u64| usize::try_from(at - begin).unwrap_or(usize::MAX);
        let piece = clear.slice(within(part.start)..within(end));
        Ok(Some((piece, (app, file, key, end..part.end))))
    }))
}

async fn read_chunk(app: &App, file: &FileRow, key: &DataKey, seq: u64) -> Result<Vec<u8>, Error> {
    let mut chunk: Vec<u8> = if file.in_objects {
        app.objects.read_file(file.id, sealed(file.size_bytes, seq)).await?.into()
    } else {
        let mut tx = app.db.read().await?;
        let chunk = store::chunk(&mut tx, file.id, seq).await?;
        chunk.with_context(|| format!("chunk {seq} of file {} is gone", file.id))?
    };
    let opened = key.decrypt_piece(seq, &purpose(file.id), &mut chunk);
    opened.with_context(|| format!("chunk {seq} of file {}", file.id))?;
    Ok(chunk)
}

/// Where in its object a chunk is, encrypted, of a file of this size.
fn sealed(size_bytes: u64, seq: u64) -> Range<u64> {
    let chunk_bytes = CHUNK as u64;
    let clear_end = size_bytes.min((seq + 1) * chunk_bytes);
    seq * (chunk_bytes + OVERHEAD)..clear_end + (seq + 1) * OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encrypted_chunk_is_where_it_is_looked_for() {
        let key = DataKey::generate().unwrap();
        let [whole, rest] = [vec![0; CHUNK], b"rest".to_vec()].map(|mut piece| {
            key.encrypt_piece(0, "x", &mut piece).unwrap();
            piece
        });
        let size = CHUNK as u64 * 2 + 4;
        assert_eq!(sealed(size, 0), 0..whole.len() as u64);
        assert_eq!(sealed(size, 1), whole.len() as u64..2 * whole.len() as u64);
        let begin = 2 * whole.len() as u64;
        assert_eq!(sealed(size, 2), begin..begin + rest.len() as u64);
    }
}
