//! Puts files where a browser can read them, as the hub orders: one after the other, so that
//! the last order for a name decides.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use proto::id::SessionId;
use tokio::{
    io::AsyncWriteExt,
    sync::{mpsc, oneshot},
};
use tonic::{Code, Status};
use tracing::{debug, warn};

use super::trays::Trays;
use crate::hub::Hub;

/// What to do with an upload.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub name: String,
    pub size_bytes: u64,
    /// It is to go; otherwise it is to be fetched.
    pub remove: bool,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error("the session does not run here")]
    NotRunning,
    #[error("the agent cannot get it: {}", .0.message())]
    Hub(#[from] Status),
    #[error("the browser's directory is full")]
    Full,
    #[error("it cannot be written: {0}")]
    Io(io::Error),
    #[error("it came in another size than was announced")]
    Size,
}

impl From<io::Error> for PlaceError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io(error),
        }
    }
}

pub(super) type Jobs = mpsc::UnboundedReceiver<Job>;

/// An order, and where to say what came of it.
pub(super) struct Job {
    order: Order,
    done: oneshot::Sender<Result<(), PlaceError>>,
}

/// Orders of one session, until its browser is there and one by one.
pub(crate) struct Queue {
    sender: mpsc::UnboundedSender<Job>,
    jobs: Mutex<Option<Jobs>>,
}

impl Queue {
    pub fn new() -> Self {
        let (sender, jobs) = mpsc::unbounded_channel();
        Self { sender, jobs: Mutex::new(Some(jobs)) }
    }

    /// Adds an order. Nothing comes of it, not even an error, if the session ends before.
    pub fn add(&self, order: Order) -> oneshot::Receiver<Result<(), PlaceError>> {
        let (done, outcome) = oneshot::channel();
        let _ = self.sender.send(Job { order, done }); // else no one takes orders any more
        outcome
    }

    /// What has been and will be added. Empty for all but the first who ask.
    pub(super) fn jobs(&self) -> Jobs {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        jobs.unwrap_or_else(|| mpsc::unbounded_channel().1)
    }
}

/// Carries out orders for as long as there may be more.
pub(super) async fn serve(hub: Hub, session: SessionId, trays: Arc<Trays>, mut jobs: Jobs) {
    while let Some(Job { order, done }) = jobs.recv().await {
        let outcome = if order.remove {
            trays.remove(&order.name).map_err(PlaceError::from)
        } else {
            place(&hub, session, &trays, &order).await
        };
        match &outcome {
            Ok(()) => debug!(size_bytes = order.size_bytes, remove = order.remove, "an upload"),
            Err(error) => warn!(%error, remove = order.remove, "an upload could not be placed"),
        }
        let _ = done.send(outcome);
    }
}

async fn place(
    hub: &Hub,
    session: SessionId,
    trays: &Trays,
    order: &Order,
) -> Result<(), PlaceError> {
    let mut fetched = match hub.fetch(session, &order.name).await {
        Ok(fetched) => fetched,
        // It was removed in the meantime: the order for that follows.
        Err(status) if status.code() == Code::NotFound => return Ok(()),
        Err(status) => return Err(status.into()),
    };
    let mut incoming = trays.begin()?;
    let mut size_bytes = 0;
    while let Some(data) = fetched.next().await? {
        size_bytes += data.len() as u64;
        if size_bytes > order.size_bytes {
            return Err(PlaceError::Size);
        }
        incoming.file.write_all(&data).await?;
    }
    if size_bytes < order.size_bytes {
        return Err(PlaceError::Size);
    }
    incoming.file.flush().await?;
    Ok(incoming.put(&order.name)?)
}
