//! Pages that take all they can get of the machine.

use std::time::Duration;

use harness::{Server, Session, Site, cdp::Cdp, eventually};
use serde_json::json;
use tokio::time::Instant;

/// How long it may take a page to get over a limit: it needs the processor for that, and beside
/// others gets little of it.
const OFFENDS: Duration = Duration::from_secs(60);
/// How long what follows may take: a second, and what a busy machine adds.
const SOON: Duration = Duration::from_secs(20);

/// Median and 99th percentile.
fn middle_and_end(mut times: Vec<Duration>) -> [Duration; 2] {
    times.sort();
    [times[times.len() / 2], times[times.len() * 99 / 100]]
}

/// Somebody else's session, which must not notice anything.
struct Neighbour {
    session: Session,
    cdp: Cdp,
    page: String,
    quiet: [Duration; 2],
}

impl Neighbour {
    async fn start(server: &Server) -> Self {
        let session = server.api.create(json!({})).await;
        let mut cdp = Cdp::connect(session.connect_url()).await;
        let (_, page) = cdp.page("about:blank").await;
        let mut neighbour = Self { session, cdp, page, quiet: [Duration::ZERO; 2] };
        neighbour.times(500).await; // warm
        neighbour.quiet = middle_and_end(neighbour.times(1000).await);
        neighbour
    }

    /// How long so many round trips take.
    async fn times(&mut self, count: usize) -> Vec<Duration> {
        let mut times = Vec::new();
        for n in 0..count {
            let begun = Instant::now();
            assert_eq!(self.cdp.evaluate(Some(&self.page), &n.to_string()).await, n);
            times.push(begun.elapsed());
        }
        times
    }

    /// Works on until the attacker's session is over, or for some time; says how it went.
    async fn works_beside(&mut self, what: &str, server: &Server, attacker: Option<&str>) {
        let (begun, mut seen) = (Instant::now(), Vec::new());
        loop {
            seen.extend(self.times(100).await);
            assert_eq!(server.api.get("/healthz").await.status, 200);
            let over = match attacker {
                Some(id) => server.api.session(id).await.status() == "ERRORED",
                None => begun.elapsed() > Duration::from_secs(5),
            };
            if over {
                break;
            }
            assert!(begun.elapsed() < OFFENDS, "{what}: the attacker's session goes on");
        }
        println!(
            "{what}: {} round trips of a neighbour, median and 99 of 100: quiet {:?}, now {:?}, \
             in {:?}",
            seen.len(),
            self.quiet,
            middle_and_end(seen),
            begun.elapsed()
        );
    }

    async fn leave(self, server: &Server) {
        self.cdp.close().await;
        server.api.release(self.session.id()).await;
    }
}

/// A session with a page of the site that runs a script, which goes on after the answer.
async fn attack(server: &Server, site: &Site, script: &str) -> (Session, Cdp) {
    let session = server.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let (_, page) = cdp.page(&site.url).await;
    cdp.until_titled(&page, "Ventus test site").await;
    let (_, text) = cdp.command(Some(&page), "Runtime.evaluate", json!({ "expression": script }));
    cdp.send(text).await;
    (session, cdp)
}

/// Its session ends with the limit and the figures; the neighbour works on meanwhile.
async fn is_ended(
    what: &str,
    script: &str,
    server: &Server,
    site: &Site,
    neighbour: &mut Neighbour,
) {
    let (session, mut cdp) = attack(server, site, script).await;
    neighbour.works_beside(what, server, Some(session.id())).await;
    assert_eq!(cdp.closed(SOON).await, (1001, "resource_limit".into()));
    let over = server.api.session(session.id()).await;
    assert_eq!(over.reason(), "resource_limit");
    let said = over.0["status_reason"]["message"].as_str().unwrap();
    // The figures say that it did take more than that: without the limit it would have gone on.
    // A cgroup lets nobody have more than all of it.
    let held = server.log().contains("by=\"cgroups for memory");
    assert!(said.contains(what), "{said}");
    let figures: Vec<u64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(
        matches!(figures[..], [used, limit] if used > limit || held && used == limit),
        "{said}"
    );
    println!("{said}");
}

const MEMORY: &str = "window.hoard = []; setInterval(() => {
    const part = new Uint8Array(16 << 20); part.fill(1); hoard.push(part) }, 5)";

const DISK: &str = "caches.open('hoard').then(async cache => {
    for (let n = 0; ; n++) await cache.put('/' + n, new Response(new Uint8Array(8 << 20))) })";

const PROCESSES: &str = "const idle = URL.createObjectURL(new Blob(['setInterval(() => {}, 1e6)']));
    window.hoard = []; setInterval(() => { for (let n = 0; n < 20; n++) hoard.push(new Worker(idle)) }, 50)";

const PROCESSOR: &str = "const busy = URL.createObjectURL(new Blob(['for (;;);']));
    window.hoard = []; for (let n = 0; n < 16; n++) hoard.push(new Worker(busy))";

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_takes_too_much_ends_its_own_session_only() {
    let site = Site::start().await;
    let server = Server::up()
        .capacity(2, 0)
        .env("VENTUS_SESSION_MEMORY_MB", 900)
        .env("VENTUS_SESSION_DISK_MB", 100)
        .env("VENTUS_SESSION_PROCESSES", 300)
        .start()
        .await;
    let mut neighbour = Neighbour::start(&server).await;
    for (what, script) in [("memory", MEMORY), ("disk", DISK), ("processes", PROCESSES)] {
        is_ended(what, script, &server, &site, &mut neighbour).await;
    }
    // Nothing of what was taken is left, and nobody else was touched.
    eventually("only the neighbour's browser is left", SOON, || async {
        (server.browsers().len() == 1).then_some(())
    })
    .await;
    neighbour.leave(&server).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_takes_all_processors_leaves_others_theirs() {
    let site = Site::start().await;
    let server = Server::up().capacity(2, 0).start().await;
    let mut neighbour = Neighbour::start(&server).await;
    let (session, _cdp) = attack(&server, &site, PROCESSOR).await;
    neighbour.works_beside("processor", &server, None).await;
    neighbour.works_beside("processor, later", &server, None).await;
    // That is no offence: it takes what nobody wants.
    assert_eq!(server.api.session(session.id()).await.status(), "RUNNING");
    server.api.release(session.id()).await;
    neighbour.leave(&server).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_its_bandwidth_and_no_more() {
    let site = Site::start().await;
    // One megabyte a second.
    let server = Server::up().capacity(2, 0).env("VENTUS_SESSION_BANDWIDTH_MBIT", 8).start().await;
    let upload = |bytes: u32| {
        format!(
            "fetch('/echo', {{ method: 'POST', body: new Uint8Array({bytes}) }}).then(r => r.status)"
        )
    };
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let session = server.api.create(json!({})).await;
        let mut cdp = Cdp::connect(session.connect_url()).await;
        let (_, page) = cdp.page(&site.url).await;
        cdp.until_titled(&page, "Ventus test site").await;
        sessions.push((session, cdp, page));
    }
    let [(one, first, page), (two, second, other)] = &mut sessions[..] else { unreachable!() };
    let (short, long) = (upload(100_000), upload(4_000_000));
    let begun = Instant::now();
    tokio::join!(
        async {
            assert_eq!(first.evaluate(Some(page), &long).await, 200);
            assert!(begun.elapsed() > Duration::from_secs(3), "{:?}", begun.elapsed());
        },
        async {
            // Ten of them are one second's worth: it waits for its own bandwidth only.
            for _ in 0..10 {
                assert_eq!(second.evaluate(Some(other), &short).await, 200);
            }
            println!("a neighbour's megabyte took {:?}", begun.elapsed());
        }
    );
    for id in [one.id(), two.id()] {
        server.api.release(id).await;
    }
    server.stop().await;
}
