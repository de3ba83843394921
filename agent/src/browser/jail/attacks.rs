//! What a client cannot make a jailed browser do, by all that the protocol has: nothing stands
//! between these commands and Chrome. Each attack is also made on a browser without a jail,
//! where it must succeed: else it would prove nothing.

use std::{os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::{
    browser::{
        Browser, Kind, LaunchOptions, Launcher,
        testing::{
            CHROMIUM, HEADLESS_SHELL, PageClient, Place, evaluate, first_page_of, on_page, until,
        },
    },
    gateway::Policy,
};

const SOON: Duration = Duration::from_secs(10);

/// Each build of Chrome, first without a jail, then in one.
async fn each_browser(mut attack: impl AsyncFnMut(&Place, &Browser, Kind, bool)) {
    for binary in [CHROMIUM, HEADLESS_SHELL] {
        for jailed in [false, true] {
            let place = Place::new();
            let isolation =
                if jailed { Isolation::probe(Path::new(binary), false) } else { Isolation::none() };
            let launcher = Launcher::open(
                Path::new(binary),
                &place.root(),
                isolation,
                Policy::with_loopback(),
            )
            .await;
            let launcher = Arc::new(launcher.unwrap());
            let browser = launcher.launch(&LaunchOptions::default()).await.unwrap();
            attack(&place, &browser, Kind::of(Path::new(binary)), jailed).await;
            browser.close().await;
        }
    }
}

/// Why it failed to go there; empty when it did not.
async fn navigate(browser: &Browser, page: &str, url: &str) -> String {
    let done = on_page(browser, page, "Page.navigate", json!({ "url": url })).await;
    done["errorText"].as_str().unwrap_or_default().to_owned()
}

/// A page in a context that is told to pass the gateway by.
async fn page_past_the_gateway(browser: &Browser) -> String {
    let past = json!({ "proxyServer": "direct://" });
    let context = browser.mux.command("Target.createBrowserContext", past).await.unwrap();
    let page = json!({ "url": "about:blank", "browserContextId": context["browserContextId"] });
    let page = browser.mux.command("Target.createTarget", page).await.unwrap();
    page["targetId"].as_str().unwrap().to_owned()
}

/// A directory that everybody may use.
fn open_to_all(place: &Place) -> PathBuf {
    let path = place.path().join("open");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    path
}

#[tokio::test]
async fn no_file_of_the_machine_is_shown() {
    each_browser(async |place, browser, _, jailed| {
        let page = first_page_of(browser).await;
        let open = open_to_all(place);
        fs::write(open.join("file"), "x").unwrap();
        let file = format!("file://{}", open.join("file").display());
        for url in [&file, "file:///etc/hostname"] {
            let failed = navigate(browser, &page, url).await;
            assert_eq!(failed, if jailed { "net::ERR_ACCESS_DENIED" } else { "" }, "{url}");
        }
        let directory = format!("file://{}/", open.display());
        for (url, entry) in [(&directory[..], "file"), ("file:///etc/", "group")] {
            navigate(browser, &page, url).await; // there is a page, but nothing in it
            let listed = format!(
                "new Promise(done => document.readyState == 'complete' ? done() : \
                 addEventListener('load', done)).then(() => \
                 document.documentElement.outerHTML.includes('addRow(\"{entry}\"'))"
            );
            assert_eq!(evaluate(browser, &page, &listed).await, !jailed, "{url}");
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_of_this_machine_is_reached_past_the_gateway() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    });
    each_browser(async |_, browser, _, jailed| {
        let page = page_past_the_gateway(browser).await;
        let failed = navigate(browser, &page, &format!("http://{address}/")).await;
        // Without content there is no navigation, but an answer.
        let answered = if jailed { "net::ERR_NETWORK_ACCESS_DENIED" } else { "net::ERR_ABORTED" };
        assert_eq!(failed, answered);
    })
    .await;
    serving.abort();
}

#[tokio::test]
async fn nothing_is_downloaded_to_outside_its_directory() {
    const DOWNLOAD: &str = "let a = document.createElement('a'); a.download = 'file.txt'; \
                            a.href = 'data:application/octet-stream,x'; a.click()";
    each_browser(async |place, browser, _, jailed| {
        let outside = open_to_all(place);
        let inside = place.root().join(browser.name()).join("downloads");
        for directory in [&outside, &inside] {
            let allowed = json!({ "behavior": "allow", "downloadPath": directory });
            browser.mux.command("Browser.setDownloadBehavior", allowed).await.unwrap();
            // A page may download one thing without asking.
            let page = json!({ "url": "about:blank" });
            let page = browser.mux.command("Target.createTarget", page).await.unwrap();
            let page = page["targetId"].as_str().unwrap();
            let click = json!({ "expression": DOWNLOAD, "userGesture": true });
            on_page(browser, page, "Runtime.evaluate", click).await;
            if !jailed || directory == &inside {
                let file = directory.join("file.txt");
                until(SOON, &format!("downloaded to {directory:?}, jailed: {jailed}"), || {
                    file.exists()
                })
                .await;
            }
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), usize::from(!jailed));
    })
    .await;
}

#[tokio::test]
async fn only_what_was_uploaded_can_be_given_to_a_page() {
    each_browser(async |place, browser, _, jailed| {
        let page = first_page_of(browser).await;
        let uploads = place.root().join(browser.name()).join("uploads");
        for directory in [&open_to_all(place), &uploads] {
            let file = directory.join("file");
            fs::write(&file, "content").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
            let read = read_by_file_input(browser, &page, &file).await;
            let may = !jailed || directory == &uploads;
            assert_eq!(
                read,
                if may { "content" } else { "NotReadableError" },
                "{}",
                file.display()
            );
        }
    })
    .await;
}

/// What a page reads of a file that a client chose for it.
async fn read_by_file_input(browser: &Browser, page: &str, file: &Path) -> Value {
    let mut client = PageClient::open(browser, page).await;
    let input = "window.input = document.createElement('input'); input.type = 'file'; input";
    let input = client.call("Runtime.evaluate", json!({ "expression": input })).await;
    let object = &input["result"]["objectId"];
    client.call("DOM.setFileInputFiles", json!({ "files": [file], "objectId": object })).await;
    let read = "input.files[0].text().catch(error => error.name)";
    let read = json!({ "expression": read, "awaitPromise": true, "returnByValue": true });
    let read = client.call("Runtime.evaluate", read).await;
    client.close().await;
    read["result"]["value"].clone()
}

/// The flag against it holds in the full browser; the headless shell does not know it.
#[tokio::test]
async fn webrtc_sends_nothing_past_the_gateway() {
    let asked = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    asked.set_nonblocking(true).unwrap();
    let gathered = format!(
        "new Promise(done => {{ const peer = new RTCPeerConnection({{ iceServers: \
         [{{ urls: 'stun:{}' }}] }}); peer.createDataChannel('x'); \
         setTimeout(done, 2000, 'gathered'); peer.createOffer().then(offer => peer.setLocalDescription(offer)) }})",
        asked.local_addr().unwrap()
    );
    each_browser(async |_, browser, kind, jailed| {
        let page = page_past_the_gateway(browser).await;
        let gather = json!({ "expression": gathered, "awaitPromise": true, "returnByValue": true });
        let done = on_page(browser, &page, "Runtime.evaluate", gather).await;
        assert_eq!(done["result"]["value"], "gathered");
        if jailed {
            assert!(asked.recv(&mut [0; 64]).is_err());
        } else if kind == Kind::HeadlessShell {
            until(SOON, "it asks", || asked.recv(&mut [0; 64]).is_ok()).await;
            while asked.recv(&mut [0; 64]).is_ok() {}
        }
    })
    .await;
}
