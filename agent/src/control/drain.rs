//! Taking this agent out of service: by order of the hub, or because its process is to stop.
//!
//! ```text
//! in service ──▶ ordered by the hub ──deadline──▶ what still runs is ended
//!     │               └─▶ in service again
//!     └────────▶ leaving: takes no session, hands back launches ──▶ stops
//! ```
//!
//! Either way the hub places nothing here any more, and no browser is started in advance.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::sessions::{Leave, Registry};

/// How often sessions that came after the deadline are ended: the hub may have placed them
/// just before.
const REPEAT: Duration = Duration::from_secs(1);

/// Whether this agent is drained, and until when its sessions may go on.
#[derive(Default)]
pub(crate) struct Drain {
    ordered: watch::Sender<Option<Instant>>,
    leaving: watch::Sender<Option<Instant>>,
}

impl Drain {
    /// The hub wants it, with so much time for what runs; or, with `None`, no longer.
    pub fn order(&self, span: Option<Duration>) {
        let news = self.ordered.send_if_modified(|ordered| {
            let was = ordered.is_some();
            *ordered = span.map(|span| Instant::now() + span);
            was || span.is_some()
        });
        match span {
            Some(span) => info!(seconds = span.as_secs(), "the hub drains this agent"),
            None if news => info!("this agent is not drained by the hub"),
            None => (),
        }
    }

    /// The process is to stop, when what runs has ended or so much time is over.
    pub fn leave(&self, span: Duration) {
        self.leaving.send_replace(Some(Instant::now() + span));
    }

    /// Whether nothing new is to come here, for whichever reason.
    pub fn is_on(&self) -> bool {
        self.ordered.borrow().is_some() || self.leaving.borrow().is_some()
    }

    /// For a stream: when the process is to stop.
    pub(super) fn leaving(&self) -> Leaving {
        let mut leaving = self.leaving.subscribe();
        if leaving.borrow().is_some() {
            leaving.mark_changed(); // this stream's hub has not heard it
        }
        Leaving(leaving)
    }

    /// Ends sessions when their time is over, and tells `rest` whether browsers may be started
    /// in advance.
    pub async fn guard(
        self: Arc<Self>,
        registry: Arc<Registry>,
        rest: impl Fn(bool),
        stop: CancellationToken,
    ) {
        let (mut ordered, mut leaving) = (self.ordered.subscribe(), self.leaving.subscribe());
        let mut repeat_at = None;
        loop {
            let deadline = *ordered.borrow_and_update();
            rest(deadline.is_some() || leaving.borrow_and_update().is_some());
            let due = deadline.map(|deadline| repeat_at.map_or(deadline, |at| deadline.max(at)));
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = ordered.changed() => repeat_at = None,
                Ok(()) = leaving.changed() => (),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if repeat_at.is_none() {
                        warn!("the time for draining is over: ending the sessions that are left");
                    }
                    registry.leave(Leave::End("the time for draining its agent was over"));
                    repeat_at = Some(Instant::now() + REPEAT);
                }
            }
        }
    }
}

/// See [`Drain::leaving`].
pub(super) struct Leaving(watch::Receiver<Option<Instant>>);

impl Leaving {
    /// How long until the process stops, as soon as that is known and each time it changes.
    /// `None`: it will not change any more. Cancel-safe.
    pub async fn next(&mut self) -> Option<Duration> {
        self.0.changed().await.ok()?;
        let stops = (*self.0.borrow_and_update())?;
        Some(stops.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use proto::session::EndReason;
    use tokio::sync::mpsc;

    use super::*;
    use crate::sessions::{
        Sessions, State,
        testing::{Fakes, no_hub, order, soon},
    };

    /// An agent's sessions, one of which runs.
    struct World {
        drain: Arc<Drain>,
        registry: Arc<Registry>,
        sessions: Sessions,
        running: proto::id::SessionId,
        resting: watch::Receiver<bool>,
        stop: CancellationToken,
    }

    impl World {
        async fn start() -> Self {
            let registry = Registry::new(4);
            let fakes = Fakes::with_permits(1);
            let (sessions, mut reports) = Sessions::new(registry.clone(), fakes, no_hub());
            let (drain, stop) = (Arc::<Drain>::default(), CancellationToken::new());
            let (rests, resting) = watch::channel(false);
            let rest = move |now| _ = rests.send_replace(now);
            tokio::spawn(drain.clone().guard(registry.clone(), rest, stop.clone()));
            let order = order();
            let running = order.id;
            sessions.assign(order);
            soon(reports.recv()).await.unwrap();
            Self { drain, registry, sessions, running, resting, stop }
        }

        async fn ended(&self, id: proto::id::SessionId) -> EndReason {
            let (told, mut found) = mpsc::channel(1);
            let registry = self.registry.clone();
            tokio::spawn(async move {
                loop {
                    if let Some(State::Ended(outcome)) = registry.state(id) {
                        return told.send(outcome.ending.reason).await;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
            soon(found.recv()).await.unwrap()
        }
    }

    #[tokio::test]
    async fn what_still_runs_at_the_deadline_is_ended_and_nothing_before() {
        let mut world = World::start().await;
        world.drain.order(Some(Duration::from_secs(3_600)));
        soon(world.resting.wait_for(|resting| *resting)).await.unwrap();
        assert_eq!(world.registry.state(world.running), Some(State::Running));
        world.drain.order(None);
        soon(world.resting.wait_for(|resting| !resting)).await.unwrap();
        assert_eq!(world.registry.state(world.running), Some(State::Running));
        world.drain.order(Some(Duration::ZERO));
        assert_eq!(world.ended(world.running).await, EndReason::AgentDrained);
        // What was placed at the last moment goes the same way, as a launch that failed.
        let late = order();
        let id = late.id;
        world.sessions.assign(late);
        assert_eq!(world.ended(id).await, EndReason::LaunchFailed);
        world.stop.cancel();
    }

    #[tokio::test]
    async fn launches_are_handed_back_and_what_runs_goes_on() {
        let world = World::start().await;
        let launching = order();
        let id = launching.id;
        world.sessions.assign(launching); // there is no browser for it
        world.registry.leave(Leave::Launch);
        assert_eq!(world.ended(id).await, EndReason::LaunchFailed);
        assert_eq!(world.registry.state(world.running), Some(State::Running));
        world.stop.cancel();
    }

    #[tokio::test]
    async fn every_stream_hears_that_the_process_is_to_stop() {
        let drain = Drain::default();
        let mut early = drain.leaving();
        drain.leave(Duration::from_secs(60));
        for mut stream in [drain.leaving(), drain.leaving()] {
            assert!(soon(stream.next()).await.unwrap() > Duration::from_secs(50));
        }
        assert!(soon(early.next()).await.is_some());
    }
}
