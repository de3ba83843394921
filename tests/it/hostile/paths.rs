//! What CDP can read and write of the machine: downloads and uploads.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

use harness::{PATIENCE, Server, Site, cdp::Cdp, eventually};
use serde_json::json;
use tokio::time::Instant;

use super::guard::{answer, refused, rule_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_to_the_sessions_directory_whatever_the_client_says() {
    let server = Server::up().capacity(1, 0).start().await;
    let session = server.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let elsewhere = tempfile::tempdir().unwrap();
    fs::set_permissions(elsewhere.path(), Permissions::from_mode(0o777)).unwrap();
    for method in ["Browser.setDownloadBehavior", "Page.setDownloadBehavior"] {
        let (_, page) = cdp.page("about:blank").await;
        let on = method.starts_with("Page").then_some(page.as_str());
        let wanted = elsewhere.path().join("made");
        cdp.call(on, method, json!({ "behavior": "allow", "downloadPath": wanted })).await;
        let name = method.replace('.', "-");
        let click = format!(
            "const a = document.createElement('a'); a.download = '{name}.txt'; a.href = 'data:text/plain,here'; a.click()"
        );
        cdp.call(Some(&page), "Runtime.evaluate", json!({ "expression": click })).await;
        let file = format!("downloads/{name}.txt");
        eventually("the download is in the session's directory", PATIENCE, || async {
            let browsers = fs::read_dir(server.data().join("browsers")).unwrap();
            let mut files = browsers.flatten().map(|browser| browser.path().join(&file));
            files.find(|file| fs::read(file).is_ok_and(|text| text == b"here"))
        })
        .await;
    }
    assert_eq!(
        fs::read_dir(elsewhere.path()).unwrap().count(),
        0,
        "something was written elsewhere"
    );
    cdp.close().await;
    server.api.release(session.id()).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_given_the_sessions_files_only() {
    let site = Site::start().await;
    let server = Server::up().capacity(1, 0).start().await;
    let session = server.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let (_, page) = cdp.page("about:blank").await;
    // a download becomes an upload, so that nothing but CDP is needed
    cdp.call(
        None,
        "Browser.setDownloadBehavior",
        json!({ "behavior": "allow", "downloadPath": "/" }),
    )
    .await;
    let click = "const a = document.createElement('a'); a.download = 'mine.txt'; a.href = 'data:text/plain,mine'; a.click()";
    cdp.call(Some(&page), "Runtime.evaluate", json!({ "expression": click })).await;
    cdp.call(Some(&page), "Page.navigate", json!({ "url": format!("{}/second.html", site.url) }))
        .await;
    cdp.until_titled(&page, "Second page").await;
    let input = "document.body.append(Object.assign(document.createElement('input'), { type: 'file' })); document.querySelector('input')";
    let input = cdp.call(Some(&page), "Runtime.evaluate", json!({ "expression": input })).await;
    let input = &input["result"]["objectId"];
    let read = "document.querySelector('input').files[0]?.text() ?? 'none'";
    for foreign in [
        "/etc/hostname",
        "/proc/self/environ",
        "profile/Default/Cookies",
        "downloads/../profile",
        "mine.txt",
    ] {
        let set = json!({ "files": [foreign], "objectId": input });
        assert_eq!(
            refused(&mut cdp, Some(&page), "DOM.setFileInputFiles", set).await,
            "files",
            "{foreign}"
        );
        assert_eq!(cdp.evaluate(Some(&page), read).await, "none");
    }
    let set = json!({ "files": ["downloads/mine.txt"], "objectId": input });
    let mut answered = answer(&mut cdp, Some(&page), "DOM.setFileInputFiles", set.clone()).await;
    let end = Instant::now() + PATIENCE;
    while rule_of(&answered, Some(&page)) == "files" {
        assert!(Instant::now() < end, "the download never came");
        answered = answer(&mut cdp, Some(&page), "DOM.setFileInputFiles", set.clone()).await;
    }
    assert_eq!(cdp.evaluate(Some(&page), read).await, "mine");
    cdp.close().await;
    server.api.release(session.id()).await;
    server.stop().await;
}
