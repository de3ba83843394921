//! What every replica does now and then. Nobody leads: each turn reads from the database what
//! there is to do, and on PostgreSQL takes its rows with `SKIP LOCKED`, a few in each
//! transaction. So replicas share the work and none waits for another, and a turn that fails,
//! or a replica that dies in one, costs no more than the time until the next.

use std::{fmt::Debug, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::error;

use crate::app::App;

/// The longest that a first turn waits: replicas that start together do not work together.
const SPREAD: Duration = Duration::from_secs(10);

/// Takes turns until the replica stops; `what` names them in the log.
pub async fn run<F, E>(app: App, every: Duration, what: &'static str, turn: impl Fn(App) -> F)
where
    F: Future<Output = Result<(), E>>,
    E: Debug,
{
    let mut tick = interval_at(Instant::now() + part_of(every.min(SPREAD)), every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = app.stop.cancelled() => return,
            _ = tick.tick() => (),
        }
        if let Err(error) = turn(app.clone()).await {
            error!(?error, what, "a periodic task failed; its next turn tries again");
        }
    }
}

/// Any part of a duration.
pub fn part_of(whole: Duration) -> Duration {
    // Without chance all start at once, which does no harm.
    let chance = getrandom::u32().unwrap_or_default();
    whole.mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::testing::{TestApp, on_both_databases, until};

    on_both_databases! {
        async fn a_turn_that_fails_is_taken_again_until_the_replica_stops(app: TestApp) {
            let turns = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&turns);
            let running = tokio::spawn(run(app.app.clone(), Duration::from_millis(5), "a test", move |_| {
                let turn = counted.fetch_add(1, Ordering::SeqCst);
                async move { if turn == 0 { Err("it fails") } else { Ok(()) } }
            }));
            until(async || turns.load(Ordering::SeqCst) > 2).await;
            app.app.stop.cancel();
            running.await.unwrap();
        }
    }

    #[test]
    fn a_part_is_no_more_than_the_whole() {
        assert!((0..100).all(|_| part_of(SPREAD) <= SPREAD));
        assert!((0..100).any(|_| part_of(SPREAD) != part_of(SPREAD)));
    }
}
