//! One stream to the hub, from the dial to its end.

use std::{collections::VecDeque, error::Error as _, iter, sync::Arc, time::Duration};

use proto::{
    HELD_MS, MESSAGE_MAX, PROTOCOL_VERSION,
    agent::{
        Capture, FileOrder, FromAgent, FromHub, Lease as Granted, from_hub::Message,
        hub_client::HubClient,
    },
    id::SessionId,
    session::EndReason,
    version,
};
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval, interval_at, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use tracing::{debug, info, warn};

use super::{
    Control, LEAVE_LIMIT,
    drain::Drain,
    lease::Lease,
    messages::{self, Unfit},
    reconnect::Reconnect,
    told::Told,
};
use crate::{
    clock::{BootTime, Clock},
    files,
    forward::Forwarder,
    metrics::Connected,
    sessions::{Ending, Report, Sessions, State},
    verifier::Verifier,
};

/// How long the hub's welcome may take.
const ATTACH_LIMIT: Duration = Duration::from_secs(3);
/// How old a stream is when it counts as one that works, and the next pause as a first one.
const LASTED: Duration = Duration::from_secs(3);
/// How often usage is told, if there is any new, and ended sessions are repeated.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// How long the hub may take to end the stream after us.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);
/// Messages that may wait to be sent. A hub that does not take them is as good as gone.
const OUTGOING: usize = 4_096;
/// A hub cannot make heartbeats more frequent than this.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(50);

/// Why there is no stream, or no longer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the hub cannot be reached")]
    Unreachable(#[source] tonic::transport::Error),
    #[error("the hub refused this agent: {}", .0.message())]
    Refused(Status),
    #[error("the stream broke: {}", in_full(.0))]
    Stream(Status),
    #[error(transparent)]
    Version(version::Mismatch),
    #[error("the hub closed the stream")]
    Closed,
    #[error("the hub's database does not answer")]
    DatabaseAway,
    #[error("the hub did not answer in time")]
    Unanswered,
    #[error("the hub broke the protocol")]
    Protocol,
    #[error("the hub does not take messages")]
    Behind,
}

impl Broken {
    /// A refusal is what the hub said; what the connection met on the way is none.
    fn refused(status: Status) -> Self {
        if status.source().is_some() { Self::Stream(status) } else { Self::Refused(status) }
    }

    /// What the hub said, if it did.
    fn status(&self) -> Option<&Status> {
        match self {
            Self::Refused(status) | Self::Stream(status) => Some(status),
            _ => None,
        }
    }

    /// For how long nobody judges the lease, if that is why.
    pub fn held(&self) -> Option<Duration> {
        let held_ms = self.status()?.metadata().get(HELD_MS)?;
        held_ms.to_str().ok()?.parse().ok().map(Duration::from_millis)
    }

    /// Whether the hub has declared this agent lost.
    pub fn is_lost(&self) -> bool {
        self.status().is_some_and(|status| status.code() == Code::Aborted)
    }
}

/// What a status says, and all that led to it.
fn in_full(status: &Status) -> String {
    let causes = iter::successors(status.source(), |&cause| cause.source());
    let causes = causes.map(|cause| format!(": {cause}"));
    iter::once(status.message().to_owned()).chain(causes).collect()
}

/// Serves one stream. Ok means that `stop` was heard and the agent has taken its leave.
pub(super) async fn serve(
    control: &mut Control,
    reconnect: &mut Reconnect,
    stop: &CancellationToken,
) -> Result<(), Broken> {
    let (mut stream, mut inbound) = tokio::select! {
        attached = Stream::attach(control) => attached?,
        () = stop.cancelled() => return Ok(()),
    };
    let _connected = Connected::to_hub();
    // Before the hub can acknowledge an end that the hello told of: the totals go with it.
    stream.tell()?;
    let sessions = control.sessions.clone();
    let mut leaving = control.drain.leaving();
    let mut leave_by = None;
    let mut tell = interval(TELL_EVERY);
    tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = inbound.message() => match message.map_err(Broken::Stream)? {
                Some(FromHub { message: Some(message) }) => stream.take(message, reconnect)?,
                Some(_) => debug!("the hub sent a message of a newer protocol"),
                None => return Err(Broken::Closed),
            },
            Some(report) = control.reports.recv() => stream.report(report)?,
            _ = stream.beat.tick() => stream.beat(*control.warm.borrow_and_update())?,
            Ok(()) = control.warm.changed() => {
                stream.warm_is(*control.warm.borrow_and_update())?;
            }
            _ = tell.tick() => stream.tell()?,
            Some(left) = leaving.next() => stream.send(messages::draining(left))?,
            () = stop.cancelled(), if leave_by.is_none() => {
                control.end_sessions();
                leave_by = Some(Instant::now() + LEAVE_LIMIT);
            }
            () = sessions.registry().settled(), if leave_by.is_some() => break,
            () = sleep_until(leave_by.unwrap_or_else(Instant::now)), if leave_by.is_some() => {
                warn!("leaving before the hub has acknowledged the end of every session");
                break;
            }
        }
    }
    drop(stream);
    // The hub sees the end of our side and ends its own: then it knows that we left.
    let rest = async { while let Ok(Some(_)) = inbound.message().await {} };
    let _ = timeout(CLOSE_LIMIT, rest).await;
    Ok(())
}

/// What an open stream has to remember.
struct Stream {
    sessions: Arc<Sessions>,
    lease: Arc<Lease>,
    clock: Arc<Clock>,
    verifier: Arc<Verifier>,
    drain: Arc<Drain>,
    forwarder: Arc<Forwarder>,
    out: mpsc::Sender<FromAgent>,
    began: Instant,
    beat: Interval,
    /// Of the newest heartbeat. The hello counts as number 0.
    sequence: u64,
    /// When heartbeats without an answer were sent, oldest first.
    unanswered: VecDeque<(u64, BootTime)>,
    /// The number of idle browsers that the hub knows.
    warm: u32,
    told: Told,
}

impl Stream {
    async fn attach(control: &mut Control) -> Result<(Self, Streaming<FromHub>), Broken> {
        let channel = control.dialer.connect().await.map_err(Broken::Unreachable)?;
        // What these would tell is in the hello.
        while control.reports.try_recv().is_ok() {}
        let warm = *control.warm.borrow_and_update();
        let (out, outgoing) = mpsc::channel(OUTGOING);
        let sent = BootTime::now();
        out.try_send(messages::hello(control)).map_err(|_| Broken::Behind)?;
        let mut hub = HubClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
        let attach = async {
            let mut inbound = hub
                .attach(ReceiverStream::new(outgoing))
                .await
                .map_err(Broken::refused)?
                .into_inner();
            let first = inbound.message().await.map_err(Broken::Stream)?;
            match first.and_then(|first| first.message) {
                Some(Message::Welcome(welcome)) => Ok((inbound, welcome)),
                _ => Err(Broken::Protocol),
            }
        };
        let attached = timeout(ATTACH_LIMIT, attach).await.map_err(|_| Broken::Unanswered)?;
        let (inbound, welcome) = attached?;
        // The first version did not say.
        version::check(welcome.protocol_version.max(1), PROTOCOL_VERSION)
            .map_err(Broken::Version)?;
        let hub = control.dialer.address();
        info!(%hub, epoch = welcome.epoch, "the hub welcomed this agent");
        let every = Duration::from_millis(welcome.heartbeat_ms.into()).max(SHORTEST_HEARTBEAT);
        let mut beat = interval_at(Instant::now() + every, every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stream = Self {
            sessions: control.sessions.clone(),
            lease: control.lease.clone(),
            clock: control.clock.clone(),
            verifier: control.verifier.clone(),
            drain: control.drain.clone(),
            forwarder: control.forwarder.clone(),
            out,
            began: Instant::now(),
            beat,
            sequence: 0,
            unanswered: VecDeque::from([(0, sent)]),
            warm,
            told: Told::default(),
        };
        // A hub that drains this agent says so to every stream.
        stream.drain.order(None);
        if let Some(keys) = welcome.signing_keys {
            stream.take_keys(&keys.jwks);
        }
        control.welcomed.send_replace(true);
        Ok((stream, inbound))
    }

    fn take(&mut self, message: Message, reconnect: &mut Reconnect) -> Result<(), Broken> {
        match message {
            Message::Lease(lease) => {
                self.answered(&lease)?;
                if self.began.elapsed() >= LASTED {
                    reconnect.succeeded();
                }
            }
            Message::Assign(assign) => {
                if !self.lease.live() {
                    // The hub repeats it if this agent is still the one to run it.
                    warn!(session = assign.session_id, "no session is started without a lease");
                    return Ok(());
                }
                match messages::order(assign, &self.clock) {
                    Ok(order) => self.sessions.assign(order),
                    Err(Unfit::Id(_)) => return Err(Broken::Protocol),
                    Err(Unfit::Proxy(id, why)) => {
                        let ending = Ending::new(EndReason::LaunchFailed, why.to_string());
                        self.send(messages::ended(id, &ending))?;
                    }
                    Err(Unfit::Egress(id, entry, why)) => {
                        let detail = format!("egress: {entry:?} {why}");
                        let ending = Ending::new(EndReason::LaunchFailed, detail);
                        self.send(messages::ended(id, &ending))?;
                    }
                }
            }
            Message::Release(release) => {
                let id = release.session_id.parse().map_err(|_| Broken::Protocol)?;
                let reason = release.reason.parse().unwrap_or(EndReason::Released);
                self.release(id, &Ending::new(reason, ""))?;
            }
            Message::Acknowledge(acknowledge) => {
                let id = acknowledge.session_id.parse().map_err(|_| Broken::Protocol)?;
                self.sessions.registry().acknowledged(id);
                self.told.forget(id);
            }
            Message::SigningKeys(keys) => self.take_keys(&keys.jwks),
            Message::Drain(drain) => {
                let span = Duration::from_secs(drain.deadline_seconds.into());
                self.drain.order((!drain.over).then_some(span));
            }
            Message::Peers(peers) => self.forwarder.meet(peers),
            Message::Recorded(recorded) => {
                for id in recorded.session_ids.iter().filter_map(|id| id.parse().ok()) {
                    self.sessions.registry().recorded(id);
                }
            }
            Message::Adjust(adjust) => {
                let id = adjust.session_id.parse().map_err(|_| Broken::Protocol)?;
                self.sessions.registry().adjust(id, messages::terms(&adjust, &self.clock));
            }
            Message::Capture(capture) => self.capture(capture)?,
            Message::File(order) => self.place(order)?,
            Message::Welcome(_) => return Err(Broken::Protocol),
        }
        Ok(())
    }

    fn answered(&mut self, granted: &Granted) -> Result<(), Broken> {
        let &Granted { sequence, valid_ms, now_ms, held_ms } = granted;
        let span = |ms: u32| Duration::from_millis(ms.into());
        while let Some(&(oldest, sent)) = self.unanswered.front()
            && oldest <= sequence
        {
            self.unanswered.pop_front();
            if oldest != sequence {
                continue;
            }
            if held_ms == 0 {
                self.lease.grant(sent, span(valid_ms));
            } else {
                self.lease.hold(sent, span(held_ms));
            }
            // An older hub does not say.
            if now_ms > 0 {
                self.clock.told(now_ms, sent);
            }
        }
        // It may be this hub alone that cannot ask it, and another one judges.
        let is_late = !self.lease.live_after(self.beat.period());
        if held_ms > 0 && is_late { Err(Broken::DatabaseAway) } else { Ok(()) }
    }

    /// Has a storage state read, which is told while this stream lasts.
    fn capture(&self, Capture { capture_id, session_id }: Capture) -> Result<(), Broken> {
        let id = session_id.parse().map_err(|_| Broken::Protocol)?;
        // Not to keep our side of the stream open when it is to end.
        let out = self.out.downgrade();
        self.sessions.capture(id, async move |captured| {
            if let Some(out) = out.upgrade() {
                let _ = out.send(messages::captured(capture_id, session_id, captured)).await;
            }
        });
        Ok(())
    }

    /// Has something done with an upload; what came of it is told while this stream lasts.
    fn place(&self, order: FileOrder) -> Result<(), Broken> {
        let FileOrder { order_id, session_id, name, size_bytes, remove } = order;
        let id = session_id.parse().map_err(|_| Broken::Protocol)?;
        let out = self.out.downgrade();
        let order = files::Order { name, size_bytes, remove };
        self.sessions.place(id, order, async move |placed| {
            if let Some(out) = out.upgrade() {
                let _ = out.send(messages::placed(order_id, session_id, placed)).await;
            }
        });
        Ok(())
    }

    fn release(&mut self, id: SessionId, ending: &Ending) -> Result<(), Broken> {
        match self.sessions.registry().state(id) {
            Some(State::Launching | State::Running) => {
                self.sessions.registry().end(id, ending);
                Ok(())
            }
            Some(State::Ended(outcome)) => self.send(messages::ended(id, &outcome.ending)),
            None => self.send(messages::ended(id, ending)),
        }
    }

    fn report(&mut self, report: Report) -> Result<(), Broken> {
        let news = self.told.report(report, self.sessions.registry(), &self.clock);
        news.into_iter().try_for_each(|message| self.send(message))
    }

    /// Asks for the lease. If the last time was not answered yet, this stream is dead.
    fn beat(&mut self, warm: u32) -> Result<(), Broken> {
        let patience = self.beat.period() / 2; // it may have been asked out of turn just now
        match self.unanswered.front() {
            Some((_, sent)) if sent.elapsed() > patience => Err(Broken::Unanswered),
            _ => self.ask(warm),
        }
    }

    /// Placement prefers agents with idle browsers: it hears at once whether there are any.
    fn warm_is(&mut self, warm: u32) -> Result<(), Broken> {
        if (warm == 0) == (self.warm == 0) { Ok(()) } else { self.ask(warm) }
    }

    fn ask(&mut self, warm: u32) -> Result<(), Broken> {
        self.sequence += 1;
        self.warm = warm;
        self.unanswered.push_back((self.sequence, BootTime::now()));
        self.send(messages::heartbeat(self.sequence, warm))
    }

    /// Tells what is new, and what the hub has not acknowledged yet.
    fn tell(&mut self) -> Result<(), Broken> {
        let news = self.told.news(self.sessions.registry(), &self.clock);
        news.into_iter().try_for_each(|message| self.send(message))
    }

    fn take_keys(&self, jwks: &str) {
        if let Err(error) = self.verifier.replace(jwks) {
            warn!(%error, "the hub sent keys that cannot be used; the former ones stay");
        }
    }

    fn send(&self, message: FromAgent) -> Result<(), Broken> {
        self.out.try_send(message).map_err(|_| Broken::Behind)
    }
}
