use std::{collections::BTreeSet, hint::black_box, time::Duration};

use proptest::prelude::*;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::*;
use crate::{
    browser::testing::{CHROMIUM, HEADLESS_SHELL},
    cdp::protocol::protocol,
};

fn guard() -> Guard {
    Guard::new(
        Path::new("/browser"),
        Box::new(|server| match server {
            "http://proxy:1" => {
                Ok(ContextProxy { server: "socks5://127.0.0.2:9".to_owned(), held: Box::new(()) })
            }
            _ => Err("no such proxy".to_owned()),
        }),
    )
}

fn judge(method: &str, params: &Value) -> Result<Option<Value>, String> {
    let params = params.to_string();
    let judged = guard().judge(method, Some(params.as_bytes()), &|target| target == "BARRED");
    judged.map(|judged| judged.arguments.map(Value::Object)).map_err(|refusal| refusal.0.into())
}

/// The name of the rule that refuses it; empty when none does.
fn rule(method: &str, params: &Value) -> String {
    let refused = judge(method, params).err().unwrap_or_default();
    let rest = refused.strip_prefix("refused by policy: ").unwrap_or(&refused);
    rest.split(':').next().unwrap_or_default().to_owned()
}

/// Methods of the installed browsers' own descriptions.
fn installed() -> BTreeSet<String> {
    let mut methods = BTreeSet::new();
    for binary in [CHROMIUM, HEADLESS_SHELL] {
        let description = protocol(Path::new(binary)).unwrap();
        let description: Value = serde_json::from_slice(&description).unwrap();
        for domain in description["domains"].as_array().unwrap() {
            let (name, commands) =
                (domain["domain"].as_str().unwrap(), domain["commands"].as_array());
            let commands = commands.into_iter().flatten().map(|command| command["name"].as_str());
            methods.extend(commands.map(|command| format!("{name}.{}", command.unwrap())));
        }
    }
    methods
}

#[test]
fn every_method_of_the_installed_browser_has_been_reviewed() {
    let (installed, known) = (installed(), table::methods().map(|(name, _)| name).collect());
    let new: Vec<_> = installed.difference(&known).collect();
    let gone: Vec<_> = known.difference(&installed).collect();
    assert!(new.is_empty(), "decide what becomes of these in the table: {new:#?}");
    assert!(gone.is_empty(), "these are no more: {gone:#?}");
    assert_eq!(table::methods().count(), known.len(), "a method comes twice");
}

#[test]
fn what_reaches_past_the_browser_is_refused() {
    for (method, wanted) in [
        ("Tethering.bind", "ports"),
        ("Extensions.loadUnpacked", "extensions"),
        ("PWA.install", "apps"),
        ("DeviceAccess.enable", "devices"),
        ("Cast.enable", "devices"),
        ("SystemInfo.getInfo", "machine"),
        ("Browser.getBrowserCommandLine", "machine"),
        ("Browser.crash", "process"),
        ("Browser.crashGpuProcess", "process"),
        ("Browser.executeBrowserCommand", "process"),
        ("Browser.addPrivacySandboxEnrollmentOverride", "process"),
        ("Memory.getBrowserSamplingProfile", "process"),
        ("Target.setRemoteLocations", "debugger"),
        ("Target.exposeDevToolsProtocol", "debugger"),
        ("Target.openDevTools", "debugger"),
        ("Page.addCompilationCache", "binary"),
        ("LayerTree.loadSnapshot", "binary"),
        ("Page.nope", "unreviewed"),
        ("Nope.nope", "unreviewed"),
        ("page.navigate", "unreviewed"),
        ("Page.navigate ", "unreviewed"),
        ("Page", "unreviewed"),
    ] {
        assert_eq!(rule(method, &json!({})), wanted, "{method}");
    }
    for method in ["Page.enable", "Runtime.evaluate", "Network.getCookies", "Browser.close"] {
        assert_eq!(judge(method, &json!({})), Ok(None), "{method}");
    }
}

#[test]
fn arguments_are_judged() {
    let file = json!({"url": "file:///etc/passwd"});
    let large = json!({"width": 1_000_000, "height": 1_000_000, "deviceScaleFactor": 1});
    for (method, params, wanted) in [
        ("Page.navigate", file.clone(), "url"),
        ("Page.navigate", json!({"url": "nonsense"}), "Cannot navigate to invalid URL"),
        ("Target.createTarget", file.clone(), "url"),
        ("Target.createTarget", large.clone(), "size"),
        ("Fetch.continueRequest", file.clone(), "url"),
        ("Network.loadNetworkResource", file, "url"),
        ("Target.attachToTarget", json!({"targetId": "BARRED", "flatten": true}), "target"),
        ("Target.autoAttachRelated", json!({"targetId": "BARRED"}), "target"),
        ("DOM.setFileInputFiles", json!({"files": ["/etc/passwd"]}), "files"),
        (
            "Input.dispatchDragEvent",
            json!({"data": {"items": [], "files": ["/etc/passwd"]}}),
            "files",
        ),
        ("Target.createBrowserContext", json!({"proxyServer": "direct://"}), "proxy"),
        (
            "Target.createBrowserContext",
            json!({"originsWithUniversalNetworkAccess": ["http://x"]}),
            "origins",
        ),
        ("Emulation.setDeviceMetricsOverride", large.clone(), "size"),
        ("Page.setDeviceMetricsOverride", large.clone(), "size"),
        ("Emulation.setVisibleSize", large.clone(), "size"),
        ("Emulation.addScreen", large.clone(), "size"),
        ("Emulation.updateScreen", large.clone(), "size"),
        ("Browser.setContentsSize", large.clone(), "size"),
        ("Browser.setWindowBounds", json!({"windowId": 1, "bounds": large}), "size"),
        ("Page.captureScreenshot", json!({"clip": large}), "size"),
        ("Page.printToPDF", json!({"paperWidth": 1e6, "paperHeight": 1e6}), "size"),
        ("Tracing.start", json!({"perfettoConfig": "AA=="}), "trace"),
        ("Tracing.start", json!({"tracingBackend": "system"}), "trace"),
    ] {
        assert_eq!(rule(method, &params), wanted, "{method} {params}");
    }
}

#[test]
fn what_is_allowed_goes_on_as_it_was_judged() {
    let downloads =
        json!({"behavior": "allow", "downloadPath": "/browser/downloads", "eventsEnabled": true});
    for (method, params, wanted) in [
        (
            "Page.navigate",
            json!({"url": "http://x/", "referrer": "r"}),
            json!({"url": "http://x/", "referrer": "r"}),
        ),
        ("Page.navigate", json!({"url": " java\nscript:1"}), json!({"url": "javascript:1"})),
        ("Target.createTarget", json!({"url": "nonsense"}), json!({"url": "about:blank"})),
        ("Target.createTarget", json!({"url": ""}), json!({"url": "about:blank"})),
        ("Target.attachToTarget", json!({"targetId": "T"}), json!({"targetId": "T"})),
        ("Fetch.continueRequest", json!({"requestId": "1"}), json!({"requestId": "1"})),
        (
            "DOM.setFileInputFiles",
            json!({"files": [], "nodeId": 1}),
            json!({"files": [], "nodeId": 1}),
        ),
        ("Input.dispatchDragEvent", json!({"data": {"items": []}}), json!({"data": {"items": []}})),
        (
            "Browser.setDownloadBehavior",
            json!({"behavior": "allow", "downloadPath": "/etc", "eventsEnabled": true}),
            downloads,
        ),
        (
            "Page.setDownloadBehavior",
            json!({"behavior": "allow"}),
            json!({"behavior": "allow", "downloadPath": "/browser/downloads"}),
        ),
        (
            "Browser.setDownloadBehavior",
            json!({"behavior": "deny", "downloadPath": "/etc"}),
            json!({"behavior": "deny"}),
        ),
        (
            "Target.createBrowserContext",
            json!({"disposeOnDetach": true, "proxyBypassList": "*"}),
            json!({"disposeOnDetach": true}),
        ),
        (
            "Target.createBrowserContext",
            json!({"proxyServer": "", "originsWithUniversalNetworkAccess": []}),
            json!({}),
        ),
        (
            "Target.createBrowserContext",
            json!({"proxyServer": "http://proxy:1", "proxyBypassList": "*"}),
            json!({"proxyServer": "socks5://127.0.0.2:9", "proxyBypassList": "<-loopback>"}),
        ),
        (
            "Tracing.start",
            json!({"transferMode": "ReturnAsStream"}),
            json!({"transferMode": "ReturnAsStream"}),
        ),
    ] {
        assert_eq!(judge(method, &params), Ok(Some(wanted)), "{method} {params}");
    }
}

#[test]
fn a_message_inside_a_message_is_judged_like_any_other() {
    let inside = |message: &str| {
        let params = json!({"sessionId": "S", "message": message});
        match judge("Target.sendMessageToTarget", &params) {
            Ok(arguments) => arguments.unwrap()["message"].as_str().unwrap().to_owned(),
            Err(refused) => refused,
        }
    };
    let plain = r#"{"id":1,"method":"Runtime.evaluate","params":{"expression":"1"}}"#;
    assert_eq!(inside(plain), plain);
    assert_eq!(
        inside(
            r#"{"params":{"expression":"1"},"sessionId":"T","m\u0065thod":"Runtime.evaluate","id":1e0}"#
        ),
        r#"{"id":1,"method":"Runtime.evaluate","params":{"expression":"1"},"sessionId":"T"}"#
    );
    assert_eq!(
        inside(r#"{"id":1,"method":"Page.navigate","params":{"url":"\thttp://x/"}}"#),
        r#"{"id":1,"method":"Page.navigate","params":{"url":"http://x/"}}"#
    );
    let mut nested = r#"{"id":1,"method":"Browser.crash"}"#.to_owned();
    let mut harmless = r#"{"id":1,"method":"Page.enable"}"#.to_owned();
    for depth in 0..6 {
        assert!(inside(&nested).contains(if depth < 4 { "process" } else { "nested" }), "{depth}");
        assert_eq!(inside(&harmless).contains("refused"), depth > 3, "{depth}");
        for message in [&mut nested, &mut harmless] {
            *message = json!({
                "id": 1, "method": "Target.sendMessageToTarget", "params": {"message": message},
            })
            .to_string();
        }
    }
    for odd in [
        "",
        "nope",
        "[]",
        "{}",
        r#"{"id":1}"#,
        r#"{"id":1,"id":2,"method":"Page.enable"}"#,
        r#"{"id":1,"method":"Page.enable"}{"id":2,"method":"Browser.crash"}"#,
        "{\"id\":1,\"method\":\"Page.enable\"}\0{\"id\":2,\"method\":\"Browser.crash\"}",
        "{\"id\":1,\"method\":\"Runtime.evaluate\",\"params\":{\"expression\":\"\0\"}}",
    ] {
        assert!(inside(odd).starts_with("refused by policy: nested"), "{odd}");
    }
    let no_text = json!({"message": 5});
    assert_eq!(judge("Target.sendMessageToTarget", &no_text), Ok(Some(no_text)));
}

#[test]
fn arguments_with_two_meanings_are_refused() {
    for params in [
        r#"{"url":"http://x","url":"file:///etc/passwd"}"#,
        r#"{"url":"http://x","\u0075rl":"file:///etc/passwd"}"#,
        r#"["file:///etc/passwd"]"#,
        "{\"url\":\"file:///etc/passwd\u{b}\"}",
        r#"{"url":"\ud800"}"#,
    ] {
        let refused =
            guard().judge("Page.navigate", Some(params.as_bytes()), &|_| false).err().unwrap();
        assert!(refused.0.starts_with("refused by policy: arguments"), "{params}");
    }
}

#[test]
fn a_refusal_is_an_answer_on_the_commands_own_session() {
    let refusal = Refusal::because(&rules::PROXY, "a \"b\"");
    assert_eq!(
        refusal.answer(-7, "S"),
        r#"{"id":-7,"error":{"code":-32000,"message":"refused by policy: proxy: a \"b\""},"sessionId":"S"}"#
    );
    assert!(refusal.answer(1, "").ends_with(r#""}}"#));
}

/// What goes to Chrome for a message on the connection's own session; `None`: nothing.
fn sent(message: &[u8]) -> Option<Vec<u8>> {
    let command = scan(message).ok().filter(|command| command.clean.is_none())?;
    let arguments = guard().judge(&command.method, command.params, &|_| false).ok()?.arguments;
    let mut text = if arguments.is_some() || !command.plain {
        command.rewritten(arguments.as_ref())
    } else {
        message[..command.end].to_vec()
    };
    text.push(b'}');
    Some(text)
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "{",
        "}",
        ",",
        ":",
        "\"",
        "\\",
        "\\u0065",
        "\"id\":1",
        "\"method\":\"Page.enable\"",
        "\"method\":\"Browser.crash\"",
        "\"m\\u0065thod\":\"Browser.crash\"",
        "\"method\":\"\"",
        "\"params\":{",
        "\"params\":null",
        "\"x\":\"\\\"",
        "\"sessionId\":\"\"",
        "\"params\":{}",
        "\"Page.navigate\"",
        "\"url\":\"file:///x\"",
        "\"url\":\"http://x\"",
        " ",
        "\t",
        "[",
        "]",
    ]);
    let separators = prop::sample::select(vec![",", ",", ""]);
    (prop::collection::vec(pieces, 0..8), separators).prop_map(|(pieces, separator)| {
        format!("{{\"id\":1,{}}}", pieces.join(separator)).into_bytes()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// Whatever came: what goes out names one method, before anything else could, and it is
    /// one that was let through.
    #[test]
    fn what_chrome_reads_is_what_was_judged(message in pieces()) {
        if let Some(text) = sent(&message) {
            let read = serde_json::from_slice::<Value>(&text).expect("plain JSON");
            prop_assert!(!["Browser.crash"].contains(&read["method"].as_str().unwrap()));
            prop_assert_ne!(&read["params"]["url"], "file:///x");
            let method = memchr::memmem::find(&text, b"\"method\":\"").unwrap();
            let params = memchr::memmem::find(&text, b"\"params\"").unwrap_or(usize::MAX);
            prop_assert!(method < params);
        }
    }

    /// The same for well-formed commands in every order and spelling.
    #[test]
    fn no_spelling_hides_a_method(order in Just([0, 1, 2]).prop_shuffle(), escaped in 0_usize..13, key in any::<bool>()) {
        let name = "Browser.crash";
        let hex = format!("\\u{:04x}", name.as_bytes()[escaped]);
        let method = format!("{}{hex}{}", &name[..escaped], &name[escaped + 1..]);
        let key = if key { "meth\\u006fd" } else { "method" };
        let members = [format!("\"{key}\":\"{method}\""), "\"id\":1".into(), "\"params\":{\"method\":\"Page.enable\"}".into()];
        let message = format!("{{{}}}", order.map(|n| members[n].clone()).join(","));
        prop_assert_eq!(sent(message.as_bytes()), None);
        let harmless = sent(message.replace(&method, "Page.enable").as_bytes()).unwrap();
        let read: Value = serde_json::from_slice(&harmless).unwrap();
        prop_assert_eq!(&read["method"], "Page.enable");
        let method = memchr::memmem::find(&harmless, b"\"method\":\"").unwrap();
        prop_assert!(method < memchr::memmem::find(&harmless, b"\"params\"").unwrap());
    }
}

/// Time that this thread has worked; others may be at work, too.
fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

/// What a message costs more for the guard; printed, not asserted: `--nocapture`.
#[test]
fn the_cost_of_a_lookup_is_shown() {
    const ROUNDS: u32 = 100_000;
    let message = br#"{"id":123,"method":"Runtime.callFunctionOn","params":{"objectId":"1.2.3","functionDeclaration":"() => 1"},"sessionId":"0123456789ABCDEF0123456789ABCDEF"}"#;
    let guard = guard();
    let per_round = |work: &dyn Fn()| {
        let start = cpu_time();
        (0..ROUNDS).for_each(|_| work());
        (cpu_time() - start) / ROUNDS
    };
    let scanned = per_round(&|| drop(black_box(scan(black_box(message)))));
    let judged = per_round(&|| {
        drop(black_box(guard.judge(black_box("Runtime.callFunctionOn"), None, &|_| false)));
    });
    println!("scan: {scanned:?}, guard: {judged:?}");
}
