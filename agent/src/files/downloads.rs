//! Has downloads kept at the hub as soon as they are complete, a few at once. A file is held
//! open from the moment that the browser tells of it: what becomes of its name later, or of
//! the whole directory, is nothing to it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use proto::id::SessionId;
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{Code, Status};
use tracing::{Instrument, debug, warn};

use super::{transfer::Download, trays::Trays};
use crate::{cdp, hub::Hub};

/// How long the end of a session waits for downloads that are on their way.
pub const KEEP_LIMIT: Duration = Duration::from_secs(4);
/// How many are on their way at once.
const AT_ONCE: usize = 4;
/// How many may be held open until it is their turn.
const WAITING_MAX: usize = 256;
/// How long to wait before a hub that is away is tried again, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// The task that keeps the downloads of one session.
pub(super) struct Keeper {
    task: AbortOnDropHandle<()>,
    last: CancellationToken,
    held: oneshot::Receiver<()>,
}

/// Downloads of a session that is over, on their way. Dropped, they are lost.
pub(crate) struct Keeping(AbortOnDropHandle<()>);

impl Keeper {
    pub fn start(
        hub: Hub,
        session: SessionId,
        trays: Arc<Trays>,
        news: mpsc::Receiver<cdp::Download>,
    ) -> Self {
        let last = CancellationToken::new();
        let (told, held) = oneshot::channel();
        let work = Work { hub, session, trays, waiting: VecDeque::new(), lost: 0 };
        let work = work.run(news, last.clone(), told);
        let task = tokio::spawn(work.instrument(tracing::Span::current()));
        Self { task: AbortOnDropHandle::new(task), last, held }
    }

    /// Waits until all that is complete is held open.
    pub async fn close(self) -> Keeping {
        self.last.cancel();
        // Opening files does not wait; should it all the same, the end of the session does not.
        let _ = timeout(KEEP_LIMIT, self.held).await;
        Keeping(self.task)
    }
}

impl Keeping {
    /// Waits until all are kept or given up, for [`KEEP_LIMIT`] at most.
    pub async fn done(self) {
        if timeout(KEEP_LIMIT, self.0).await.is_err() {
            warn!("the session's end came before all of its downloads were kept");
        }
    }
}

struct Work {
    hub: Hub,
    session: SessionId,
    trays: Arc<Trays>,
    waiting: VecDeque<Download>,
    lost: usize,
}

impl Work {
    async fn run(
        mut self,
        mut news: mpsc::Receiver<cdp::Download>,
        last: CancellationToken,
        held: oneshot::Sender<()>,
    ) {
        let mut held = Some(held);
        let mut under_way = FuturesUnordered::new();
        while held.is_some() || !under_way.is_empty() {
            tokio::select! {
                Some(told) = news.recv(), if held.is_some() => self.hold(told).await,
                () = last.cancelled(), if held.is_some() => {
                    while let Ok(told) = news.try_recv() {
                        self.hold(told).await;
                    }
                    held.take().map(|held| held.send(()));
                }
                Some(()) = under_way.next(), if !under_way.is_empty() => (),
            }
            while under_way.len() < AT_ONCE
                && let Some(download) = self.waiting.pop_front()
            {
                under_way.push(self.keep(download));
            }
        }
        if self.lost > 0 {
            warn!(lost = self.lost, "more downloads at once than can be held");
        }
    }

    async fn hold(&mut self, told: cdp::Download) {
        if self.waiting.len() >= WAITING_MAX {
            self.lost += 1;
            return;
        }
        let opened = self.trays.open_download(&told.path);
        let opened = opened.and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((size_bytes, file)) => {
                let file = tokio::fs::File::from_std(file);
                let cdp::Download { guid, name, .. } = told;
                self.waiting.push_back(Download { guid, name, size_bytes, file });
            }
            Err(error) => debug!(guid = told.guid, %error, "a download is not kept"),
        }
    }

    fn keep(&self, mut download: Download) -> BoxFuture<'static, ()> {
        let (hub, session) = (self.hub.clone(), self.session);
        async move {
            let mut pause = PAUSES.0;
            loop {
                let Download { guid, size_bytes, .. } = &download;
                let (guid, size_bytes) = (guid.clone(), *size_bytes);
                match hub.keep(session, &mut download).await {
                    Ok(()) => return debug!(guid, size_bytes, "kept a download"),
                    Err(status) if is_passing(&status) => {
                        debug!(guid, code = ?status.code(), "a download cannot be kept yet");
                        sleep(pause).await;
                        pause = PAUSES.1.min(pause * 2);
                    }
                    Err(status) => {
                        let reason = status.message();
                        return warn!(guid, size_bytes, reason, "a download cannot be kept");
                    }
                }
            }
        }
        .boxed()
    }
}

/// Whether trying again may help.
fn is_passing(status: &Status) -> bool {
    use Code::{Aborted, Cancelled, DeadlineExceeded, Internal, Unavailable, Unknown};
    matches!(
        status.code(),
        Aborted | Cancelled | DeadlineExceeded | Internal | Unavailable | Unknown
    )
}
