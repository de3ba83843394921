//! What a connection may not do, and that it harms nobody else.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use harness::{PATIENCE, Server, cdp::Cdp};
use serde_json::json;
use tokio::time::timeout;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, Message},
};

#[tokio::test(flavor = "multi_thread")]
async fn one_client_cannot_harm_another() {
    let server = Server::up().capacity(1, 0).start().await;
    let session = server.api.create(json!({})).await;
    let url = session.connect_url();
    let mut bystander = Cdp::connect(url).await;
    let (target, page) = bystander.page("about:blank").await;
    more_clients_than_fit(url).await;
    tokio::join!(an_idle_client_is_pinged(url), async {
        a_message_over_the_limit(url).await;
        a_message_that_grows_over_the_limit(url).await;
        a_client_that_does_not_read(url, &mut bystander, &target, &page).await;
    });
    assert_eq!(bystander.evaluate(Some(&page), "6 * 7").await, 42);
    bystander.close().await;
    server.api.release(session.id()).await;
    server.stop().await;
}

async fn an_idle_client_is_pinged(url: &str) {
    let (mut socket, _) = connect_async(url).await.unwrap();
    let pinged = async { while !matches!(socket.next().await, Some(Ok(Message::Ping(_)))) {} };
    timeout(Duration::from_secs(30), pinged).await.expect("a ping within 30 s");
    socket.close(None).await.unwrap();
}

async fn a_message_over_the_limit(url: &str) {
    let mut cdp = Cdp::connect(url).await;
    let (_, text) = cdp.command(None, "Target.getTargets", json!({ "x": "@" }));
    let text = text.replace('@', &"x".repeat(110_000_000));
    // the other side may end the connection before all of it is sent
    let (code, _) = cdp.send_and_end(text).await;
    assert!(code == 1009 || code == 1006, "{code}");
}

/// With its raw NULs escaped it is longer than Chrome's pipe takes: the browser would be lost.
async fn a_message_that_grows_over_the_limit(url: &str) {
    let mut cdp = Cdp::connect(url).await;
    let (_, text) = cdp.command(None, "Target.getTargets", json!({ "x": "@" }));
    let text = text.replace('@', &"\0".repeat(20_000_000));
    let (code, _) = cdp.send_and_end(text).await;
    assert_eq!(code, 1009);
}

async fn more_clients_than_fit(url: &str) {
    // the bystander is there already
    let mut clients = Vec::new();
    for n in 0..15 {
        let mut cdp = Cdp::connect(url).await;
        let made =
            cdp.call(None, "Target.createBrowserContext", json!({ "disposeOnDetach": true }));
        assert!(made.await["browserContextId"].is_string(), "client {n}");
        clients.push(cdp);
    }
    let Err(Error::Http(refused)) = connect_async(url).await else {
        panic!("a client too many was let in");
    };
    assert_eq!(refused.status(), 409);
    // every client sees contexts of its own kind only by asking; its commands stay its own
    for cdp in &mut clients {
        let version = cdp.call(None, "Browser.getVersion", json!({})).await;
        assert!(version["product"].is_string());
    }
    for cdp in clients {
        cdp.close().await;
    }
}

/// It asks for much and takes nothing: only its own connection ends.
async fn a_client_that_does_not_read(url: &str, other: &mut Cdp, target: &str, page: &str) {
    let (mut socket, _) = connect_async(url).await.unwrap();
    let attach = json!({ "id": 1, "method": "Target.attachToTarget", "params": { "targetId": target, "flatten": true } });
    socket.send(Message::text(attach.to_string())).await.unwrap();
    let mut session = String::new();
    while session.is_empty() {
        let Some(Ok(Message::Text(text))) = socket.next().await else { panic!("an answer") };
        let message: serde_json::Value = serde_json::from_str(text.as_str()).unwrap();
        session = message["result"]["sessionId"].as_str().unwrap_or_default().to_owned();
    }
    let large = "window.answered = (window.answered ?? 0) + 1; 'x'.repeat(8 << 20)";
    let large = json!({ "expression": large, "returnByValue": true });
    for id in 2..22 {
        let command = json!({ "id": id, "method": "Runtime.evaluate", "params": large, "sessionId": session });
        socket.send(Message::text(command.to_string())).await.unwrap();
    }
    loop {
        let answered = other.evaluate(Some(page), "window.answered ?? 0").await;
        if answered == 20 {
            break;
        }
    }
    let mut answers = 0;
    let mut code = 1006;
    let drained = async {
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Message::Text(_) => answers += 1,
                Message::Close(Some(frame)) => code = frame.code.into(),
                _ => {}
            }
        }
    };
    timeout(PATIENCE, drained).await.expect("its connection ends");
    assert!(answers < 20, "160 MB were kept for a client that does not read");
    assert!(code == 1013 || code == 1006, "{code}");
}
