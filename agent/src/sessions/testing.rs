//! Browsers that are nothing but a pipe, for tests.

use std::{
    os::unix::process::ExitStatusExt,
    path::Path,
    process::ExitStatus,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use proto::id::{AgentId, SessionId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    sync::{Semaphore, watch},
    time::Instant,
};

use super::{Lent, Order, Source, StorageState, Terms};
use crate::{
    HubTls,
    browser::LaunchOptions,
    cdp::{Backlogs, Guard, Mux},
    control::Dialer,
    files::Trays,
    gateway::{Account, Way},
    hub::Hub,
    limits::Excess,
};

/// Launches fakes: one for each permit, and errors while `broken`.
pub(crate) struct Fakes {
    pub permits: Semaphore,
    pub broken: std::sync::atomic::AtomicBool,
    /// Turns true to kill every browser.
    pub killed: watch::Sender<bool>,
    /// What every browser takes too much of.
    pub excess: watch::Sender<Option<Excess>>,
    /// Browsers that were launched and not closed.
    pub open: Arc<AtomicUsize>,
}

impl Fakes {
    /// With as many browsers as anyone wants.
    pub fn new() -> Arc<Self> {
        Self::with_permits(1_000)
    }

    pub fn with_permits(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            permits: Semaphore::new(permits),
            broken: false.into(),
            killed: watch::Sender::new(false),
            excess: watch::Sender::new(None),
            open: Arc::default(),
        })
    }

    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Source for Fakes {
    fn take<'a>(
        &'a self,
        _options: &'a LaunchOptions,
    ) -> BoxFuture<'a, Result<Box<dyn Lent>, String>> {
        async move {
            self.permits.acquire().await.expect("never closed").forget();
            if self.broken.load(Ordering::SeqCst) {
                return Err("exit code 1: no display".to_owned());
            }
            self.open.fetch_add(1, Ordering::SeqCst);
            let (to_chrome, commands) = pipe::pipe().expect("a pipe");
            let (answers, from_chrome) = pipe::pipe().expect("a pipe");
            tokio::spawn(answer(commands, answers));
            let mux = Mux::start(from_chrome, to_chrome, guard(), Backlogs::default());
            let (killed, excess) = (self.killed.subscribe(), self.excess.subscribe());
            let place = tempfile::tempdir().expect("a directory");
            let open = self.open.clone();
            Ok(Box::new(Fake { mux, killed, excess, open, place }) as Box<dyn Lent>)
        }
        .boxed()
    }
}

fn guard() -> Guard {
    Guard::new(Path::new("/nonexistent"), Box::new(|_| Err("no network".to_owned())))
}

/// Answers every command with an empty result, until the pipe closes.
async fn answer(mut commands: pipe::Receiver, mut answers: pipe::Sender) {
    let mut buffer = Vec::new();
    while commands.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
        while let Some(end) = buffer.iter().position(|&byte| byte == 0) {
            let message: Vec<u8> = buffer.drain(..=end).collect();
            let message: serde_json::Value =
                serde_json::from_slice(&message[..end]).expect("the mux writes JSON");
            let reply = serde_json::json!({ "id": message["id"], "result": {} });
            if answers.write_all(format!("{reply}\0").as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

struct Fake {
    mux: Arc<Mux>,
    killed: watch::Receiver<bool>,
    excess: watch::Receiver<Option<Excess>>,
    open: Arc<AtomicUsize>,
    place: tempfile::TempDir,
}

impl Lent for Fake {
    fn mux(&self) -> Arc<Mux> {
        self.mux.clone()
    }

    fn lend(&self, _way: Way) -> Account {
        Account::default()
    }

    fn trays(&self) -> Arc<Trays> {
        Arc::new(Trays::open(self.place.path(), self.place.path()).expect("it is there"))
    }

    fn exited(&mut self) -> BoxFuture<'_, ExitStatus> {
        async {
            let killed = self.killed.wait_for(|killed| *killed).await.is_ok();
            if !killed {
                std::future::pending::<()>().await;
            }
            ExitStatus::from_raw(9)
        }
        .boxed()
    }

    fn exceeded(&self) -> BoxFuture<'static, Excess> {
        let mut excess = self.excess.clone();
        async move {
            match excess.wait_for(Option::is_some).await.map(|excess| *excess) {
                Ok(Some(excess)) => excess,
                _ => std::future::pending().await,
            }
        }
        .boxed()
    }

    fn cause_of_end(&self) -> Option<Excess> {
        *self.excess.borrow()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
        .boxed()
    }
}

/// The way to a hub in plain text.
pub(crate) fn dialer(url: &str) -> Arc<Dialer> {
    let address = url.parse().expect("a URL");
    Arc::new(Dialer::new(vec![address], HubTls::default()).expect("an address"))
}

/// A hub that is not there.
pub(crate) fn no_hub() -> Hub {
    Hub::new(dialer("http://127.0.0.1:1"), AgentId::generate(), "")
}

/// An order for a new session that may run for a minute.
pub(crate) fn order() -> Order {
    Order {
        id: SessionId::generate(),
        terms: Terms { deadline: Instant::now() + Duration::from_secs(60), keepalives: 0 },
        keep_alive: Duration::from_secs(10),
        options: LaunchOptions { viewport: (1280, 720), user_agent: None },
        way: Way::default(),
        storage_state: StorageState::default(),
        traceparent: String::new(),
    }
}

/// Waits for something that must happen soon.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it did not happen")
}
