//! Raw CDP: message by message what Chrome's own port answers.

use std::time::Duration;

use harness::{Chrome, Server, Site, clients};
use serde_json::json;

async fn agree(scenarios: &[&str]) {
    let site = Site::start().await;
    let server = Server::up().capacity(1, 0).start().await;
    let session = server.api.create(json!({})).await;
    let chrome = Chrome::like(server.data()).await;
    let ours = clients::run("raw.mjs", session.connect_url(), &site.url, scenarios).await;
    let theirs = clients::run("raw.mjs", &chrome.url, &site.url, scenarios).await;
    clients::assert_alike(&ours, &theirs);
    if scenarios.contains(&"close") {
        let over = server.api.wait_for(session.id(), "COMPLETED", Duration::from_secs(5)).await;
        assert_eq!(over.reason(), "closed_by_client");
    } else {
        server.api.release(session.id()).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_odd_message_is_judged_as_chrome_judges_it() {
    agree(&["grammar", "mutants"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_chromes_own() {
    let scenarios = [
        "ids in flight twice",
        "ids of two clients",
        "order",
        "legacy",
        "auto-attach",
        "tab target",
        "popup",
        "io handles",
        "text",
    ];
    agree(&scenarios).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_discovery_and_frames_are_chromes_own() {
    agree(&["page endpoint", "crash", "frames", "discovery", "close"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_along_what_it_set_up() {
    agree(&["leaving", "leaving with work in flight", "a dialog stays"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn much_traffic_arrives_whole_and_in_order() {
    agree(&["large messages", "commands in flight", "many events"]).await;
}
