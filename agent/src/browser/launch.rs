//! Starts browsers.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::{
    io::Errno,
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
    process::{Pid, geteuid},
};
use serde_json::json;
use tokio::{net::unix::pipe, task::spawn_blocking, time};
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use super::{
    Browser, LaunchOptions,
    directory::{self, Directory},
    error::LaunchError,
    flags::{self, Kind, Machine},
    jail::{Isolation, Jail, Layer},
    orphans::Orphans,
    process::Process,
    sweep::sweep,
    users::{User, Users},
};
use crate::{
    Config,
    cdp::{Backlogs, CommandError, ContextProxy, Guard, Mux},
    files::Trays,
    gateway::{Contexts, Gateway, Gateways, Policy},
    limits::{self, Limited, Limiter, Limits, Subject},
    metrics::COUNTS,
};

/// How long a browser may take until it answers.
const LAUNCH_LIMIT: Duration = Duration::from_secs(30);

/// Size of both pipes in bytes: the most that Linux lets anybody have.
const PIPE_SIZE: usize = 1 << 20;

/// Free space in `/dev/shm`, in bytes, under which pages share memory through files instead.
/// A container's 64 MiB are used up by a few large pages, which then crash.
pub(crate) const SHARED_MEMORY_MIN: u64 = 512 << 20;

/// Where agents of this machine claim users for their browsers.
const CLAIMS: &str = "/run/ventus/users";

/// Starts browsers from one binary, below one directory.
#[derive(Debug)]
pub struct Launcher {
    binary: PathBuf,
    root: PathBuf,
    machine: Machine,
    isolation: Isolation,
    users: Option<Arc<Users>>,
    limit: Duration,
    gateways: Gateways,
    limiter: Limiter,
    backlogs: Backlogs,
    clearings: TaskTracker,
    _orphans: Orphans,
}

impl Launcher {
    /// Prepares the directory for browsers in the data directory, which no other agent may
    /// use, and sweeps what an earlier run left there.
    ///
    /// # Errors
    ///
    /// When browsers could not use the directory; the message says what to change.
    pub async fn new(config: &Config) -> anyhow::Result<Self> {
        let isolation = Isolation::probe(&config.browser, config.no_sandbox);
        isolation.demand(config.isolation)?;
        let root = config.data_dir.join("browsers");
        Self::prepare(&config.browser, &root, isolation, config.policy()?, config.limits).await
    }

    /// As [`new`](Self::new), without the rest of an agent's configuration.
    pub(crate) async fn open(
        binary: &Path,
        root: &Path,
        isolation: Isolation,
        policy: Policy,
    ) -> anyhow::Result<Self> {
        Self::prepare(binary, root, isolation, policy, Limits::default()).await
    }

    async fn prepare(
        binary: &Path,
        root: &Path,
        mut isolation: Isolation,
        policy: Policy,
        limits: Limits,
    ) -> anyhow::Result<Self> {
        let kind = Kind::of(binary);
        let limiter = Limiter::start(limits);
        isolation.add(Layer::on("limits", limiter.reach()));
        directory::make_root(root)
            .with_context(|| format!("cannot make the directory {}", root.display()))?;
        let root = root.canonicalize()?;
        check_root(&root, kind)?;
        let users = if geteuid().is_root() { Some(users(&root)?) } else { None };
        let orphans = Orphans::adopt().context("cannot adopt orphans")?;
        let below = root.clone();
        spawn_blocking(move || sweep(&below))
            .await?
            .with_context(|| format!("cannot clear {}", root.display()))?;
        let machine = Machine {
            kind,
            sandbox: isolation.has_sandbox(),
            shared_memory: shared_memory_is_enough(),
        };
        let clearings = TaskTracker::new();
        clearings.close(); // so that waiting ends whenever none is left
        let binary = binary.to_path_buf();
        Ok(Self {
            binary,
            root,
            machine,
            isolation,
            users,
            limit: LAUNCH_LIMIT,
            gateways: Gateways::limited(policy, limits.bandwidth_bytes()),
            limiter,
            backlogs: Backlogs::default(),
            clearings,
            _orphans: orphans,
        })
    }

    /// Starts a browser and waits until it answers and has its first page.
    ///
    /// # Errors
    ///
    /// When it does not come up within 30 s. What was started is cleared away.
    pub async fn launch(&self, options: &LaunchOptions) -> Result<Browser, LaunchError> {
        let born = Instant::now();
        self.check_memory()?;
        let gateway = self.gateways.open().await.map_err(LaunchError::Gateway)?;
        let (mut process, pipes, trays) = self.spawn(options, &gateway)?;
        if let Some(user) = process.user() {
            gateway.serve_only(user);
        }
        let mux = pipes.map_err(LaunchError::Spawn)?;
        match self.answer(&mux, &mut process, &trays).await {
            Ok(version) => {
                let start_time = born.elapsed();
                COUNTS.browser_starts.observe(start_time.as_secs_f64());
                debug!(browser = process.name(), %version, ?start_time, "a browser is up");
                let trays = Arc::new(trays);
                Ok(Browser { mux, version, start_time, born, process, gateway, trays })
            }
            Err(error) => {
                debug!(browser = process.name(), %error, "a browser did not come up");
                Err(error)
            }
        }
    }

    /// What confines its browsers.
    pub fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    /// Waits until nothing is left of the browsers that have been closed or dropped.
    pub async fn cleared(&self) {
        self.clearings.wait().await;
    }

    /// Starts the process. The multiplexer fails apart from it, as by then there is a
    /// process to clear away.
    fn spawn(
        &self,
        options: &LaunchOptions,
        gateway: &Gateway,
    ) -> Result<(Process, io::Result<Arc<Mux>>, Trays), LaunchError> {
        self.check_binary()?;
        let user = self.claim_user()?;
        let id = user.as_ref().map(|user| user.id);
        let directory = Directory::create(&self.root, id)
            .map_err(|source| LaunchError::Directory { root: self.root.clone(), source })?;
        let spawned = Pipes::new().and_then(|pipes| {
            // Before anything of the browser's runs that could put others in their place.
            let trays = Trays::open(&directory.uploads(), &directory.downloads())?;
            let jail = Jail {
                user: id,
                directory: &directory,
                gateway: gateway.port(),
                isolation: &self.isolation,
                limits: self.limiter.limits(),
            };
            let mut command = jail.command(&self.binary, pipes.commands.0, pipes.answers.1)?;
            command.args(flags::arguments(self.machine, options, &directory, gateway.port()));
            // It takes the command, which holds the browser's ends of the pipes: held longer,
            // their end would never come.
            let child = jail.spawn(&self.binary, command)?;
            Ok((child, pipes.answers.0, pipes.commands.1, trays))
        });
        let (child, answers, commands, trays) = match spawned {
            Ok(spawned) => spawned,
            Err(error) => {
                let _ = directory.remove();
                return Err(self.spawn_error(error));
            }
        };
        let contexts = gateway.contexts();
        let context_proxy = Box::new(move |server: &str| context_proxy(&contexts, server));
        let guard = Guard::new(directory.path(), context_proxy);
        let limited = |leader| self.limit(leader, &directory, id);
        let limited = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).map(limited);
        let process = limited
            .and_then(|limited| {
                Process::new(child, directory, user, limited, self.clearings.clone())
            })
            .ok_or_else(|| LaunchError::Spawn(Errno::SRCH.into()))?;
        let mux = pipe::Receiver::from_owned_fd(answers)
            .and_then(|answers| Ok((answers, pipe::Sender::from_owned_fd(commands)?)))
            .map(|(answers, commands)| Mux::start(answers, commands, guard, self.backlogs.clone()));
        Ok((process, mux, trays))
    }

    /// A machine without memory would kill any process, not only the new one.
    fn check_memory(&self) -> Result<(), LaunchError> {
        match limits::available() {
            Some(available_bytes) if available_bytes < self.limiter.limits().starting_bytes() => {
                Err(LaunchError::NoMemory { available_bytes })
            }
            _ => Ok(()),
        }
    }

    fn check_binary(&self) -> Result<(), LaunchError> {
        let binary = self.binary.clone();
        match fs::metadata(&binary) {
            Ok(about) if about.is_file() && about.permissions().mode() & 0o111 != 0 => Ok(()),
            Ok(_) => Err(LaunchError::NotExecutable { binary, source: None }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(LaunchError::NotFound(binary))
            }
            Err(error) => Err(LaunchError::NotExecutable { binary, source: Some(error) }),
        }
    }

    /// Holds a new browser to its limits before it is told to do anything.
    fn limit(&self, leader: Pid, directory: &Directory, user: Option<u32>) -> Limited {
        self.limiter.hold(Subject {
            name: directory.name().to_owned(),
            leader,
            user,
            directory: directory.path().to_path_buf(),
        })
    }

    fn claim_user(&self) -> Result<Option<User>, LaunchError> {
        let Some(users) = &self.users else { return Ok(None) };
        match users.claim() {
            Ok(Some(user)) => Ok(Some(user)),
            Ok(None) => Err(LaunchError::NoUser(None)),
            Err(error) => Err(LaunchError::NoUser(Some(error))),
        }
    }

    fn spawn_error(&self, error: io::Error) -> LaunchError {
        let binary = self.binary.clone();
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => LaunchError::NotFound(binary),
            Some(Errno::ACCESS | Errno::NOEXEC) => {
                LaunchError::NotExecutable { binary, source: Some(error) }
            }
            _ => LaunchError::Spawn(error),
        }
    }

    /// Waits for the first answers of a browser; gives its version.
    async fn answer(
        &self,
        mux: &Mux,
        process: &mut Process,
        trays: &Trays,
    ) -> Result<String, LaunchError> {
        let answer = time::timeout(self.limit, async {
            tokio::select! {
                status = process.exited() => Err(status),
                answer = first_page(mux, trays) => match answer {
                    // Its end of the pipe is closed: it is about to exit.
                    Err(CommandError::Closed) => Err(process.exited().await),
                    answer => Ok(answer),
                },
            }
        });
        match answer.await {
            Ok(Ok(version)) => version.map_err(LaunchError::Refused),
            Ok(Err(status)) => {
                Err(LaunchError::Exited { status, stderr: process.last_words().await })
            }
            Err(_) => {
                let stderr = process.last_words().await;
                Err(LaunchError::Timeout { limit: self.limit, stderr })
            }
        }
    }
}

/// The way to a proxy that a client gives to a context.
fn context_proxy(contexts: &Contexts, server: &str) -> Result<ContextProxy, String> {
    let proxy = contexts.open(server).map_err(|error| error.to_string())?;
    Ok(ContextProxy { server: proxy.server().to_owned(), held: Box::new(proxy) })
}

/// The two pipes, (read end, write end) each; every end closes at exec.
struct Pipes {
    commands: (OwnedFd, OwnedFd),
    answers: (OwnedFd, OwnedFd),
}

impl Pipes {
    fn new() -> io::Result<Self> {
        let pipes = Self {
            commands: pipe_with(PipeFlags::CLOEXEC)?,
            answers: pipe_with(PipeFlags::CLOEXEC)?,
        };
        for end in [&pipes.commands.1, &pipes.answers.1] {
            // Only faster: a user's share of pipe memory may be used up.
            let _ = fcntl_setpipe_size(end, PIPE_SIZE);
        }
        Ok(pipes)
    }
}

/// Asks for the version and for news of targets and downloads, then waits until there is a
/// page; gives the version.
async fn first_page(mux: &Mux, trays: &Trays) -> Result<String, CommandError> {
    let version = loop {
        match mux.command("Browser.getVersion", json!({})).await {
            Err(CommandError::TimedOut) => {} // a machine under load: the launch has its own limit
            answer => break answer?,
        }
    };
    // The agent keeps in mind where pages go. Tabs, too: a page of its own comes with one.
    mux.command("Target.setDiscoverTargets", json!({ "discover": true, "filter": [{}] })).await?;
    mux.accept_downloads(trays.downloads()).await?;
    loop {
        let targets = mux.command("Target.getTargets", json!({})).await?;
        let targets = targets["targetInfos"].as_array().map_or(&[][..], Vec::as_slice);
        if targets.iter().any(|target| target["type"] == "page") {
            break;
        }
        time::sleep(Duration::from_millis(3)).await;
    }
    Ok(version["product"].as_str().unwrap_or("unknown").to_owned())
}

/// Refuses a root that browsers could not use.
fn check_root(root: &Path, kind: Kind) -> anyhow::Result<()> {
    let shown = root.display();
    if kind == Kind::Full && root.as_os_str().len() > directory::ROOT_MAX {
        bail!(
            "the path {shown} is too long for Chrome, which makes a socket below it: \
             choose a data directory that leaves it at most {} bytes",
            directory::ROOT_MAX
        );
    }
    if geteuid().is_root()
        && let Some(barred) = directory::blocking_ancestor(root)?
    {
        bail!(
            "browsers run as users without rights and cannot reach {shown}: {} lets nobody \
             else pass. Allow it (chmod o+x) or choose another data directory",
            barred.display()
        );
    }
    Ok(())
}

fn users(root: &Path) -> anyhow::Result<Arc<Users>> {
    Users::new(Path::new(CLAIMS)).or_else(|error| {
        info!(%error, "{CLAIMS} cannot be used; other agents on this machine are not seen");
        Users::new(&root.with_file_name("browser-users")).context("cannot claim users")
    })
}

fn shared_memory_is_enough() -> bool {
    rustix::fs::statvfs("/dev/shm")
        .is_ok_and(|about| about.f_bavail.saturating_mul(about.f_frsize) >= SHARED_MEMORY_MIN)
}

#[cfg(test)]
#[path = "launch_tests.rs"]
mod tests;
