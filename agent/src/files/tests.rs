//! Files of real browsers, with a hub that the test plays.

use std::{sync::Arc, time::Duration};

use proto::id::{AgentId, SessionId};
use serde_json::json;
use tonic::Status;

use super::*;
use crate::{
    browser::{
        Browser, LaunchOptions,
        testing::{CHROMIUM, HEADLESS_SHELL, Place, evaluate, first_page_of, on_page, until},
    },
    control::testing::{Files, hub_with_files},
    sessions::testing::{dialer, soon},
};

const LIMIT: Duration = Duration::from_secs(10);

/// A browser that is lent, its first page, and the hub's end of its files.
struct Lent {
    browser: Browser,
    page: String,
    desk: Desk,
    orders: Queue,
    files: Arc<Files>,
    _place: Place,
}

impl Lent {
    async fn start(binary: &str) -> Self {
        let place = Place::new();
        let launcher = place.launcher(binary).await;
        let browser = launcher.launch(&LaunchOptions::default()).await.unwrap();
        let page = first_page_of(&browser).await;
        let (url, _, files) = hub_with_files().await;
        let hub = Hub::new(dialer(&url), AgentId::generate(), "join");
        let orders = Queue::new();
        let session = SessionId::generate();
        let desk = Desk::open(&hub, session, browser.trays(), &browser.mux, &orders);
        Self { browser, page, desk, orders, files, _place: place }
    }

    /// Has the page offer a file of some bytes for download.
    async fn download(&self, name: &str, bytes: usize) {
        let script = format!(
            "{{ const a = document.createElement('a');
             a.href = URL.createObjectURL(new Blob(['x'.repeat({bytes})]));
             a.download = {name:?};
             a.click() }}"
        );
        // By a click of a person's: without one a page may download only once.
        let click = json!({ "expression": script, "userGesture": true });
        on_page(&self.browser, &self.page, "Runtime.evaluate", click).await;
    }

    /// Names and sizes of what the hub has got, by name.
    fn kept(&self) -> Vec<(String, usize)> {
        let kept = self.files.kept.lock().unwrap();
        let named = kept.iter().map(|(header, content)| (header.name.clone(), content.len()));
        let mut named: Vec<_> = named.collect();
        named.sort();
        named
    }

    async fn until_kept(&self, files: &[(&str, usize)]) {
        let files: Vec<_> = files.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect();
        until(LIMIT, "the hub has them", || self.kept() == files).await;
    }

    async fn order(&self, name: &str, size_bytes: u64, remove: bool) -> Result<(), PlaceError> {
        let order = Order { name: name.to_owned(), size_bytes, remove };
        soon(self.orders.add(order)).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_gets_what_was_put_for_it() {
    for binary in [CHROMIUM, HEADLESS_SHELL] {
        let lent = Lent::start(binary).await;
        let content = "ü".repeat(100_000);
        lent.files.uploads.lock().unwrap().insert("a b.txt".to_owned(), content.into());
        lent.order("a b.txt", 200_000, false).await.unwrap();
        let path = lent.browser.trays().downloads().with_file_name("uploads").join("a b.txt");
        evaluate(&lent.browser, &lent.page, "document.body.innerHTML = '<input type=file>'").await;
        let input = json!({ "expression": "document.querySelector('input')" });
        let input = on_page(&lent.browser, &lent.page, "Runtime.evaluate", input).await;
        // The object's id is good only on the connection that got it: found anew by the node.
        assert!(input["result"]["objectId"].is_string());
        let document = json!({ "depth": -1 });
        let document = on_page(&lent.browser, &lent.page, "DOM.getDocument", document).await;
        let node = &document["root"]["children"][0]["children"][1]["children"][0];
        assert_eq!(node["nodeName"], "INPUT");
        let files = json!({ "files": [path], "backendNodeId": node["backendNodeId"] });
        on_page(&lent.browser, &lent.page, "DOM.setFileInputFiles", files).await;
        let read = "document.querySelector('input').files[0].text().then(text => text.length)";
        assert_eq!(evaluate(&lent.browser, &lent.page, read).await, 100_000);
        lent.order("a b.txt", 0, true).await.unwrap();
        assert!(!path.exists());
        lent.browser.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_cannot_be_had_whole_is_not_there() {
    let lent = Lent::start(HEADLESS_SHELL).await;
    lent.files.uploads.lock().unwrap().insert("x".to_owned(), b"hello".to_vec());
    let uploads = lent.browser.trays().downloads().with_file_name("uploads");
    for announced in [4, 6] {
        let error = lent.order("x", announced, false).await.unwrap_err();
        assert!(matches!(error, PlaceError::Size), "{error}");
    }
    // Removed in the meantime.
    lent.order("gone", 5, false).await.unwrap();
    assert_eq!(std::fs::read_dir(uploads).unwrap().count(), 0);
    lent.browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads_are_kept_whoever_asked_for_them() {
    for binary in [CHROMIUM, HEADLESS_SHELL] {
        let lent = Lent::start(binary).await;
        // Nobody has set anything. The second of a name takes the place of the first on disk.
        lent.download("a b.txt", 5).await;
        lent.until_kept(&[("a b.txt", 5)]).await;
        lent.download("a b.txt", 3 << 20).await;
        lent.until_kept(&[("a b.txt", 5), ("a b.txt", 3 << 20)]).await;
        // A client that sets something and leaves: others find it as it was.
        let deny = json!({ "behavior": "deny" });
        let set = on_page(&lent.browser, &lent.page, "Browser.setDownloadBehavior", deny).await;
        assert_eq!(set, json!({}), "it was set");
        lent.download("c.txt", 0).await;
        lent.until_kept(&[("a b.txt", 5), ("a b.txt", 3 << 20), ("c.txt", 0)]).await;
        let kept = lent.files.kept.lock().unwrap().clone();
        assert!(
            kept.iter().all(|(header, _)| header.guid.len() == 36 && header.join_token == "join")
        );
        assert!(kept.iter().all(|(header, content)| header.size_bytes == content.len() as u64));
        lent.browser.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_is_away_gets_it_later_and_one_that_has_no_room_never() {
    let lent = Lent::start(HEADLESS_SHELL).await;
    let away = || Status::unavailable("restarting");
    *lent.files.refusals.lock().unwrap() = vec![away(), away()];
    lent.download("late.txt", 5).await;
    lent.until_kept(&[("late.txt", 5)]).await;
    lent.files.refusals.lock().unwrap().push(Status::resource_exhausted("full"));
    lent.download("too much.txt", 5).await;
    until(LIMIT, "it was refused", || lent.files.refusals.lock().unwrap().is_empty()).await;
    lent.download("next.txt", 5).await;
    lent.until_kept(&[("late.txt", 5), ("next.txt", 5)]).await;
    lent.browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_complete_when_the_session_ends_is_kept_though_its_directory_goes() {
    let lent = Lent::start(HEADLESS_SHELL).await;
    *lent.files.refusals.lock().unwrap() = vec![Status::unavailable("restarting")];
    lent.download("last.txt", 3 << 20).await;
    let path = lent.browser.trays().downloads().join("last.txt");
    until(LIMIT, "it is refused at first", || lent.files.refusals.lock().unwrap().is_empty()).await;
    let keeping = lent.desk.close().await;
    lent.browser.close().await;
    assert!(!path.exists());
    assert_eq!(lent.files.kept.lock().unwrap().len(), 0, "it was on its way");
    soon(keeping.done()).await;
    let kept = lent.files.kept.lock().unwrap();
    assert_eq!((kept[0].0.name.as_str(), kept[0].1.len()), ("last.txt", 3 << 20));
}
