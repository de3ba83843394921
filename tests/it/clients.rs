//! Real clients cannot tell a connect URL from Chrome's own port.

use std::time::Duration;

use harness::{Chrome, Server, Site, clients};
use serde_json::json;

/// Runs all scenarios of a script in both places; the last one closes the browser.
async fn agrees(script: &str) {
    let site = Site::start().await;
    let server = Server::up().capacity(1, 0).start().await;
    let session = server.api.create(json!({})).await;
    let chrome = Chrome::like(server.data()).await;
    let ours = clients::run(script, session.connect_url(), &site.url, &[]).await;
    let theirs = clients::run(script, &chrome.url, &site.url, &[]).await;
    clients::assert_alike(&ours, &theirs);

    let over = server.api.wait_for(session.id(), "COMPLETED", Duration::from_secs(5)).await;
    assert_eq!(over.reason(), "closed_by_client");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn puppeteer_agrees() {
    agrees("puppeteer.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn playwright_agrees() {
    agrees("playwright.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn playwright_for_python_agrees() {
    agrees("playwright_python.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chrome_remote_interface_agrees() {
    let site = Site::start().await;
    let server = Server::up().capacity(1, 0).start().await;
    let session = server.api.create(json!({})).await;
    let chrome = Chrome::like(server.data()).await;
    let script = "chrome-remote-interface.mjs";
    let ours = clients::run(script, session.connect_url(), &site.url, &[]).await;
    let theirs = clients::run(script, &chrome.url, &site.url, &[]).await;
    clients::assert_alike(&ours, &theirs);
    server.api.release(session.id()).await;
    server.stop().await;
}
