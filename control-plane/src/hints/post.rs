//! Sends hints, and takes those of others.

use std::{collections::BTreeMap, str::FromStr, sync::Arc, time::Duration};

use proto::region::Region;
use sqlx::{
    ConnectOptions, PgConnection,
    postgres::{PgConnectOptions, PgListener},
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{debug, warn};

use super::Hint;
use crate::{agents, app::App, periodic::part_of};

/// The channel, within the database.
const CHANNEL: &str = "ventus_hints";
/// Largest payload, in bytes: PostgreSQL takes less than 8000.
const PAYLOAD_MAX: usize = 7_900;
/// The pause after each message, for hints to come together.
const PAUSE: Duration = Duration::from_millis(5);
/// How often others are told how many wait here, while any do.
const LENGTHS_EVERY: Duration = Duration::from_millis(500);
/// How long to wait before another connection is tried.
const RETRY: Duration = Duration::from_secs(2);
/// Hints at once that need a look at the database.
const LOOKS: usize = 4;

const NOTIFY: &str = "SELECT pg_notify($1, $2)";
// A notification needs no disk.
const ASYNCHRONOUS: &str = "SET synchronous_commit = off";

/// Sends and takes hints until the replica stops. Ends at once where there is nobody to tell.
pub async fn run(app: App) {
    let Some((replica, pending)) = app.hints.take() else { return };
    tokio::select! {
        () = app.stop.cancelled() => (),
        () = send(&app, &replica, pending) => (),
        () = listen(&app, &replica) => (),
    }
}

/// Sends what is pending, as much as there is in each message.
async fn send(app: &App, replica: &str, mut pending: mpsc::Receiver<Hint>) {
    let mut connection = None;
    let mut told = BTreeMap::new();
    let mut tick = interval(LENGTHS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut hints: Vec<Hint> = tokio::select! {
            hint = pending.recv() => match hint {
                Some(hint) => vec![hint],
                None => return,
            },
            _ = tick.tick() => lengths(app, &mut told),
        };
        let mut size: usize = hints.iter().map(line).map(|line| line.len()).sum();
        while size < PAYLOAD_MAX / 2
            && let Ok(hint) = pending.try_recv()
        {
            if !hints.contains(&hint) {
                size += line(&hint).len();
                hints.push(hint);
            }
        }
        if hints.is_empty() {
            continue;
        }
        if let Err(error) = notify(app, &mut connection, replica, &hints).await {
            debug!(?error, "could not tell other replicas; they look by themselves");
            connection = None;
            sleep(RETRY + part_of(RETRY)).await;
        }
        sleep(PAUSE).await;
    }
}

fn line(hint: &Hint) -> String {
    format!("\n{hint}")
}

/// How many wait for each region for which any do, or did when it was last told.
fn lengths(app: &App, told: &mut BTreeMap<Region, usize>) -> Vec<Hint> {
    let now = app.queue.lengths();
    let gone = told.keys().filter(|region| !now.contains_key(*region));
    let gone = gone.map(|region| Hint::Waiting(region.clone(), 0));
    let waiting = now.iter().map(|(region, length)| Hint::Waiting(region.clone(), *length));
    let hints = gone.chain(waiting).collect();
    *told = now;
    hints
}

async fn notify(
    app: &App,
    connection: &mut Option<PgConnection>,
    replica: &str,
    hints: &[Hint],
) -> sqlx::Result<()> {
    let connection = match connection {
        Some(connection) => connection,
        none => {
            let options = PgConnectOptions::from_str(&app.config.database_url)?;
            let mut new = options.application_name("ventus hints").connect().await?;
            sqlx::query(ASYNCHRONOUS).execute(&mut new).await?;
            none.insert(new)
        }
    };
    let mut payload = replica.to_owned();
    for line in hints.iter().map(line) {
        if payload.len() + line.len() <= PAYLOAD_MAX {
            payload.push_str(&line);
        }
    }
    sqlx::query(NOTIFY).bind(CHANNEL).bind(payload).execute(connection).await.map(drop)
}

/// Takes what others tell, forever.
async fn listen(app: &App, replica: &str) {
    let looks = Arc::new(Semaphore::new(LOOKS));
    loop {
        if let Err(error) = take(app, replica, &looks).await {
            warn!(?error, "cannot hear other replicas; until then all look by themselves");
        }
        sleep(RETRY + part_of(RETRY)).await;
    }
}

async fn take(app: &App, replica: &str, looks: &Arc<Semaphore>) -> sqlx::Result<()> {
    let mut listener = PgListener::connect(&app.config.database_url).await?;
    listener.listen(CHANNEL).await?;
    loop {
        let message = listener.recv().await?;
        let mut lines = message.payload().lines();
        match lines.next() {
            Some(other) if other != replica => {
                for hint in lines.filter_map(Hint::parse) {
                    heed(app, other, hint, looks).await;
                }
            }
            _ => (), // our own
        }
    }
}

/// Does what another replica's hint suggests.
async fn heed(app: &App, other: &str, hint: Hint, looks: &Arc<Semaphore>) {
    match hint {
        Hint::Room(region) => app.queue.woken(&region),
        Hint::Freed(region) => app.queue.freed_elsewhere(&region),
        Hint::Waiting(region, length) => app.queue.heard(other, &region, length),
        Hint::Session(id) => drop(app.changes.woken(id)),
        Hint::Tell(agent, _) | Hint::Look(agent) => {
            // Most agents have their streams elsewhere.
            let Some(open) = app.hub.stream_of(agent) else { return };
            // It fails only when it is closed, which it never is.
            let Ok(turn) = Arc::clone(looks).acquire_owned().await else { return };
            let app = app.clone();
            app.tasks.clone().spawn(async move {
                let _turn = turn;
                let session = match hint {
                    Hint::Tell(_, session) => Some(session),
                    _ => None,
                };
                if let Err(error) = agents::look(&app, &open, session).await {
                    debug!(?error, %agent, "could not look at once; the stream looks by itself");
                }
            });
        }
    }
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const POSTGRES_ONLY: &[&str] = &[NOTIFY, ASYNCHRONOUS];
