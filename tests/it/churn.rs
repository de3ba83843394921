//! Many sessions one after another leave nothing behind.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use harness::{Server, cdp::Cdp, fleet::with_small_browser, process::descriptors, rows};
use serde_json::json;

const ROUNDS: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_sessions_leave_nothing() {
    let server = with_small_browser(Server::up().capacity(3, 1)).start().await;
    round(&server, 0).await;
    server.at_rest(1).await;
    let before = descriptors(server.pid());

    let next = AtomicUsize::new(1);
    join_all((0..3).map(|_| async {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n > ROUNDS {
                break;
            }
            round(&server, n).await;
        }
    }))
    .await;
    server.at_rest(1).await;

    let after = descriptors(server.pid());
    // connections that the HTTP client keeps open, and nothing that grows with the rounds
    assert!(after <= before + 8, "{before} descriptors became {after}");
    let store = server.store();
    let count = "SELECT status || ' ' || reason_code || ' ' || COUNT(*) FROM sessions GROUP BY status, reason_code ORDER BY 1";
    let counted = rows::texts(&store, count).await;
    assert_eq!(counted.len(), 2, "{counted:?}");
    let wrong = rows::wrong(&store, true).await;
    assert!(wrong.is_empty(), "{wrong:?}");
    server.stop().await;
}

/// One session: some are used, some not, some are closed by their client.
async fn round(server: &Server, n: usize) {
    let session = server.api.create(json!({})).await;
    match n % 3 {
        0 => server.api.release(session.id()).await,
        1 => {
            let mut cdp = Cdp::connect(session.connect_url()).await;
            let (_, page) = cdp.page("data:text/html,<title>round").await;
            assert_eq!(cdp.evaluate(Some(&page), "6 * 7").await, 42);
            server.api.release(session.id()).await;
            assert_eq!(cdp.closed(harness::PATIENCE).await, (1001, "released".into()));
        }
        _ => {
            let mut cdp = Cdp::connect(session.connect_url()).await;
            cdp.call(None, "Browser.close", json!({})).await;
            assert_eq!(cdp.closed(harness::PATIENCE).await, (1001, "closed_by_client".into()));
        }
    }
}
