//! SQLite's one writer, with group commit.
//!
//! A task owns the connection and lends it to one operation after the other, each inside a
//! savepoint of one shared transaction. When nobody waits for the connection it commits once
//! for all of them, and only then does any of them hear that it is durable: one sync of the
//! disk serves a whole group. An operation that fails or is dropped goes back to its
//! savepoint and takes nothing of the others with it.

#[cfg(test)]
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use std::{
    io,
    ops::{Deref, DerefMut},
};

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

/// Most operations that share a commit, so that the first of them does not wait for ever.
const GROUP: usize = 64;

/// Lends the writing connection.
#[derive(Clone)]
pub struct Writer {
    requests: mpsc::Sender<Request>,
    #[cfg(test)]
    commits: Arc<AtomicUsize>,
}

enum Request {
    Begin(oneshot::Sender<sqlx::Result<Lease>>),
    Close(oneshot::Sender<()>),
}

/// The writing connection, for the length of one operation.
pub struct Lease {
    connection: Option<SqliteConnection>,
    back: mpsc::UnboundedSender<Returned>,
}

struct Returned {
    connection: SqliteConnection,
    /// Whom to tell of the commit; `None` undoes the operation.
    commit: Option<oneshot::Sender<sqlx::Result<()>>>,
}

impl Writer {
    /// Opens the connection and starts the task that owns it. The task ends with the last
    /// clone of the writer, or by [`Writer::close`].
    pub async fn start(options: SqliteConnectOptions) -> sqlx::Result<Self> {
        let connection = options.connect().await?;
        let (requests, incoming) = mpsc::channel(GROUP);
        let (back, returned) = mpsc::unbounded_channel();
        #[cfg(test)]
        let commits = Arc::<AtomicUsize>::default();
        let owner = Owner {
            options,
            connection: Some(connection),
            back,
            returned,
            #[cfg(test)]
            commits: Arc::clone(&commits),
        };
        tokio::spawn(owner.run(incoming));
        Ok(Self {
            requests,
            #[cfg(test)]
            commits,
        })
    }

    /// Operations that wait for the connection.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.requests.max_capacity() - self.requests.capacity()
    }

    /// Commits so far.
    #[cfg(test)]
    pub fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }

    /// Waits for the connection and opens a savepoint.
    pub async fn begin(&self) -> sqlx::Result<Lease> {
        let (reply, lease) = oneshot::channel();
        self.requests.send(Request::Begin(reply)).await.map_err(|_| sqlx::Error::PoolClosed)?;
        lease.await.map_err(|_| sqlx::Error::PoolClosed)?
    }

    /// Commits what is under way and closes the connection. Later operations fail.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.requests.send(Request::Close(reply)).await.is_ok() {
            // An error means that the task is gone already.
            let _ = closed.await;
        }
    }
}

impl Lease {
    /// Gives the connection back and waits until the shared commit is on disk.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        let (told, commit) = oneshot::channel();
        self.give_back(Some(told));
        commit.await.map_err(|_| sqlx::Error::PoolClosed)?
    }

    fn give_back(&mut self, commit: Option<oneshot::Sender<sqlx::Result<()>>>) {
        if let Some(connection) = self.connection.take() {
            // Fails only when the task is gone, and the connection closes then.
            let _ = self.back.send(Returned { connection, commit });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back(None);
    }
}

impl Deref for Lease {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        self.connection.as_ref().expect("only commit and drop take the connection")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.connection.as_mut().expect("only commit and drop take the connection")
    }
}

/// The task behind a [`Writer`].
struct Owner {
    options: SqliteConnectOptions,
    /// `None` while an operation has it, and after a failure until it is opened anew.
    connection: Option<SqliteConnection>,
    back: mpsc::UnboundedSender<Returned>,
    returned: mpsc::UnboundedReceiver<Returned>,
    #[cfg(test)]
    commits: Arc<AtomicUsize>,
}

impl Owner {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(request) = requests.recv().await {
            let closing = match request {
                Request::Begin(first) => self.group(first, &mut requests).await,
                Request::Close(closed) => Some(closed),
            };
            if let Some(closed) = closing {
                requests.close();
                if let Some(connection) = self.connection.take()
                    && let Err(error) = connection.close().await
                {
                    error!(?error, "could not close the database");
                }
                let _ = closed.send(());
                return;
            }
        }
    }

    /// One shared transaction. Returns whom to tell when the connection is to be closed.
    async fn group(
        &mut self,
        first: oneshot::Sender<sqlx::Result<Lease>>,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Option<oneshot::Sender<()>> {
        if let Err(error) = self.begin().await {
            self.connection = None;
            // Fails when the caller is gone, which needs no answer.
            let _ = first.send(Err(error));
            return None;
        }
        let mut closing = None;
        let mut group = Vec::new();
        let mut next = Some(first);
        let mut outcome = Ok(());
        let mut served = 0;
        while let Some(reply) = next.take() {
            served += 1;
            outcome = self.serve(reply, &mut group).await;
            if outcome.is_err() || served == GROUP {
                break;
            }
            // Whoever was just woken gets the chance to join.
            tokio::task::yield_now().await;
            match requests.try_recv() {
                Ok(Request::Begin(reply)) => next = Some(reply),
                Ok(Request::Close(closed)) => closing = Some(closed),
                Err(_) => (),
            }
        }
        let end = if group.is_empty() { "ROLLBACK" } else { "COMMIT" };
        if outcome.is_ok() {
            outcome = self.execute(end).await;
        }
        if let Err(error) = &outcome {
            error!(?error, "could not commit; the connection is opened anew");
            // Closing it undoes whatever is still open.
            self.connection = None;
        }
        #[cfg(test)]
        if !group.is_empty() {
            self.commits.fetch_add(1, Ordering::SeqCst);
        }
        for waiter in group {
            let told = match &outcome {
                Ok(()) => Ok(()),
                // What keeps a commit from the disk may pass: it is for the caller to try again.
                Err(error) => {
                    Err(io::Error::other(format!("shared commit failed: {error}")).into())
                }
            };
            let _ = waiter.send(told);
        }
        closing
    }

    async fn begin(&mut self) -> sqlx::Result<()> {
        if self.connection.is_none() {
            self.connection = Some(self.options.connect().await?);
        }
        self.execute("BEGIN IMMEDIATE").await
    }

    /// Lends the connection once, and settles the savepoint when it is back.
    async fn serve(
        &mut self,
        reply: oneshot::Sender<sqlx::Result<Lease>>,
        group: &mut Vec<oneshot::Sender<sqlx::Result<()>>>,
    ) -> sqlx::Result<()> {
        self.execute("SAVEPOINT operation").await?;
        let lease = Lease { connection: self.connection.take(), back: self.back.clone() };
        // A caller that is gone drops the lease, which gives the connection back.
        drop(reply.send(Ok(lease)));
        let Some(Returned { connection, commit }) = self.returned.recv().await else {
            return Err(sqlx::Error::WorkerCrashed);
        };
        self.connection = Some(connection);
        match commit {
            Some(told) => {
                self.execute("RELEASE operation").await?;
                group.push(told);
                Ok(())
            }
            None => self.execute("ROLLBACK TO operation; RELEASE operation").await,
        }
    }

    async fn execute(&mut self, sql: &'static str) -> sqlx::Result<()> {
        let Some(connection) = &mut self.connection else {
            return Err(sqlx::Error::WorkerCrashed);
        };
        sqlx::raw_sql(sql).execute(connection).await.map(drop)
    }
}
