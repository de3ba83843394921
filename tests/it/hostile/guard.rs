//! What a client may not tell its browser, on a real connect URL. Where it matters, the same
//! attack is made on Chrome's own port, where it works.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use harness::{Chrome, PATIENCE, Server, Site, cdp::Cdp, eventually, folder, process};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::timeout;

/// How `file:///etc/hostname` can be written so that Chrome reads it.
const SPELLINGS: [&str; 13] = [
    "file:///etc/hostname",
    "FILE:///etc/hostname",
    "File:/etc/hostname",
    "file:etc/hostname",
    "file://localhost/etc/hostname",
    "file:///etc/host%6eame",
    "file:////etc/hostname",
    "file:///./etc/../etc/hostname",
    "  file:///etc/hostname",
    "\tfile:///etc/hostname",
    "fi\nle:///etc/hostname",
    "\u{1}file:\\\\\\etc\\hostname",
    "view-source:file:///etc/hostname",
];

/// A command, and the whole answer.
async fn answer(cdp: &mut Cdp, session: Option<&str>, method: &str, params: Value) -> Value {
    let (id, text) = cdp.command(session, method, params);
    cdp.send(text).await;
    serde_json::from_str(&cdp.answer(id).await).unwrap()
}

/// The rule that refuses a command; what Chrome answered when none does.
async fn refused(cdp: &mut Cdp, session: Option<&str>, method: &str, params: Value) -> String {
    let answer = answer(cdp, session, method, params).await;
    rule_of(&answer, session)
}

fn rule_of(answer: &Value, session: Option<&str>) -> String {
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    let Some(rest) = message.strip_prefix("refused by policy: ") else { return answer.to_string() };
    assert_eq!(answer["error"]["code"], -32000);
    assert_eq!(answer["sessionId"].as_str(), session, "a refusal is on the command's session");
    rest.split(':').next().unwrap().to_owned()
}

/// The text of a page.
async fn text(cdp: &mut Cdp, session: &str) -> String {
    let params = json!({ "expression": "document.documentElement?.innerText ?? ''" });
    let answer = answer(cdp, Some(session), "Runtime.evaluate", params).await;
    answer["result"]["result"]["value"].as_str().unwrap_or_default().to_owned()
}

async fn urls(cdp: &mut Cdp) -> Vec<String> {
    let targets = cdp.call(None, "Target.getTargets", json!({})).await;
    let targets = targets["targetInfos"].as_array().unwrap().iter();
    let pages = targets.filter(|target| target["type"] != "browser_ui");
    pages.map(|target| target["url"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_file_is_a_place_to_go() {
    let server = Server::up().capacity(1, 0).start().await;
    let session = server.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let chrome = Chrome::like(server.data()).await;
    let mut theirs = Cdp::connect(&chrome.url).await;
    let secret = fs::read_to_string("/etc/hostname").unwrap();
    for url in SPELLINGS {
        let (target, page) = theirs.page("about:blank").await;
        theirs.call(Some(&page), "Page.navigate", json!({ "url": url })).await;
        let end = tokio::time::Instant::now() + PATIENCE;
        while !text(&mut theirs, &page).await.contains(secret.trim()) {
            assert!(tokio::time::Instant::now() < end, "Chrome does not take {url:?} for the file");
        }
        theirs.call(None, "Target.closeTarget", json!({ "targetId": target })).await;

        let (target, page) = cdp.page("about:blank").await;
        let to = json!({ "url": url });
        assert_eq!(
            refused(&mut cdp, Some(&page), "Page.navigate", to.clone()).await,
            "url",
            "{url:?}"
        );
        assert_eq!(refused(&mut cdp, None, "Target.createTarget", to).await, "url", "{url:?}");
        assert_eq!(cdp.evaluate(Some(&page), "location.href").await, "about:blank");
        cdp.call(None, "Target.closeTarget", json!({ "targetId": target })).await;
    }
    let new = session
        .connect_url()
        .replace("ws://", "http://")
        .replace("?", "/json/new?file:///etc/hostname&");
    let made = server.api.at(&new).send(http::Method::PUT, "", &[], None).await;
    assert_eq!(made.status, 403, "{}", made.body);
    assert!(urls(&mut cdp).await.iter().all(|url| url == "about:blank"));
    cdp.close().await;
    theirs.close().await;
    server.api.release(session.id()).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_holds_on_a_connect_url() {
    let site = Site::start().await;
    let server = Server::up().capacity(1, 0).start().await;
    let session = server.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let (_, page) = cdp.page(&format!("{}/upload.html", site.url)).await;
    let page = Some(page.as_str());
    let large =
        json!({ "width": 1_000_000, "height": 1_000_000, "deviceScaleFactor": 1, "mobile": false });
    let inner = |method: &str, params: Value| {
        let message = json!({ "id": 1, "method": method, "params": params }).to_string();
        json!({ "sessionId": "whatever", "message": message })
    };
    for (on, method, params, rule) in [
        (None, "Tethering.bind", json!({ "port": 9 }), "ports"),
        (None, "Extensions.loadUnpacked", json!({ "path": "/tmp" }), "extensions"),
        (None, "PWA.install", json!({ "manifestId": "http://x/" }), "apps"),
        (page, "DeviceAccess.enable", json!({}), "devices"),
        (page, "Cast.enable", json!({}), "devices"),
        (None, "SystemInfo.getProcessInfo", json!({}), "machine"),
        (None, "SystemInfo.getInfo", json!({}), "machine"),
        (None, "Browser.getBrowserCommandLine", json!({}), "machine"),
        (None, "Browser.crash", json!({}), "process"),
        (page, "Browser.crashGpuProcess", json!({}), "process"),
        (None, "Memory.getBrowserSamplingProfile", json!({}), "process"),
        (
            None,
            "Target.setRemoteLocations",
            json!({ "locations": [{ "host": "127.0.0.1", "port": 1 }] }),
            "debugger",
        ),
        (None, "Target.exposeDevToolsProtocol", json!({ "targetId": "T" }), "debugger"),
        (None, "Target.openDevTools", json!({ "targetId": "T" }), "debugger"),
        (page, "Page.addCompilationCache", json!({ "url": "http://x/", "data": "AA==" }), "binary"),
        (page, "LayerTree.loadSnapshot", json!({ "tiles": [] }), "binary"),
        (
            page,
            "Fetch.continueRequest",
            json!({ "requestId": "1", "url": "file:///etc/hostname" }),
            "url",
        ),
        (
            page,
            "Network.loadNetworkResource",
            json!({ "url": "file:///etc/hostname", "options": {} }),
            "url",
        ),
        (
            page,
            "DOM.setFileInputFiles",
            json!({ "files": ["/etc/hostname"], "nodeId": 1 }),
            "files",
        ),
        (
            page,
            "DOM.setFileInputFiles",
            json!({ "files": ["uploads/../../../../etc/hostname"], "nodeId": 1 }),
            "files",
        ),
        (
            page,
            "Input.dispatchDragEvent",
            json!({ "type": "drop", "x": 1, "y": 1, "data": { "items": [], "files": ["/etc/hostname"], "dragOperationsMask": 1 } }),
            "files",
        ),
        (None, "Target.createBrowserContext", json!({ "proxyServer": "direct://" }), "proxy"),
        (
            None,
            "Target.createBrowserContext",
            json!({ "originsWithUniversalNetworkAccess": ["http://x"] }),
            "origins",
        ),
        (page, "Emulation.setDeviceMetricsOverride", large.clone(), "size"),
        (
            page,
            "Page.captureScreenshot",
            json!({ "clip": { "x": 0, "y": 0, "width": 1e6, "height": 1e6, "scale": 1 } }),
            "size",
        ),
        (page, "Page.printToPDF", json!({ "paperWidth": 1e5, "paperHeight": 1e5 }), "size"),
        (None, "Browser.setWindowBounds", json!({ "windowId": 1, "bounds": large }), "size"),
        (None, "Tracing.start", json!({ "tracingBackend": "system" }), "trace"),
        (None, "Tracing.start", json!({ "perfettoConfig": "AA==" }), "trace"),
        (None, "Target.sendMessageToTarget", inner("Browser.crash", json!({})), "process"),
        (
            None,
            "Target.sendMessageToTarget",
            inner("Page.navigate", json!({ "url": "file:///" })),
            "url",
        ),
        (
            None,
            "Target.sendMessageToTarget",
            inner("Target.sendMessageToTarget", inner("Browser.crash", json!({}))),
            "process",
        ),
        (None, "Target.sendMessageToTarget", json!({ "message": "nonsense" }), "nested"),
        (None, "Nope.nope", json!({}), "unreviewed"),
    ] {
        assert_eq!(refused(&mut cdp, on, method, params.clone()).await, rule, "{method} {params}");
    }
    // the same methods where they harm nobody
    cdp.call(None, "Target.createBrowserContext", json!({ "proxyBypassList": "*" })).await;
    cdp.call(
        page,
        "Emulation.setDeviceMetricsOverride",
        json!({ "width": 800, "height": 9000, "deviceScaleFactor": 2, "mobile": true }),
    )
    .await;
    let clip = json!({ "x": 0, "y": 0, "width": 800, "height": 9000, "scale": 1 });
    let shot = cdp
        .call(
            page,
            "Page.captureScreenshot",
            json!({ "clip": clip, "captureBeyondViewport": true }),
        )
        .await;
    assert!(shot["data"].as_str().unwrap().len() > 1000);
    cdp.call(page, "Page.printToPDF", json!({})).await;
    cdp.call(None, "Tracing.start", json!({ "transferMode": "ReturnAsStream" })).await;
    cdp.call(None, "Tracing.end", json!({})).await;
    cdp.close().await;
    server.api.release(session.id()).await;
    server.stop().await;
}

/// Messages that are one thing for a hasty reader and another for Chrome.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_slips_past_by_how_it_is_written() {
    let server = Server::up().capacity(1, 0).start().await;
    let session = server.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let (target, page) = cdp.page("about:blank").await;
    let legacy = cdp.call(None, "Target.attachToTarget", json!({ "targetId": target })).await;
    let legacy = legacy["sessionId"].as_str().unwrap();
    let go = r#""params":{"url":"file:///etc/hostname"}"#;
    let escaped = "Page.navigat\\u0065";
    let inner = |text: &str| json!({ "sessionId": legacy, "message": text }).to_string();
    let legacy_go = inner(&format!(r#"{{"id":5,"m\u0065thod":"{escaped}",{go}}}"#));
    let tricks = [
        format!(r#"{{"id":5,"method":"{escaped}",{go},"sessionId":"{page}"}}"#),
        format!(r#"{{"id":5,"m\u0065thod":"Page.navigate",{go},"sessionId":"{page}"}}"#),
        format!(r#"{{{go},"sessionId":"{page}","method":"Page.navigate","id":5}}"#),
        format!(r#"{{"id":5,"method":"","method":"Page.navigate",{go},"sessionId":"{page}"}}"#),
        format!(
            r#"{{"id":5,"method":"Page.enable","method":"Page.navigate",{go},"sessionId":"{page}"}}"#
        ),
        format!(
            r#"{{"id":5,"method":"Page.navigate","params":{{"url":"about:blank","url":"file:///etc/hostname"}},"sessionId":"{page}"}}"#
        ),
        format!(
            r#"{{"id":5,"method":"Page.navigate","params":{{"url":"about:blank","\u0075rl":"file:///etc/hostname"}},"sessionId":"{page}"}}"#
        ),
        format!(
            r#"{{"id":5,"method":"Page.navigate","params":{{"u\u0072l":"f\u0069le:///etc/hostname"}},"sessionId":"{page}"}}"#
        ),
        format!(r#"{{"id":5,"method":"Page.enable","params":null,{go},"sessionId":"{page}"}}"#),
        format!("\u{feff}{{\"id\":5,\"method\":\"Page.navigate\",{go},\"sessionId\":\"{page}\"}}"),
        format!(
            "{{\"id\":5,\"method\":\"Page.enable\",\"sessionId\":\"{page}\"}}\0{{\"id\":5,\"method\":\"Page.navigate\",{go},\"sessionId\":\"{page}\"}}"
        ),
        format!("{{\"id\":5,\"method\":\"Page.nav\0igate\",{go},\"sessionId\":\"{page}\"}}"),
        format!(
            "{{\"id\":5,\"method\":\"Page.enable\",\"params\":{{\"x\":\"\0\"}},\"method\":\"Page.navigate\",{go},\"sessionId\":\"{page}\"}}"
        ),
        format!(
            r#"{{"id":5,"method":"Page.navigate","params":[{{"url":"file:///etc/hostname"}}],"sessionId":"{page}"}}"#
        ),
        format!(r#"{{"id":5,"method":"Target.sendMessageToTarget","params":{legacy_go}}}"#),
        format!(
            r#"{{"id":5,"method":"Target.sendMessageToTarget","params":{}}}"#,
            inner(&format!(r#"{{{go},"method":"Page.navigate","id":5}}"#))
        ),
        format!(
            r#"{{"id":5,"method":"Target.sendMessageToTarget","params":{}}}"#,
            inner(&format!(
                r#"{{"id":5,"method":"Page.enable"}}{{"id":5,"method":"Page.navigate",{go}}}"#
            ))
        ),
    ];
    for trick in &tricks {
        cdp.send(trick.clone()).await;
        let error = eventually_error(&mut cdp).await;
        assert!(!error.is_empty(), "{trick}");
        assert_eq!(cdp.evaluate(Some(&page), "location.href").await, "about:blank", "{trick}");
    }
    // the very same tricks take a page where it may go
    for trick in
        [&tricks[0], &tricks[1], &tricks[2], &tricks[3], &tricks[7], &tricks[14], &tricks[15]]
    {
        let harmless = trick
            .replace("file:///etc/hostname", "data:text/html,<title>there</title>")
            .replace("f\\u0069le:///etc/hostname", "d\\u0061ta:text/html,<title>there</title>");
        cdp.send(harmless).await;
        cdp.until_titled(&page, "there").await;
        cdp.call(Some(&page), "Page.navigate", json!({ "url": "about:blank" })).await;
        cdp.until_titled(&page, "").await;
    }
    // a binary frame ends the connection, and nothing is carried out
    cdp.close().await;
    server.api.release(session.id()).await;
    server.stop().await;
}

/// The next error that comes.
async fn eventually_error(cdp: &mut Cdp) -> String {
    let error = async {
        loop {
            let message: Value = serde_json::from_str(&cdp.next().await.unwrap()).unwrap();
            if let Some(error) = message["error"]["message"].as_str() {
                return error.to_owned();
            }
        }
    };
    timeout(PATIENCE, error).await.expect("an error")
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_browser_itself_are_out_of_reach() {
    let site = Site::start().await;
    let server = Server::up().capacity(1, 0).start().await;
    let session = server.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let (_, page) = cdp.page("about:blank").await;
    for url in [
        "chrome://version",
        "chrome:version",
        "chrome://net-export",
        "chrome://crash",
        "chrome://newtab",
        "chrome-untrusted://x",
        "devtools://devtools/bundled/inspector.html",
        "about:version",
        "chrome-extension://x/y",
        "view-source:about:blank",
        "filesystem:http://x/",
        "CHROME://settings",
        " chrome://history",
    ] {
        assert_eq!(
            refused(&mut cdp, Some(&page), "Page.navigate", json!({ "url": url })).await,
            "url",
            "{url}"
        );
        assert_eq!(
            refused(&mut cdp, None, "Target.createTarget", json!({ "url": url })).await,
            "url",
            "{url}"
        );
    }
    // neither does anyone get hold of the address bar's popup, by its id or by attaching to all
    let targets = cdp.call(None, "Target.getTargets", json!({})).await;
    let surface = targets["targetInfos"]
        .as_array()
        .unwrap()
        .iter()
        .find(|target| target["type"] == "browser_ui");
    let surface =
        surface.expect("a surface of the full browser")["targetId"].as_str().unwrap().to_owned();
    let attach = json!({ "targetId": surface, "flatten": true });
    assert_eq!(refused(&mut cdp, None, "Target.attachToTarget", attach).await, "target");
    let to_all = json!({ "autoAttach": true, "waitForDebuggerOnStart": true, "flatten": true, "filter": [{ "type": "tab", "exclude": true }, {}] });
    let (id, all) = cdp.command(None, "Target.setAutoAttach", to_all);
    cdp.send(all).await;
    let mut attached = Vec::new();
    let all = async {
        loop {
            let message = cdp.next().await.unwrap();
            assert!(!message.contains("browser_ui") && !message.contains("chrome://"), "{message}");
            if message.starts_with("{\"method\":\"Target.attachedToTarget\"") {
                attached.push(message);
            } else if message.starts_with(&format!("{{\"id\":{id},")) {
                return;
            }
        }
    };
    timeout(PATIENCE, all).await.expect("an answer");
    assert!(!attached.is_empty(), "pages are attached to all the same");
    let none = json!({ "autoAttach": false, "waitForDebuggerOnStart": false, "flatten": true });
    cdp.call(None, "Target.setAutoAttach", none).await;
    // keys of the full browser open such pages: they are closed at once
    for (key, code, number, modifiers) in
        [("j", "KeyJ", 74, 2), ("h", "KeyH", 72, 2), ("u", "KeyU", 85, 2), ("F12", "F12", 123, 0)]
    {
        let (target, page) = cdp.page(&format!("{}/second.html", site.url)).await;
        cdp.until_titled(&page, "Second page").await;
        cdp.call(Some(&page), "Page.bringToFront", json!({})).await;
        cdp.call(None, "Target.setDiscoverTargets", json!({ "discover": true })).await;
        let press = json!({
            "type": "rawKeyDown", "key": key, "code": code, "windowsVirtualKeyCode": number,
            "nativeVirtualKeyCode": number, "modifiers": modifiers,
        });
        let (_, press) = cdp.command(Some(&page), "Input.dispatchKeyEvent", press);
        cdp.send(press).await;
        let opened = target_at(&mut cdp, |url| {
            ["chrome", "view-source", "devtools"].iter().any(|scheme| url.starts_with(scheme))
        })
        .await;
        let destroyed =
            async {
                while !cdp.next().await.unwrap().contains(&format!(
                    r#""Target.targetDestroyed","params":{{"targetId":"{opened}""#
                )) {}
            };
        timeout(Duration::from_secs(5), destroyed)
            .await
            .unwrap_or_else(|_| panic!("what {key} opened is still there"));
        cdp.call(None, "Target.setDiscoverTargets", json!({ "discover": false })).await;
        cdp.call(None, "Target.closeTarget", json!({ "targetId": target })).await;
    }
    assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
    cdp.close().await;
    server.api.release(session.id()).await;
    server.stop().await;
}

/// Waits until a new target is somewhere, and answers its id.
async fn target_at(cdp: &mut Cdp, is_there: impl Fn(&str) -> bool) -> String {
    let found = async {
        loop {
            let message: Value = serde_json::from_str(&cdp.next().await.unwrap()).unwrap();
            let info = &message["params"]["targetInfo"];
            if info["type"] != "browser_ui" && info["url"].as_str().is_some_and(&is_there) {
                return info["targetId"].as_str().unwrap().to_owned();
            }
        }
    };
    timeout(PATIENCE, found).await.expect("a target there")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_to_the_sessions_directory_whatever_the_client_says() {
    let server = Server::up().capacity(1, 0).start().await;
    let session = server.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let elsewhere = tempfile::tempdir().unwrap();
    fs::set_permissions(elsewhere.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .unwrap();
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
    let end = tokio::time::Instant::now() + PATIENCE;
    while rule_of(&answered, Some(&page)) == "files" {
        assert!(tokio::time::Instant::now() < end, "the download never came");
        answered = answer(&mut cdp, Some(&page), "DOM.setFileInputFiles", set.clone()).await;
    }
    assert_eq!(cdp.evaluate(Some(&page), read).await, "mine");
    cdp.close().await;
    server.api.release(session.id()).await;
    server.stop().await;
}

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

/// Methods that clients send, and the guard refuses all the same: tools for extensions, for
/// devices, and another debugger.
const DELIBERATE: [&str; 8] = [
    "DeviceAccess.cancelPrompt",
    "DeviceAccess.enable",
    "DeviceAccess.selectPrompt",
    "Extensions.getExtensions",
    "Extensions.loadUnpacked",
    "Extensions.triggerAction",
    "Extensions.uninstall",
    "Target.openDevTools",
];

#[test]
fn what_clients_send_is_let_through() {
    let page = fs::read_to_string(folder().join("../docs/guard.md")).unwrap();
    let (_, page) = page.split_once("\n## Refused\n").expect("the table of what is refused");
    let (page, _) = page.split_once("\n## Passed").expect("and its end");
    let refused: BTreeSet<_> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(refused.contains("Tethering.bind"), "the page lists what is refused");
    let mut sent = BTreeSet::new();
    for package in ["playwright-core/lib", "puppeteer-core/lib"] {
        let before = sent.len();
        methods_below(&folder().join("clients/node_modules").join(package), &mut sent);
        assert!(sent.len() > before + 40, "{package}: its methods are not found any more");
    }
    let lost: Vec<_> = sent.iter().filter(|method| refused.contains(method.as_str())).collect();
    assert_eq!(lost, DELIBERATE);
}

/// Collects what scripts give to `send(…)` and its like.
fn methods_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}; run npm ci", folder.display()))
    {
        let path = entry.unwrap().path();
        if path.is_dir() {
            methods_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "js") {
            let text = fs::read_to_string(&path).unwrap();
            for (at, _) in text.match_indices(['s', '_']).filter(|(at, _)| {
                ["send(", "_sendMayFail("].iter().any(|call| text[*at..].starts_with(call))
            }) {
                let argument = text[at..].split_once('(').unwrap().1.trim_start();
                let name = argument
                    .strip_prefix(['\'', '"'])
                    .and_then(|rest| rest.split(['\'', '"']).next());
                found.extend(name.filter(|name| name.contains('.')).map(str::to_owned));
            }
        }
    }
}
