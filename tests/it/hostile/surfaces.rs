//! Pages of the browser itself, which do more than pages of the web.

use std::time::Duration;

use harness::{PATIENCE, Server, Site, cdp::Cdp};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::guard::refused;

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
