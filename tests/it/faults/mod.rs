//! Faults: real control planes, agents and browsers over a real PostgreSQL, all of which are
//! killed, frozen, cut off or lied to. At the end of each story the database, the machine and
//! what clients were told must agree.
//!
//! Where chance has a part it comes from one seed, which is printed with the command that makes
//! the same choices again. `make test` runs each story once, with a fixed seed; `make faults`
//! with another each time, for longer.

mod clocks;
mod cuts;
mod database;
mod disk;
mod fleet;
mod judge;
mod kills;
mod load;
mod messages;
mod muddled;
mod pauses;
mod twins;

use std::{env, str::FromStr};

use fastrand::Rng;

/// How a story goes this time.
struct Course {
    random: Rng,
    /// How often its faults happen.
    rounds: usize,
    /// Whether what takes its time is to happen as well.
    long: bool,
}

impl Course {
    /// As the environment wants it; `story` is the name of the test.
    fn of(story: &str) -> Self {
        let seed: u64 = number("FAULTS_SEED").unwrap_or(1);
        let rounds = number("FAULTS_ROUNDS").unwrap_or(1);
        println!("FAULTS_SEED={seed} FAULTS_ROUNDS={rounds} STORY={story} make faults");
        // Each story makes choices of its own.
        let own = story.bytes().fold(seed, |seed, byte| seed.wrapping_mul(31) ^ u64::from(byte));
        Self { random: Rng::with_seed(own), rounds, long: rounds > 1 }
    }
}

/// Whether we may make networks and mount disks.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn number<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}
