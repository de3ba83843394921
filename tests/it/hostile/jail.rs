//! The jail around the browsers of a real server. What it keeps from them is tried where no
//! guard stands before Chrome: in the agent's tests, `browser/jail/`.

use std::{fs, time::Duration};

use harness::{Server, User, cdp::Cdp, eventually};
use serde_json::json;

const LAYERS: [&str; 5] = ["user", "no-new-privileges", "landlock", "seccomp", "chrome-sandbox"];

#[tokio::test(flavor = "multi_thread")]
async fn every_process_of_a_browser_is_confined_and_a_region_says_so() {
    let server = Server::up().capacity(1, 1).start().await;
    let session = server.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    cdp.page("about:blank").await;
    let regions = server.api.get("/v1/regions").await;
    let isolation = &regions.body["items"][0]["isolation"];
    let active = isolation["active"].as_array().unwrap();
    for layer in LAYERS.iter().skip(usize::from(!is_root())) {
        assert!(active.contains(&json!(layer)), "{isolation}");
    }
    assert!(server.log().contains("what isolates browsers"), "{}", server.log());
    // Chrome's helpers, which name no directory, are of its group.
    let group = |stat: &str| stat.rsplit_once(") ")?.1.split(' ').nth(2).map(str::to_owned);
    let groups: Vec<_> = server.browsers().iter().map(|browser| browser.pid.to_string()).collect();
    assert!(!groups.is_empty());
    let mut seen = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if !group(&read("stat")).is_some_and(|group| groups.contains(&group)) {
            continue;
        }
        let status = read("status");
        for wanted in ["\nNoNewPrivs:\t1\n", "\nSeccomp:\t2\n"] {
            // What ended meanwhile has nothing to say.
            assert!(status.is_empty() || status.contains(wanted), "{status}");
        }
        seen += usize::from(!status.is_empty());
    }
    assert!(seen >= 4, "a browser, its zygote, its network service and a page, but {seen}");
    cdp.close().await;
    server.api.release(session.id()).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_server_does_not_start_without_a_layer() {
    let user = User::nowhere();
    let strict = ["up", "--listen", "127.0.0.1:0", "--isolation", "strict", "--no-sandbox"];
    let said = user.fails(1, &strict).await;
    assert!(said.contains("chrome-sandbox"), "{said}");
    assert!(said.contains("leave out --no-sandbox"), "{said}");
    let said = user.fails(2, &["up", "--isolation", "somehow"]).await;
    assert!(said.contains("strict or best-effort"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_layer_is_told_loudly_and_by_the_region() {
    let server = Server::up().capacity(1, 0).env("VENTUS_NO_SANDBOX", "1").start().await;
    let reason = eventually("the region tells", Duration::from_secs(5), async || {
        let regions = server.api.get("/v1/regions").await;
        regions.body["items"][0]["isolation"]["missing"].as_array()?.last().cloned()
    });
    assert_eq!(reason.await["name"], "chrome-sandbox");
    assert!(server.log().contains("LESS ISOLATED"), "{}", server.log());
    server.stop().await;
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
