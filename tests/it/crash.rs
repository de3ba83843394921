//! Whatever is killed, and whenever: one session, nothing left, and the truth told.

use std::time::Duration;

use harness::{PATIENCE, Server, cdp::Cdp, eventually, rows};
use serde_json::json;
use tokio::time::sleep;

/// How long a crash may take to show.
const SHOWN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_browser_shows_everywhere() {
    let server = Server::up().capacity(2, 0).start().await;
    let other = server.api.create(json!({})).await;
    let before: Vec<_> = server.browsers().iter().map(|browser| browser.pid).collect();
    let session = server.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    cdp.page("about:blank").await;
    let mut spared = Cdp::connect(other.connect_url()).await;
    let browser = server.browsers().into_iter().find(|browser| !before.contains(&browser.pid));

    browser.expect("the session's browser").kill();
    let (code, reason) = cdp.closed(SHOWN).await;
    assert_eq!((code, reason.as_str()), (1001, "browser_crashed"));
    // What the client has heard is what it reads at once, also when it releases what it had.
    server.api.release(session.id()).await;
    let over = server.api.session(session.id()).await;
    assert_eq!((over.status(), over.reason()), ("ERRORED", "browser_crashed"));
    let events = server.api.events(session.id()).await;
    assert_eq!(events.last().unwrap(), &("ERRORED".into(), Some("browser_crashed".into())));
    // its slot is free again, and the other session has noticed nothing
    let next = server.api.create(json!({})).await;
    spared.call(None, "Browser.getVersion", json!({})).await;
    spared.close().await;
    for id in [next.id(), other.id()] {
        server.api.release(id).await;
    }
    server.at_rest(0).await;
    server.stop().await;
}

/// At which moment of a create the server is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after the request was sent.
    After(Duration),
    /// As soon as the session is in the store.
    Stored,
    /// As soon as its browser runs.
    Launched,
    /// As soon as the answer has come.
    Answered,
}

/// Kills the server at many moments of a create, starts it again and retries.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_survives_the_servers_death_at_any_moment() {
    let mut moments = vec![Moment::Stored, Moment::Launched, Moment::Answered];
    // a first create with an empty pool takes some 300 ms; most steps are at its beginning
    moments.extend(
        [0, 1, 2, 3, 4, 6, 9, 14, 22, 35, 60, 100, 160, 250, 400]
            .map(|ms| Moment::After(Duration::from_millis(ms))),
    );
    let mut server = Server::up().capacity(2, 0).start().await;
    for (round, moment) in moments.into_iter().enumerate() {
        let key = format!("crash-{round}");
        let body = json!({ "labels": { "round": round.to_string() } });
        let asking = {
            let (api, key, body) = (server.api.clone(), key.clone(), body.clone());
            let headers = [("idempotency-key", key), ("prefer", "wait=30".to_owned())];
            tokio::spawn(async move {
                let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
                api.try_send(http::Method::POST, "/v1/sessions", &headers, Some(&body)).await
            })
        };
        wait(&server, moment, &asking).await;
        // a browser whose start is under way sees that its agent is gone once it is up
        server = server.kill(PATIENCE).await.start().await;
        let first = asking.await.unwrap();

        let answer = server.api.create_with(&key, "wait=30", &body).await;
        assert!([200, 201].contains(&answer.status), "{moment:?}: {}", answer.body);
        let id = answer.body["id"].as_str().unwrap();
        let query = format!("/v1/sessions?label.round={round}");
        let mut listed = server.api.get(&query).await.body["items"].as_array().unwrap().clone();
        // On a busy machine the lease lapses before the server is back. A session that never
        // ran has then failed, which frees its key for the retry.
        listed.retain(|one| {
            one["id"] == id || one["status"] != "ERRORED" || !one["started_at"].is_null()
        });
        assert_eq!(listed.len(), 1, "{moment:?}: {listed:?}");
        assert_eq!(listed[0]["id"], id);
        if let Some(first) = first {
            assert_eq!(first.body["id"], id, "{moment:?}: the answer that came is the session");
        }
        let session = settled(&server, id).await;
        println!("killed {moment:?}: {} {}", session.status(), session.reason());
        match session.status() {
            "RUNNING" => {
                let mut cdp = Cdp::connect(session.connect_url()).await;
                cdp.call(None, "Browser.getVersion", json!({})).await;
                cdp.close().await;
            }
            // it was running, or about to, on the agent that died
            "ERRORED" => assert_eq!(session.reason(), "agent_lost", "{moment:?}"),
            status => panic!("{moment:?}: {status}"),
        }
        server.api.release(id).await;
        server.at_rest(0).await;
        let wrong = rows::wrong(&server.store(), true).await;
        assert!(wrong.is_empty(), "{moment:?}: {wrong:?}");
    }
    server.stop().await;
}

/// Waits until a session is neither queued nor being launched.
async fn settled(server: &Server, id: &str) -> harness::Session {
    eventually("the session has settled", Duration::from_secs(20), || async {
        let session = server.api.session(id).await;
        (!["QUEUED", "PROVISIONING"].contains(&session.status())).then_some(session)
    })
    .await
}

async fn wait<T>(server: &Server, moment: Moment, asking: &tokio::task::JoinHandle<T>) {
    let within = Duration::from_secs(10);
    match moment {
        // the one place where time itself is what is tested
        Moment::After(time) => sleep(time).await,
        Moment::Stored => {
            let count = async || {
                rows::texts(
                    &server.store(),
                    "SELECT id FROM sessions WHERE status IN ('QUEUED', 'PROVISIONING', 'RUNNING')",
                )
                .await
                .len()
            };
            eventually("it is stored", within, || async { (count().await > 0).then_some(()) })
                .await;
        }
        Moment::Launched => {
            let launched = || async { (!server.browsers().is_empty()).then_some(()) };
            eventually("its browser runs", within, launched).await;
        }
        Moment::Answered => {
            eventually("it is answered", within, || async { asking.is_finished().then_some(()) })
                .await;
        }
    }
}

/// `kill -9` with sessions, clients and warm browsers: all of Chrome goes at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_takes_its_browsers_along() {
    let server = Server::up().capacity(3, 1).start().await;
    let sessions = [server.api.create(json!({})).await, server.api.create(json!({})).await];
    let mut clients = Vec::new();
    for session in &sessions {
        let mut cdp = Cdp::connect(session.connect_url()).await;
        let (_, page) = cdp.page("about:blank").await;
        // busy pages too
        let spin =
            "setInterval(() => { const end = Date.now() + 500; while (Date.now() < end); }, 0); 1";
        cdp.evaluate(Some(&page), spin).await;
        clients.push(cdp);
    }
    assert!(server.browsers().len() >= 2);
    let plan = server.kill(SHOWN).await;
    drop(clients);

    let server = plan.start().await;
    for session in &sessions {
        let over = server.api.wait_for(session.id(), "ERRORED", Duration::from_secs(15)).await;
        assert_eq!(over.reason(), "agent_lost");
    }
    server.at_rest(1).await;
    server.stop().await;
}
