//! Reading sessions over REST while few or many of them are stored: by id, the newest page, a
//! page further down, and those of a state that few are in. PostgreSQL, one replica.

use std::{sync::Arc, time::Duration};

use harness::{Api, Server, figures::millis, fleet, population};
use http::Method;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Options,
    report::{Better, Figure, Measure, Samples},
};

/// How many sessions are stored, and what that is called.
const SIZES: [(usize, &str); 3] =
    [(10, "10 stored"), (10_000, "10 000 stored"), (1_000_000, "1 000 000 stored")];
/// What the others are compared with.
const BASELINE: &str = SIZES[1].1;
/// Clients at once.
const CLIENTS: usize = 10;
/// How many pages down the further page is, where there are so many.
const PAGES_DOWN: usize = 150;

const READS: [&str; 4] = ["get", "list", "list, a page further down", "list, running only"];

/// A control plane over a store of some size.
struct Store {
    name: &'static str,
    server: Server,
    /// Paths to ask for, for each kind of read.
    paths: [Arc<Vec<String>>; 4],
}

impl Store {
    async fn start(size: usize, name: &'static str) -> Self {
        let database = fleet::database().await;
        let plan = fleet::control_plane(&database, fleet::free_port());
        let server = plan.env("VENTUS_LOG", "warn").start().await;
        let ids = population::add_past(&database, size).await;
        let by_id = ids.iter().map(|id| format!("/v1/sessions/{id}")).collect();
        let further = further_down(&server.api).await;
        let paths = [
            by_id,
            vec!["/v1/sessions".into()],
            vec![further],
            vec!["/v1/sessions?status=RUNNING".into()],
        ];
        Self { name, server, paths: paths.map(Arc::new) }
    }

    /// As many requests as clients can make, each asking again once it was answered: the time
    /// of each.
    async fn read(&self, kind: usize, span: Duration) -> Vec<Duration> {
        let began = Instant::now();
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (api, paths) = (self.server.api.clone(), Arc::clone(&self.paths[kind]));
            clients.spawn(async move {
                let mut times = Vec::new();
                // Each begins elsewhere.
                let from = client * paths.len() / CLIENTS;
                for path in paths.iter().cycle().skip(from) {
                    if began.elapsed() >= span {
                        break;
                    }
                    let asked = Instant::now();
                    let answer = api.try_send(Method::GET, path, &[], None).await;
                    let answer = answer.expect("an answer");
                    times.push(asked.elapsed());
                    assert_eq!(answer.status, 200, "{}", answer.body);
                }
                times
            });
        }
        clients.join_all().await.concat()
    }
}

/// Where clients that go on come to.
async fn further_down(api: &Api) -> String {
    let mut path = "/v1/sessions".to_owned();
    for _ in 0..PAGES_DOWN {
        let page = api.get(&path).await.body;
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/sessions?cursor={cursor}");
    }
    path
}

/// All stores at once, in turns.
pub async fn run(options: &Options, notes: &mut Vec<String>) -> Vec<Measure> {
    let mut stores = Vec::new();
    for (size, name) in SIZES {
        stores.push(Store::start(size, name).await);
        eprint!(".");
    }
    let span = Duration::from_millis(if options.quick { 300 } else { 2_000 });
    let samples = |what: String, unit: &str, better| {
        Samples::new(what, unit, better).among(SIZES.map(|(_, name)| name)).by(BASELINE)
    };
    let time = |read: &&str| {
        let time = samples(format!("{read}, time"), "ms", Better::Less);
        match *read {
            "get" => time,
            _ => time.aim(SIZES[2].1, Figure::P99Ratio, 1.5),
        }
    };
    let rate = |read: &&str| samples(format!("{read}, requests"), "/s", Better::More);
    let mut times: Vec<_> = READS.iter().map(time).collect();
    let mut rates: Vec<_> = READS.iter().map(rate).collect();
    // the first round only warms up
    for round in 0..=options.rounds(7, 2) {
        for kind in 0..READS.len() {
            for store in &stores {
                let began = Instant::now();
                let taken = store.read(kind, span).await;
                let elapsed = began.elapsed().as_secs_f64();
                if round == 0 {
                    continue;
                }
                let count = u32::try_from(taken.len()).unwrap_or(u32::MAX);
                rates[kind].add(store.name, vec![f64::from(count) / elapsed]);
                times[kind].add(store.name, taken.into_iter().map(millis).collect());
            }
        }
        stores.rotate_left(1);
        eprint!(".");
    }
    for store in stores {
        store.server.stop().await;
    }
    notes.push(format!(
        "{CLIENTS} clients, each asking again once it was answered, on the same machine as the \
         control plane and PostgreSQL. A page has up to 50 sessions. All that are stored are over."
    ));
    times.into_iter().chain(rates).map(Samples::done).collect()
}
