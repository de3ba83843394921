//! chromiumoxide, a Rust client, in both places.

use chromiumoxide::{
    Browser, Page,
    cdp::browser_protocol::page::{CaptureScreenshotFormat, PrintToPdfParams},
    handler::HandlerConfig,
    page::ScreenshotParams,
};
use futures_util::StreamExt;
use harness::{Chrome, Server, Site, clients::assert_alike};
use serde_json::{Value, json};

/// Navigation, evaluation, input, pictures, documents, contexts and another client.
async fn drive(endpoint: &str, site: &str) -> Value {
    let (mut browser, pump) = connect(endpoint).await;
    let page = browser.new_page(site).await.unwrap();
    page.wait_for_navigation().await.unwrap();
    let title = page.get_title().await.unwrap();
    page.find_element("#count").await.unwrap().click().await.unwrap();
    let input = page.find_element("#name").await.unwrap();
    input.click().await.unwrap();
    input.type_str("Ada").await.unwrap();
    let seen: Value = evaluate(
        &page,
        "[document.querySelector('#count').textContent, document.querySelector('#name').value, \
         [1, { two: null }], 6 * 7]",
    )
    .await;
    let later: Value = evaluate(&page, "Promise.resolve('later')").await;
    let thrown = page.evaluate("nothing.there").await.is_err();

    let picture = ScreenshotParams::builder().format(CaptureScreenshotFormat::Png).build();
    let picture = page.screenshot(picture).await.unwrap();
    let document = page.pdf(PrintToPdfParams::default()).await.unwrap();

    browser.start_incognito_context().await.unwrap();
    let apart = browser.new_page(format!("{site}/second.html")).await.unwrap();
    let apart_title = apart.get_title().await.unwrap();
    browser.quit_incognito_context().await.unwrap();

    let (mut other, other_pump) = connect(endpoint).await;
    let targets = other.fetch_targets().await.unwrap();
    let shared = targets.iter().any(|target| target.url == format!("{site}/"));
    drop(other);
    other_pump.abort();
    let alive: Value = evaluate(&page, "document.title").await;
    page.close().await.unwrap();
    drop(browser);
    pump.abort();
    json!({
        "title": title, "seen": seen, "later": later, "thrown": thrown, "apart": apart_title,
        "picture": picture.starts_with(b"\x89PNG"), "document": document.starts_with(b"%PDF-"),
        "shared": shared, "alive": alive,
    })
}

async fn evaluate(page: &Page, expression: &str) -> Value {
    page.evaluate(expression).await.unwrap().into_value().unwrap()
}

async fn connect(endpoint: &str) -> (Browser, tokio::task::JoinHandle<()>) {
    let config = HandlerConfig { ignore_invalid_messages: true, ..HandlerConfig::default() };
    let (browser, mut handler) = Browser::connect_with_config(endpoint, config).await.unwrap();
    let pump = tokio::spawn(async move { while handler.next().await.is_some() {} });
    (browser, pump)
}

#[tokio::test(flavor = "multi_thread")]
async fn chromiumoxide_agrees() {
    let site = Site::start().await;
    let server = Server::up().capacity(1, 0).start().await;
    let session = server.api.create(json!({})).await;
    let chrome = Chrome::like(server.data()).await;
    let ours = drive(session.connect_url(), &site.url).await;
    let theirs = drive(&chrome.url, &site.url).await;
    assert_eq!(ours["title"], "Ventus test site");
    let named = |seen| [("chromiumoxide".to_owned(), seen)].into();
    assert_alike(&named(ours), &named(theirs));
    server.api.release(session.id()).await;
    server.stop().await;
}
