//! What a whole script takes, of the kind that people write with Puppeteer and Playwright, on a
//! browser that runs already.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use harness::{Site, folder};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{
    Options,
    report::{Better, Figure, Measure, Samples},
    rig::{self, LESS_THAN_PEER, Rig, Side},
};

/// How long a script may take.
const LIMIT: Duration = Duration::from_secs(120);
/// In the order in which they are shown.
const PARTS: [&str; 6] = ["whole", "connect", "log in", "table of 10 pages", "screenshot", "leave"];

/// A process of Node that does the work whenever it is told to.
struct Worker {
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    child: Child,
}

impl Worker {
    fn start(client: &str) -> Self {
        let mut command = Command::new("node");
        command.args(["work.mjs", client]).current_dir(folder().join("clients"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("node starts");
        let orders = child.stdin.take().expect("a pipe");
        let answers = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { orders, answers, child }
    }

    /// Milliseconds of each part.
    async fn work(&mut self, endpoint: &str, site: &str) -> BTreeMap<String, f64> {
        let order = json!({ "endpoint": endpoint, "site": site }).to_string() + "\n";
        self.orders.write_all(order.as_bytes()).await.expect("it listens");
        let line = timeout(LIMIT, self.answers.next_line()).await.expect("the work is done");
        let line = line.expect("it speaks").expect("it did not fail: it says above why");
        serde_json::from_str(&line).expect("a line of JSON")
    }

    async fn end(mut self) {
        drop(self.orders);
        let ended = timeout(LIMIT, self.child.wait()).await.expect("it ends");
        assert!(ended.is_ok_and(|status| status.success()), "work.mjs failed");
    }
}

/// Both clients on every side that has a URL, in turns.
pub async fn run(options: &Options, notes: &mut Vec<String>) -> Vec<Measure> {
    let site = Site::start().await;
    let rig = Rig::start(options).await;
    notes.push(rig::peer_note(&rig.peer));
    let held = rig.hold_peer().await;
    let mut measures = Vec::new();
    for client in ["puppeteer", "playwright"] {
        let mut worker = Worker::start(client);
        let mut samples: Vec<_> = PARTS
            .iter()
            .map(|part| Samples::new(format!("{client}, {part}"), "ms", Better::Less))
            .map(|samples| samples.among(Side::ALL.map(Side::name)).by(Side::Direct.name()))
            .collect();
        let whole = samples.remove(0);
        let whole = whole.aim(Side::Ventus.name(), Figure::PeerAdds, LESS_THAN_PEER);
        samples.insert(0, whole);
        // the first rounds only warm up
        let rounds = options.rounds(15, 3);
        for round in 0..rounds + 2 {
            let mut urls = rig.urls().await;
            let first = round % urls.len();
            urls.rotate_left(first);
            for (side, url) in urls {
                let parts = worker.work(&url, &site.url).await;
                for (part, samples) in PARTS.iter().zip(&mut samples).filter(|_| round > 1) {
                    samples.add(side.name(), vec![parts[*part]]);
                }
            }
            eprint!(".");
        }
        worker.end().await;
        measures.extend(samples.into_iter().map(Samples::done));
    }
    if let Some(link) = held {
        link.close().await;
    }
    rig.stop().await;
    measures
}
