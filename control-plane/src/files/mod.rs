//! Files of a session: what callers put for its browser to upload, and what its browser has
//! downloaded. They are how a client whose disk is elsewhere gives files to pages and gets
//! files from them.
//!
//! ```text
//! caller ── PUT ──▶ content ──▶ order ──▶ agent ── Fetch ──▶ its browser's uploads/
//! caller ◀── GET ── content ◀── Keep ── agent ◀── its browser's downloads/
//! ```
//!
//! A content is written and read in chunks, so that no file is ever in memory as a whole; it
//! is encrypted wherever it is (see [`content`]). Any replica serves any file: what an agent
//! has to do is a row (see [`orders`]) that the replica with its stream carries.

pub mod content;
pub mod list;
pub mod name;
pub mod object;
pub mod orders;
mod range;
pub mod read;
pub mod store;
pub mod sweep;
#[cfg(test)]
pub(crate) mod tests;
pub mod transfer;
pub mod upload;

use proto::id::{AgentId, FileId, SessionId, WorkspaceId};

use crate::{
    db::Tx,
    error::Error,
    sessions::{self, SessionRow},
};

/// The largest file, in bytes.
pub const FILE_MAX: u64 = 256 << 20;
/// How much a session's uploads may be together, and its downloads likewise, in bytes.
pub const SESSION_MAX: u64 = 1 << 30;
/// How many uploads a session may have, and as many downloads.
pub const FILES_MAX: u64 = 1_000;
/// How many of each may be on their way at once.
const WRITING_MAX: u64 = 8;

/// Which way a file goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// From a caller to the browser.
    Upload,
    /// From the browser to a caller.
    Download,
}

impl Kind {
    /// As the store writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upload => "UPLOAD",
            Self::Download => "DOWNLOAD",
        }
    }
}

/// A file as the store has it, without its content. Times are Unix microseconds.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns explain themselves; see the migration")]
pub struct FileRow {
    pub id: FileId,
    pub name: String,
    pub guid: Option<String>,
    pub size_bytes: u64,
    pub in_objects: bool,
    pub wrapped_key: Vec<u8>,
    pub created_us: i64,
}

/// Who brings a file.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// A caller, with an upload.
    Caller(WorkspaceId),
    /// The agent that runs the session, with a download.
    Agent(AgentId),
}

impl Source {
    /// Which way its files go.
    pub fn kind(self) -> Kind {
        match self {
            Self::Caller(_) => Kind::Upload,
            Self::Agent(_) => Kind::Download,
        }
    }

    /// Holds a session that takes files from this source, until the transaction ends.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchSession`] when it has nothing to do with it, [`Error::Over`] when the
    /// session takes no more.
    async fn lock(self, tx: &mut Tx, id: SessionId) -> Result<SessionRow, Error> {
        let session = match self {
            Self::Caller(workspace) => sessions::store::lock_in(tx, workspace, id).await?,
            Self::Agent(agent) => sessions::store::lock_on(tx, id, agent.into()).await?,
        };
        let session = session.ok_or(Error::NoSuchSession)?;
        let over = match self {
            Self::Caller(_) => session.status.is_final(),
            // What it downloaded to the end is kept until its browser is gone.
            Self::Agent(_) => !session.slot_held,
        };
        if over { Err(Error::Over) } else { Ok(session) }
    }
}

/// What a file would come on top of.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Files, those on their way included.
    pub files: u64,
    /// Their bytes, as far as is known.
    pub bytes: u64,
    /// How many of them are on their way.
    pub writing: u64,
}

impl Held {
    /// Whether a file of this size fits on top.
    fn admit(self, size_bytes: u64) -> Result<(), Error> {
        if size_bytes > FILE_MAX {
            return Err(Error::TooLarge(format!("a file may have at most {FILE_MAX} bytes")));
        }
        if self.files >= FILES_MAX {
            return Err(Error::Conflict(format!("the session has {FILES_MAX} files already")));
        }
        if self.bytes + size_bytes > SESSION_MAX {
            let detail = format!(
                "the session's files would have more than {SESSION_MAX} bytes together; {} are \
                 taken",
                self.bytes
            );
            return Err(Error::Conflict(detail));
        }
        if self.writing >= WRITING_MAX {
            let detail = format!("{WRITING_MAX} files of the session are on their way already");
            return Err(Error::Conflict(detail));
        }
        Ok(())
    }
}
