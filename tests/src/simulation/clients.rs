//! Those who use the fleet: each creates, now and then repeats a request, and releases.

use std::{collections::HashSet, time::Duration};

use fastrand::Rng;
use tokio::{task::JoinSet, time::Instant};

use super::Size;
use crate::{Api, load};

/// All of them.
pub struct Clients(Vec<Client>);

/// One, with a plan of its own: what it does next depends on its seed and on nothing else.
struct Client {
    apis: Vec<Api>,
    rng: Rng,
    steps: usize,
    /// Names its keys.
    name: String,
    made: usize,
    holds: Vec<String>,
    released: HashSet<String>,
    times: Vec<Duration>,
}

impl Clients {
    /// Each is given a part of some sessions that live, taken from them.
    pub fn new(apis: &[Api], size: Size, live: &mut Vec<String>, rng: &mut Rng) -> Self {
        let part = live.len() / 2 / size.clients;
        let client = |n| Client {
            apis: apis.to_vec(),
            rng: rng.fork(),
            steps: size.steps,
            name: format!("client-{n}"),
            made: 0,
            holds: live.split_off(live.len() - part),
            released: HashSet::new(),
            times: Vec::new(),
        };
        Self((0..size.clients).map(client).collect())
    }

    /// All do their next steps.
    pub async fn work(self) -> Self {
        let tasks: JoinSet<Client> = self.0.into_iter().map(Client::work).collect();
        Self(tasks.join_all().await)
    }

    /// How long each create took.
    pub fn times(&self) -> Vec<Duration> {
        self.0.iter().flat_map(|client| client.times.clone()).collect()
    }

    /// The sessions that they were given or have made, and have not released.
    pub fn holds(&self) -> Vec<String> {
        self.0.iter().flat_map(|client| client.holds.clone()).collect()
    }

    /// Those that they have released.
    pub fn released(&self) -> HashSet<String> {
        self.0.iter().flat_map(|client| client.released.clone()).collect()
    }
}

impl Client {
    /// Each step makes a session and releases another, in either order.
    async fn work(mut self) -> Self {
        for _ in 0..self.steps {
            if self.rng.bool() {
                self.create().await;
                self.release().await;
            } else {
                self.release().await;
                self.create().await;
            }
        }
        self
    }

    fn api(&mut self) -> Api {
        self.rng.choice(&self.apis).expect("a replica").clone()
    }

    async fn create(&mut self) {
        self.made += 1;
        let key = format!("{}-{}", self.name, self.made);
        let (api, other) = (self.api(), self.api());
        let began = Instant::now();
        let id = load::create(&api, &key).await;
        self.times.push(began.elapsed());
        if self.rng.u8(0..10) == 0 {
            assert_eq!(load::create(&other, &key).await, id, "{key} was served twice");
        }
        let known = self.holds.contains(&id) || self.released.contains(&id);
        assert!(!known, "{id} was made for two keys");
        self.holds.push(id);
    }

    async fn release(&mut self) {
        if self.holds.is_empty() {
            return;
        }
        let id = self.holds.swap_remove(self.rng.usize(..self.holds.len()));
        self.api().release(&id).await;
        self.released.insert(id);
    }
}
