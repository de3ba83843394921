//! What a client may not tell its browser, on a real connect URL. Where it matters, the same
//! attack is made on Chrome's own port, where it works.

use std::{collections::BTreeSet, fs, path::Path};

use harness::{Chrome, PATIENCE, Server, Site, cdp::Cdp, clients, folder};
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
pub(super) async fn answer(
    cdp: &mut Cdp,
    session: Option<&str>,
    method: &str,
    params: Value,
) -> Value {
    let (id, text) = cdp.command(session, method, params);
    cdp.send(text).await;
    serde_json::from_str(&cdp.answer(id).await).unwrap()
}

/// The rule that refuses a command; what Chrome answered when none does.
pub(super) async fn refused(
    cdp: &mut Cdp,
    session: Option<&str>,
    method: &str,
    params: Value,
) -> String {
    let answer = answer(cdp, session, method, params).await;
    rule_of(&answer, session)
}

pub(super) fn rule_of(answer: &Value, session: Option<&str>) -> String {
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
        (None, "Target.createBrowserContext", json!({ "proxyServer": "quic://a:1" }), "proxy"),
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
async fn libraries_are_told_what_is_refused_and_work_on() {
    let site = Site::start().await;
    let server = Server::up().capacity(1, 0).start().await;
    let session = server.api.create(json!({})).await;
    let seen = clients::run("guarded.mjs", session.connect_url(), &site.url, &[]).await;
    assert_eq!(seen.len(), 7);
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
