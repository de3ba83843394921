//! Sessions end when they should, and every place says so alike.

use std::time::Duration;

use harness::{Server, cdp::Cdp, eventually};
use serde_json::json;
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_and_keep_alives_end_sessions() {
    let server = Server::up().capacity(4, 1).start().await;
    tokio::join!(a_deadline(&server), a_keep_alive(&server), a_release(&server));
    server.at_rest(1).await;
    server.stop().await;
}

async fn a_deadline(server: &Server) {
    let begun = Instant::now();
    let session = server.api.create(json!({ "timeout_seconds": 5 })).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    cdp.call(None, "Browser.getVersion", json!({})).await;
    let (code, reason) = cdp.closed(Duration::from_secs(9)).await;
    assert_eq!((code, reason.as_str()), (1001, "deadline"));
    let after = begun.elapsed();
    assert!(after > Duration::from_secs(4) && after < Duration::from_secs(8), "{after:?}");
    let over = server.api.wait_for(session.id(), "EXPIRED", Duration::from_secs(5)).await;
    assert_eq!(over.reason(), "deadline");
    assert!(over.0["connect_url"].is_null());
    let events = server.api.events(session.id()).await;
    assert_eq!(events.last().unwrap(), &("EXPIRED".into(), Some("deadline".into())));
}

async fn a_keep_alive(server: &Server) {
    let session = server.api.create(json!({ "keep_alive_seconds": 2 })).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let (target, page) = cdp.page("about:blank").await;
    cdp.evaluate(Some(&page), "window.kept = 1").await;
    cdp.close().await;
    // within the keep-alive all is as it was
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let attach = json!({ "targetId": target, "flatten": true });
    let attached = cdp.call(None, "Target.attachToTarget", attach).await;
    let page = attached["sessionId"].as_str().unwrap().to_owned();
    assert_eq!(cdp.evaluate(Some(&page), "window.kept").await, 1);
    // a second client keeps it too
    let mut other = Cdp::connect(session.connect_url()).await;
    cdp.close().await;
    other.call(None, "Browser.getVersion", json!({})).await;
    let left = Instant::now();
    other.close().await;
    let over = server.api.wait_for(session.id(), "COMPLETED", Duration::from_secs(6)).await;
    assert!(left.elapsed() > Duration::from_millis(1900), "{:?}", left.elapsed());
    assert_eq!(over.reason(), "idle");
}

async fn a_release(server: &Server) {
    let session = server.api.create(json!({})).await;
    let (mut one, mut two) =
        (Cdp::connect(session.connect_url()).await, Cdp::connect(session.connect_url()).await);
    let (_, page) = one.page("about:blank").await;
    one.evaluate(Some(&page), "1").await;
    two.call(None, "Browser.getVersion", json!({})).await;
    // what clients do shows in the session
    eventually("the usage is counted", Duration::from_secs(6), || async {
        let session = server.api.session(session.id()).await;
        let usage = &session.0["usage"];
        let counted = usage["cdp_messages"].as_u64() >= Some(4)
            && usage["bytes_in"].as_u64() > Some(0)
            && usage["bytes_out"].as_u64() > Some(0)
            && session.0["last_seen_at"].is_string();
        counted.then_some(())
    })
    .await;
    server.api.release(session.id()).await;
    for cdp in [&mut one, &mut two] {
        let (code, reason) = cdp.closed(Duration::from_secs(5)).await;
        assert_eq!((code, reason.as_str()), (1001, "released"));
    }
    let over = server.api.session(session.id()).await;
    assert_eq!((over.status(), over.reason()), ("COMPLETED", "released"));
    // once more is no fault
    server.api.release(session.id()).await;
}
