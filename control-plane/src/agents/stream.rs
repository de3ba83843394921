//! One agent's stream, as long as it lasts.
//!
//! Reports are worked off in lanes, so that many sessions can start at once; one session's
//! reports keep to one lane, and so to their order. Heartbeats do not queue behind them.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    time::Duration,
};

use proto::{
    agent::{
        Captured, Denials, Ended, FromAgent, Heartbeat, Placed, SessionReport, SessionUsage,
        from_agent::Message,
    },
    id::SessionId,
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tonic::{Status, Streaming};
use tracing::{error, info, warn};

use super::{drain, hub::Open, in_time, messages, reconcile, store};
use crate::{app::App, files, join_tokens, periodic::part_of, sessions};

/// How often everything is read that the agent should know. What it has yet to do is looked for
/// more often, by `reconcile`: this is for the rest, such as a keep-alive that was missed for long.
const LOOK_EVERY: Duration = Duration::from_secs(15);
const LANES: usize = 8;
/// Reports that may wait in a lane before the stream is no longer read.
const LANE: usize = 1_024;

/// One agent's stream.
pub(super) struct Stream {
    app: App,
    open: Open,
}

/// How a stream ended. Either way the agent may come back while its lease lasts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The agent closed its side.
    Closed,
    Broke,
}

/// What an agent reports of its sessions.
enum Report {
    Running(SessionId),
    Ending(SessionId, Ended),
    Ended(SessionId, Ended),
    Usage(Vec<SessionUsage>),
    Captured(Captured),
    Denials(Denials),
    Placed(Placed),
}

impl Stream {
    pub fn new(app: App, open: Open) -> Self {
        Self { app, open }
    }

    /// Serves the stream to its end.
    pub async fn run(self, mut inbound: Streaming<FromAgent>, reports: Vec<SessionReport>) {
        let Self { app, open } = &self;
        let end = match reconcile::hello(app, open, reports).await {
            Ok(()) => self.serve(&mut inbound).await,
            Err(error) => {
                error!(?error, agent = %open.agent, "could not reconcile; the agent shall try again");
                app.watch.failed();
                open.refuse(messages::away());
                End::Broke
            }
        };
        app.hub.remove(open);
        if let Err(error) = self.detach(end).await {
            error!(?error, agent = %open.agent, "could not record the end of a stream");
        }
    }

    async fn serve(&self, inbound: &mut Streaming<FromAgent>) -> End {
        let lanes = self.lanes();
        // Agents that came together do not look together.
        let mut look = interval_at(Instant::now() + part_of(LOOK_EVERY), LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                biased; // nothing of a stream that was cut counts
                () = self.open.cut.cancelled() => {
                    self.open.refuse(Status::unavailable("the stream ends here; dial again"));
                    return End::Broke;
                }
                _ = look.tick() => {
                    // A slow database must not keep heartbeats waiting.
                    self.app.tasks.spawn(look_for(self.app.clone(), self.open.clone()));
                    continue;
                }
                message = inbound.message() => message,
            };
            match message {
                Ok(Some(FromAgent { message: Some(message) })) => {
                    if let Some(end) = self.take(message, &lanes).await {
                        return end;
                    }
                }
                Ok(Some(_)) => (), // of a newer protocol
                Ok(None) => {
                    lanes.finish().await;
                    return End::Closed;
                }
                Err(status) => {
                    warn!(agent = %self.open.agent, code = ?status.code(), "the stream broke");
                    return End::Broke;
                }
            }
        }
    }

    async fn take(&self, message: Message, lanes: &Lanes) -> Option<End> {
        match message {
            Message::Heartbeat(heartbeat) => return self.renew(heartbeat).await,
            Message::Running(running) => {
                if let Ok(id) = running.session_id.parse() {
                    lanes.add(id, Report::Running(id)).await;
                }
            }
            Message::Ending(ending) => {
                if let Ok(id) = ending.session_id.parse() {
                    lanes.add(id, Report::Ending(id, ending)).await;
                }
            }
            Message::Ended(ended) => {
                if let Ok(id) = ended.session_id.parse() {
                    lanes.add(id, Report::Ended(id, ended)).await;
                }
            }
            Message::Usage(usage) => lanes.add_usage(usage.sessions).await,
            Message::Captured(captured) => {
                if let Ok(id) = captured.session_id.parse() {
                    lanes.add(id, Report::Captured(captured)).await;
                }
            }
            Message::Denials(denials) => {
                if let Ok(id) = denials.session_id.parse() {
                    lanes.add(id, Report::Denials(denials)).await;
                }
            }
            Message::Placed(placed) => {
                if let Ok(id) = placed.session_id.parse() {
                    lanes.add(id, Report::Placed(placed)).await;
                }
            }
            Message::Draining(_) => {
                let Open { agent, epoch, .. } = self.open;
                info!(%agent, "the agent is about to stop");
                // Until then it hands back what is placed on it.
                if let Err(error) = in_time(drain::leaving(&self.app, agent, epoch)).await {
                    error!(?error, %agent, "could not record that an agent is about to stop");
                }
            }
            Message::Hello(_) => {
                self.open.refuse(Status::failed_precondition("hello comes once"));
                return Some(End::Broke);
            }
        }
        None
    }

    async fn renew(&self, Heartbeat { sequence, warm }: Heartbeat) -> Option<End> {
        let renewed = async {
            let mut tx = self.app.db.begin_single().await?;
            let renewed = store::renew(&mut tx, self.open.agent, self.open.epoch, warm).await?;
            let now_us = tx.now_us().await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(renewed.then_some(now_us))
        };
        match in_time(renewed).await {
            Ok(Some(now_us)) => {
                self.open.send(messages::lease(sequence, now_us));
                None
            }
            Ok(None) => {
                self.open.refuse(self.why_lost().await);
                Some(End::Broke)
            }
            Err(error) => {
                error!(?error, agent = %self.open.agent, "could not renew a lease");
                self.app.watch.failed();
                self.open.send(messages::held(sequence));
                None
            }
        }
    }

    /// Why the lease could not be renewed, for the agent's log.
    async fn why_lost(&self) -> Status {
        let refusal = async {
            let Some(token) = self.open.token else { return Ok(None) };
            join_tokens::refusal(&mut self.app.db.read().await?, token).await
        };
        match refusal.await {
            Ok(Some(refusal)) => {
                warn!(agent = %self.open.agent, %refusal, "cut an agent off");
                Status::unauthenticated(refusal.to_string())
            }
            Ok(None) => Status::aborted("the lease has lapsed, and its sessions are over"),
            Err(error) => {
                error!(?error, agent = %self.open.agent, "could not read a join token");
                Status::unavailable("the database failed")
            }
        }
    }

    /// Nothing new is placed on an agent without a stream.
    async fn detach(&self, end: End) -> sqlx::Result<()> {
        let Open { agent, epoch, .. } = self.open;
        let mut tx = self.app.db.begin().await?;
        if end == End::Closed && store::left(&mut tx, agent, epoch).await? {
            info!(%agent, "agent left");
        } else {
            store::disconnected(&mut tx, agent, epoch).await?;
        }
        tx.commit().await
    }

    fn lanes(&self) -> Lanes {
        let lanes = std::array::from_fn(|_| {
            let (lane, reports) = mpsc::channel(LANE);
            let work = work_off(self.app.clone(), self.open.clone(), reports);
            (lane, self.app.tasks.spawn(work))
        });
        Lanes { lanes, hasher: BuildHasherDefault::new() }
    }
}

async fn look_for(app: App, stream: Open) {
    if let Err(error) = in_time(reconcile::repeat(&app, &stream)).await {
        error!(?error, agent = %stream.agent, "could not read what an agent should run");
    }
}

/// Reports on their way to the database.
struct Lanes {
    lanes: [(mpsc::Sender<Report>, tokio::task::JoinHandle<()>); LANES],
    hasher: BuildHasherDefault<DefaultHasher>,
}

impl Lanes {
    async fn add(&self, id: SessionId, report: Report) {
        // Fails only when the worker has panicked; the agent repeats what matters.
        let _ = self.lanes[self.lane_of(id)].0.send(report).await;
    }

    async fn add_usage(&self, sessions: Vec<SessionUsage>) {
        let mut by_lane: [Vec<SessionUsage>; LANES] = Default::default();
        for usage in sessions {
            if let Ok(id) = usage.session_id.parse() {
                by_lane[self.lane_of(id)].push(usage);
            }
        }
        for ((lane, _), usage) in self.lanes.iter().zip(by_lane) {
            if !usage.is_empty() {
                let _ = lane.send(Report::Usage(usage)).await;
            }
        }
    }

    fn lane_of(&self, id: SessionId) -> usize {
        (self.hasher.hash_one(id) % LANES as u64) as usize
    }

    /// Waits until everything is worked off.
    async fn finish(self) {
        for (lane, worker) in self.lanes {
            drop(lane);
            // It fails only by a panic, which is in the log.
            let _ = worker.await;
        }
    }
}

/// Records one lane's reports, in order. Ends with the lane's sender.
async fn work_off(app: App, stream: Open, mut reports: mpsc::Receiver<Report>) {
    while let Some(report) = reports.recv().await {
        let recorded = match report {
            Report::Running(id) => reconcile::running(&app, &stream, id).await,
            Report::Ending(id, ending) => reconcile::ending(&app, &stream, id, &ending).await,
            Report::Ended(id, ended) => reconcile::ended(&app, &stream, id, &ended).await,
            Report::Usage(usage) => sessions::usage(&app, stream.agent, &usage).await,
            Report::Captured(captured) => {
                sessions::captures::captured(&app, stream.agent, captured).await
            }
            Report::Denials(denials) => {
                sessions::denials::denied(&app, stream.agent, denials).await
            }
            Report::Placed(placed) => files::orders::placed(&app, stream.agent, placed).await,
        };
        if let Err(error) = recorded {
            // Nothing is lost: the agent repeats it, or is asked again by the next look.
            error!(?error, agent = %stream.agent, "could not record a report");
        }
    }
}
