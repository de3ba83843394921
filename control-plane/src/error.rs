//! What a caller can be told. Knows no transport; REST maps it to problems here, in one place.

use proto::{
    problem::{Problem, Slug},
    region::Region,
};
use sqlx::sqlite::SqliteError;
use tracing::error;

use crate::sessions::queue::{LONGEST, Standing};

/// Why an operation did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing has this id, or nothing that the caller may see.
    #[error("no session has this id")]
    NoSuchSession,
    /// Nothing has this id, or nothing that the caller may see.
    #[error("no profile has this id")]
    NoSuchProfile,
    /// A request names a profile that the workspace does not have.
    #[error("the workspace has no profile with this id")]
    UnknownProfile,
    /// A field that is good by itself makes no sense together with what is there already.
    #[error("{pointer}: {detail}")]
    Unfit {
        /// Where it is in the body.
        pointer: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// It does not fit the state that the thing is in.
    #[error("{0}")]
    Conflict(String),
    /// The browser's storage state could not be had.
    #[error("the browser's storage state could not be read: {0}")]
    NotCaptured(String),
    /// The source goes to the log, never to the caller.
    #[error("the object store does not answer")]
    Objects(#[from] object_store::Error),
    /// The same for other things: says what there is none of.
    #[error("{0}")]
    NoSuch(&'static str),
    /// The caller did not prove who they are.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The caller may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// A workspace would be left without an owner.
    #[error("the workspace would be left without an owner: make someone else owner first")]
    LastOwner,
    /// The key belongs to a request with another body.
    #[error("the idempotency key was used with another request within the last 24 hours")]
    KeyReused,
    /// No agent serves the region, nor ever did.
    #[error("no region is named {region:?}; known are {}", list(.known))]
    UnknownRegion {
        /// The region asked for, as the caller spelled it.
        region: String,
        /// Those that exist.
        known: Vec<Region>,
    },
    /// The session has none of this name.
    #[error("the session has no file of this name")]
    NoSuchFile,
    /// The session has ended.
    #[error("the session is over")]
    Over,
    /// More bytes than may come at once.
    #[error("{0}")]
    TooLarge(String),
    /// What a file is to be called.
    #[error("the file's name {0}")]
    BadName(&'static str),
    /// A body that did not come to its end.
    #[error("the body could not be read to its end")]
    CutShort,
    /// An agent could not change a browser's files, or did not say so in time.
    #[error("the browser does not have it yet: {0}; try again")]
    NotPlaced(String),
    /// No slot became free in time.
    #[error("no slot in {} became free in {waited_ms} ms: the request was number {} of the {} \
             that wait; a turn may come in {} s{}",
        places(.regions), .standing.position, .standing.waiting, .standing.estimate_seconds,
        elsewhere(.others))]
    NoCapacity {
        /// The regions that were tried.
        regions: Vec<Region>,
        /// How long the request waited.
        waited_ms: u64,
        /// Where it stood in the queue.
        standing: Standing,
        /// The other regions that exist.
        others: Vec<Region>,
    },
    /// So many requests wait for the regions already that one more makes no sense.
    #[error("the queue for a slot in {} is full: {LONGEST} requests wait", places(.regions))]
    QueueFull {
        /// The regions that were tried.
        regions: Vec<Region>,
        /// In how many seconds one may have got through it.
        estimate_seconds: u32,
    },
    /// The workspace has as many sessions at once as it may have.
    #[error("the workspace has {0} sessions, as many at once as it may have: release one first")]
    ConcurrencyLimit(u32),
    /// Every agent that was tried failed to start the browser.
    #[error("browsers failed to start in region {0}")]
    LaunchFailed(Region),
    /// The source goes to the log, never to the caller.
    #[error("internal error")]
    Database(#[from] sqlx::Error),
    /// The source goes to the log, never to the caller.
    #[error("internal error")]
    Internal(#[from] anyhow::Error),
}

fn list(regions: &[Region]) -> String {
    regions.iter().map(Region::as_str).collect::<Vec<_>>().join(", ")
}

fn places(regions: &[Region]) -> String {
    match regions {
        [only] => format!("region {only}"),
        several => format!("any of the regions {}", list(several)),
    }
}

fn elsewhere(regions: &[Region]) -> String {
    match regions {
        [] => "; there is no other region".to_owned(),
        others => format!("; other regions: {}", list(others)),
    }
}

/// How long a caller is asked to stay away when something may soon be better, in seconds.
const RETRY_AFTER: u32 = 2;
/// The same when one of the caller's own sessions must end first.
const RETRY_AFTER_END: u32 = 5;

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::UnknownProfile => {
                let fault = fault("/profile_id", message.as_str());
                Self::new(Slug::UnknownProfile, message).with_errors(vec![fault])
            }
            Error::Unfit { pointer, detail } => {
                Self::new(Slug::ValidationError, message).with_errors(vec![fault(pointer, detail)])
            }
            Error::Conflict(_) => Self::new(Slug::Conflict, message),
            Error::Over => Self::new(Slug::Gone, message),
            Error::TooLarge(_) => Self::new(Slug::PayloadTooLarge, message),
            Error::BadName(_) | Error::CutShort => Self::malformed(message),
            Error::NotCaptured(_) | Error::NotPlaced(_) => {
                Self::new(Slug::SessionNotReady, message).with_retry_after(RETRY_AFTER)
            }
            Error::Objects(source) => {
                error!(error = ?source, "the object store failed");
                Self::new(Slug::InsufficientCapacity, message).with_retry_after(RETRY_AFTER)
            }
            Error::NoSuchSession | Error::NoSuchProfile | Error::NoSuchFile | Error::NoSuch(_) => {
                Self::new(Slug::NotFound, message)
            }
            Error::Unauthorized(_) => Self::new(Slug::Unauthorized, message),
            Error::Forbidden(_) => Self::new(Slug::Forbidden, message),
            Error::LastOwner => Self::new(Slug::LastOwner, message),
            Error::KeyReused => Self::new(Slug::IdempotencyKeyReused, message),
            Error::UnknownRegion { .. } => {
                let fault = fault("/region", message.as_str());
                Self::new(Slug::UnknownRegion, message).with_errors(vec![fault])
            }
            Error::NoCapacity { standing: Standing { estimate_seconds, .. }, .. }
            | Error::QueueFull { estimate_seconds, .. } => {
                Self::new(Slug::InsufficientCapacity, message).with_retry_after(estimate_seconds)
            }
            Error::LaunchFailed(_) => {
                Self::new(Slug::InsufficientCapacity, message).with_retry_after(RETRY_AFTER)
            }
            Error::ConcurrencyLimit(_) => {
                Self::new(Slug::ConcurrencyLimit, message).with_retry_after(RETRY_AFTER_END)
            }
            Error::Database(source) if is_away(&source) => {
                error!(error = ?source, "the database does not answer");
                Self::new(Slug::InsufficientCapacity, "the database does not answer")
                    .with_retry_after(RETRY_AFTER)
            }
            Error::Database(source) => {
                error!(error = ?source, "the database failed");
                Self::new(Slug::Internal, "the server failed; its log says more")
            }
            Error::Internal(source) => {
                error!(error = ?source, "the request failed");
                Self::new(Slug::Internal, "the server failed; its log says more")
            }
        }
    }
}

/// SQLITE_BUSY, SQLITE_IOERR and SQLITE_FULL.
const SQLITE_AWAY: [u32; 3] = [5, 10, 13];
/// How SQLSTATEs begin (PostgreSQL, appendix A) of a connection that failed, of resources that
/// ran out, of a server that stops, starts or has crashed, of its disk, of a server that may not
/// write (yet), and of a deadlock.
const POSTGRES_AWAY: [&str; 6] = ["08", "53", "57P0", "58030", "25006", "40"];

/// Whether trying again later may help.
fn is_away(error: &sqlx::Error) -> bool {
    use sqlx::Error::{Database, Io, PoolClosed, PoolTimedOut, Tls, WorkerCrashed};
    match error {
        Io(_) | Tls(_) | PoolTimedOut | PoolClosed | WorkerCrashed => true,
        Database(error) => {
            let code = error.code().unwrap_or_default();
            match error.try_downcast_ref::<SqliteError>() {
                // The primary code is the last byte of an extended one (SQLite, "Result Codes").
                Some(_) => code.parse().is_ok_and(|code: u32| SQLITE_AWAY.contains(&(code & 0xff))),
                None => POSTGRES_AWAY.iter().any(|class| code.starts_with(class)),
            }
        }
        _ => false,
    }
}

/// One fault of a request: where, and what.
pub fn fault(pointer: impl Into<String>, detail: impl Into<String>) -> proto::problem::FieldError {
    proto::problem::FieldError { pointer: pointer.into(), detail: detail.into() }
}
