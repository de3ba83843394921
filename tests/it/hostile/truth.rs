//! What is told of a browser that hangs or loses a helper. A killed one is in `crash`.

use std::time::Duration;

use harness::{PATIENCE, Server, Site, cdp::Cdp, eventually, process};
use rustix::process::Signal;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_hangs_is_told_of_within_seconds() {
    let server = Server::up().capacity(1, 0).start().await;
    let session = server.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    cdp.call(None, "Browser.getVersion", json!({})).await;
    let browser = server.browsers().into_iter().next().expect("a browser");
    process::signal(browser.pid, Signal::STOP);
    // probes begin every 5 s and wait for 10 s
    let over = server.api.wait_for(session.id(), "ERRORED", Duration::from_secs(17)).await;
    assert_eq!(over.reason(), "browser_unresponsive");
    let (code, reason) = cdp.closed(Duration::from_secs(5)).await;
    assert_eq!((code, reason.as_str()), (1001, "browser_unresponsive"));
    server.at_rest(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_survives_the_end_of_its_helpers() {
    let site = Site::start().await;
    let server = Server::up().capacity(1, 0).start().await;
    let session = server.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    for kind in ["--utility-sub-type=network.mojom.NetworkService", "--type=gpu-process"] {
        let helpers = || {
            server.processes().into_iter().filter(|process| {
                process
                    .arguments
                    .iter()
                    .any(|argument| argument.to_string_lossy().starts_with(kind))
            })
        };
        let before: Vec<_> = helpers().map(|helper| helper.pid).collect();
        assert!(!before.is_empty(), "no process is {kind}");
        helpers().for_each(|helper| helper.kill());
        eventually("another takes its place", PATIENCE, || async {
            helpers().any(|helper| !before.contains(&helper.pid)).then_some(())
        })
        .await;
        let (_, page) = cdp.page(&format!("{}/second.html", site.url)).await;
        cdp.until_titled(&page, "Second page").await;
        cdp.call(Some(&page), "Page.captureScreenshot", json!({})).await;
    }
    assert_eq!(server.api.session(session.id()).await.status(), "RUNNING");
    cdp.close().await;
    server.api.release(session.id()).await;
    server.stop().await;
}
