//! The hub against an agent that the test plays, over a real connection.

mod actions;
mod captures;
mod deletion_costs;
mod denials;
mod drains;
mod files;
mod inputs;
mod joining;
mod locating;
mod placement;
mod played;

use std::{net::SocketAddr, time::Duration};

use proto::{
    agent::{
        Adjust, Assign, Capture, Ended, FromAgent, FromHub, Heartbeat, Hello, Layer, Lease,
        Release, Running, SessionReport, SessionUsage, Usage, from_agent::Message as Said,
        from_hub::Message, hub_client::HubClient, hub_server::HubServer, session_report,
    },
    id::{AgentId, InstanceId, SessionId},
    session::{EndReason, SessionStatus},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use self::played::*;
use super::*;
use crate::{
    sessions, signing,
    testing::{PATIENCE, TestApp, id_of, on_both_databases, until},
};

on_both_databases! {
    async fn only_an_agent_that_fits_is_let_in(app: TestApp) {
        let hub = listen(&app).await;
        let good = hello(AgentId::generate());
        let wrong = Hello { join_token: "wrong".to_owned(), ..good.clone() };
        assert_eq!(refused(&hub, wrong).await, Some(Code::Unauthenticated));
        for wrong in [
            Hello { protocol_version: proto::PROTOCOL_VERSION + 1, ..good.clone() },
            Hello { region: "Not A Region".to_owned(), ..good.clone() },
            Hello { region: "any".to_owned(), ..good.clone() },
            Hello { agent_id: "1".to_owned(), ..good.clone() },
            Hello { capacity: 0, ..good.clone() },
            Hello { data_plane_url: "http://agent.test".to_owned(), ..good.clone() },
        ] {
            assert_eq!(refused(&hub, wrong).await, Some(Code::FailedPrecondition));
        }
        assert_eq!(app.count("SELECT COUNT(*) FROM agents").await, 0);
        assert_eq!(refused(&hub, good).await, None);
    }

    async fn a_heartbeat_is_answered_with_the_lease_and_keeps_the_agent(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        assert_eq!(agent.epoch, 1);
        app.sql("UPDATE agents SET lease_expires_us = lease_expires_us - 9000000", &[]).await;
        let before = app.count("SELECT lease_expires_us FROM agents").await;
        agent.say(Said::Heartbeat(Heartbeat { sequence: 7, warm: 2 }));
        match agent.hear().await.unwrap() {
            Message::Lease(lease) => {
                assert_eq!(lease.sequence, 7);
                let until_us = app.count("SELECT lease_expires_us FROM agents").await;
                assert_eq!(lease.now_ms, until_us / 1_000 - 10_000, "by the database's clock");
            }
            other => panic!("no lease but {other:?}"),
        }
        assert!(app.count("SELECT lease_expires_us FROM agents").await > before + 8_000_000);
        let region = regions(&app).await;
        assert_eq!((&region["capacity"], &region["warm"]), (&json!(2), &json!(2)));
    }

    async fn a_region_shows_what_isolates_its_browsers(app: TestApp) {
        let layer = |name: &str, active: bool, detail: &str| {
            Layer { name: name.to_owned(), active, detail: detail.to_owned() }
        };
        let hub = listen(&app).await;
        assert_eq!(regions(&app).await["isolation"], json!({ "active": [], "missing": [] }));
        let isolation = vec![layer("user", true, ""), layer("landlock", true, "")];
        let one = Hello { isolation, ..hello(AgentId::generate()) };
        let _one = Agent::attach(&hub, &one).await.unwrap();
        let active = json!({ "active": ["user", "landlock"], "missing": [] });
        assert_eq!(regions(&app).await["isolation"], active);
        let isolation = vec![layer("user", true, ""), layer("landlock", false, "too old")];
        let other = Hello { isolation, ..hello(AgentId::generate()) };
        let _other = Agent::attach(&hub, &other).await.unwrap();
        let missing = json!([{ "name": "landlock", "detail": "too old" }]);
        let both = json!({ "active": ["user"], "missing": missing });
        assert_eq!(regions(&app).await["isolation"], both);
        let isolation = vec![layer(&"n".repeat(100), true, "")];
        let wrong = Hello { isolation, ..hello(AgentId::generate()) };
        assert_eq!(refused(&hub, wrong).await, Some(Code::FailedPrecondition));
        app.sql("UPDATE agents SET lease_expires_us = 0", &[]).await;
        assert_eq!(regions(&app).await["isolation"]["active"], json!([]), "only of the living");
    }

    async fn a_session_goes_through_its_life_on_the_stream(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let creating = tokio::spawn(app.create("one").json(&json!({})).send());
        let id = agent.hear_assign().await;
        agent.running(id);
        assert_eq!(agent.hear_recorded().await, [id.to_string()]);
        let created = creating.await.unwrap().expect(201);
        assert_eq!((&created["status"], id_of(&created)), (&json!("RUNNING"), id));
        let url = created["connect_url"].as_str().unwrap();
        assert!(url.starts_with(&format!("ws://agent.test/v1/sessions/{id}/cdp?token=")));

        let usage = SessionUsage {
            session_id: id.to_string(),
            last_seen_ms: 1_700_000_000_000,
            cdp_messages: 5,
            bytes_in: 100,
            bytes_out: 200,
            egress_bytes: 0,
        };
        agent.say(Said::Usage(Usage { sessions: vec![usage] }));
        app.call(http::Method::DELETE, &format!("/v1/sessions/{id}")).send().await.expect(204);
        let release = agent.hear_release().await;
        assert_eq!((release.session_id, release.reason), (id.to_string(), "released".to_owned()));
        assert_eq!(regions(&app).await["in_use"], 1, "the browser is not gone yet");
        agent.ended(id, EndReason::Released);
        assert_eq!(agent.hear_acknowledge().await, id);
        let session = app.session(id).await;
        assert_eq!((session.status, session.slot_held), (SessionStatus::Completed, false));
        assert_eq!((session.cdp_messages, session.bytes_in, session.bytes_out), (5, 100, 200));
        assert_eq!(regions(&app).await["in_use"], 0);
    }

    async fn the_end_that_comes_first_is_the_one_that_everybody_hears_of(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let release = async |id| {
            app.call(http::Method::DELETE, &format!("/v1/sessions/{id}")).send().await.expect(204);
        };
        let id = run_session(&app, &mut agent, "one").await;
        agent.ending(id, EndReason::BrowserCrashed);
        let heard = agent.hear_release().await;
        assert_eq!((heard.session_id, heard.reason), (id.to_string(), "browser_crashed".to_owned()));
        release(id).await;
        let session = app.session(id).await;
        assert_eq!(session.reason.unwrap().code, EndReason::BrowserCrashed);
        assert!(session.slot_held, "the browser is not gone yet");
        agent.ended(id, EndReason::BrowserCrashed);
        assert_eq!(agent.hear_acknowledge().await, id);
        assert!(!app.session(id).await.slot_held);

        let id = run_session(&app, &mut agent, "two").await;
        release(id).await;
        assert_eq!(agent.hear_release().await.reason, "released");
        agent.ending(id, EndReason::Idle);
        assert_eq!(agent.hear_release().await.reason, "released");
        assert_eq!(app.session(id).await.reason.unwrap().code, EndReason::Released);
        agent.ended(id, EndReason::Released);
        assert_eq!(agent.hear_acknowledge().await, id);

        // Of what it does not have, an agent says nothing.
        agent.ending(SessionId::generate(), EndReason::Idle);
        let id = run_session(&app, &mut agent, "three").await;
        let mut other = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        other.ending(id, EndReason::Idle);
        other.say(Said::Heartbeat(Heartbeat { sequence: 1, warm: 0 }));
        assert!(matches!(other.hear().await, Ok(Message::Lease(_))));
        agent.ending(id, EndReason::Idle);
        assert_eq!(agent.hear_release().await.reason, "idle");
        agent.ended(id, EndReason::Idle);
        assert_eq!(agent.hear_acknowledge().await, id);
    }

    async fn what_another_replica_wants_reaches_the_agent_soon(app: TestApp) {
        let hub = listen(&app).await;
        let other = app.another().await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = provision(&other, "one").await;
        assert_eq!(agent.hear_assign().await, id);
        // A report that got lost is asked for again.
        assert_eq!(agent.hear_assign().await, id);
        agent.running(id);
        becomes(&other, id, SessionStatus::Running).await;
        other.call(http::Method::DELETE, &format!("/v1/sessions/{id}")).send().await.expect(204);
        assert_eq!(agent.hear_release().await.session_id, id.to_string());
        assert_eq!(agent.hear_release().await.session_id, id.to_string(), "until it is done");
        agent.ended(id, EndReason::Released);
        assert_eq!(agent.hear_acknowledge().await, id);
        other.app.db.close().await;
    }

    async fn another_process_cannot_take_an_agent_id_that_is_in_use(app: TestApp) {
        let hub = listen(&app).await;
        let id = AgentId::generate();
        let mut first = Agent::attach(&hub, &hello(id)).await.unwrap();
        let refused = Agent::attach(&hub, &hello(id)).await.err().unwrap();
        assert_eq!(refused.code(), Code::AlreadyExists);
        first.say(Said::Heartbeat(Heartbeat { sequence: 1, warm: 0 }));
        assert!(matches!(first.hear().await, Ok(Message::Lease(_))), "the first is unharmed");
        if app.app.db.is_shared() {
            let other = app.another().await;
            let elsewhere = listen(&other).await;
            let refused = Agent::attach(&elsewhere, &hello(id)).await.err().unwrap();
            assert_eq!(refused.code(), Code::AlreadyExists, "at another replica as well");
            // A replica that died with it does not protect it for as long as a lease.
            let late = "UPDATE agents SET lease_expires_us = lease_expires_us - 5000000";
            app.sql(late, &[]).await;
            assert_eq!(Agent::attach(&elsewhere, &hello(id)).await.unwrap().epoch, 2);
            other.app.db.close().await;
            return;
        }
        // A lapsed lease does not protect it.
        app.sql("UPDATE agents SET lease_expires_us = 1", &[]).await;
        let second = Agent::attach(&hub, &hello(id)).await.unwrap();
        assert_eq!(second.epoch, 2);
        assert_eq!(first.hear_end().await, Code::Aborted);
    }

    async fn a_new_run_of_an_agent_takes_over_and_starts_again_what_no_client_has_seen(app: TestApp) {
        let hub = listen(&app).await;
        let id = AgentId::generate();
        let mut first = Agent::attach(&hub, &hello(id)).await.unwrap();
        let ran = run_session(&app, &mut first, "ran").await;
        let launching = provision(&app, "launching").await;
        while first.hear_assign().await != launching {}
        drop(first); // as by kill -9
        until(|| async { app.count("SELECT connected_us FROM agents").await == 0 }).await;

        let mut second = Agent::attach(&hub, &hello(id)).await.unwrap();
        assert_eq!(second.epoch, 2);
        assert_eq!(second.hear_assign().await, launching);
        becomes(&app, ran, SessionStatus::Errored).await;
        let lost = app.session(ran).await;
        assert_eq!(lost.reason.unwrap().code, EndReason::AgentLost);
        assert!(!lost.slot_held);
        second.running(launching);
        becomes(&app, launching, SessionStatus::Running).await;
    }

    async fn a_reconnect_leaves_sessions_alone_and_ends_the_older_stream(app: TestApp) {
        let hub = listen(&app).await;
        let hello = hello(AgentId::generate());
        let mut older = Agent::attach(&hub, &hello).await.unwrap();
        let id = run_session(&app, &mut older, "one").await;
        let sessions = vec![report(id, session_report::State::Running(true))];
        let mut newer = Agent::attach(&hub, &Hello { sessions, ..hello }).await.unwrap();
        assert_eq!(older.hear_end().await, Code::Aborted);
        drop(older);
        assert_eq!(newer.hear_recorded().await, [id.to_string()]);
        newer.say(Said::Heartbeat(Heartbeat { sequence: 1, warm: 0 }));
        assert!(matches!(newer.hear().await, Ok(Message::Lease(_))));
        assert_eq!(app.session(id).await.status, SessionStatus::Running);
    }

    async fn a_hello_settles_what_happened_while_there_was_no_stream(app: TestApp) {
        let hub = listen(&app).await;
        let hello = Hello { capacity: 4, ..hello(AgentId::generate()) };
        let mut agent = Agent::attach(&hub, &hello).await.unwrap();
        let crashed = run_session(&app, &mut agent, "crashed").await;
        let released = run_session(&app, &mut agent, "released").await;
        let started = provision(&app, "started").await;
        drop(agent);
        until(|| async { app.count("SELECT connected_us FROM agents").await == 0 }).await;
        let path = format!("/v1/sessions/{released}");
        app.call(http::Method::DELETE, &path).send().await.expect(204);
        let unknown = SessionId::generate();
        let sessions = vec![
            report(crashed, session_report::State::Ended(ended(crashed, EndReason::BrowserCrashed))),
            report(released, session_report::State::Running(true)),
            report(started, session_report::State::Running(true)),
            report(unknown, session_report::State::Launching(true)),
        ];
        let mut agent = Agent::attach(&hub, &Hello { sessions, ..hello }).await.unwrap();
        assert_eq!(agent.hear_acknowledge().await, crashed);
        assert_eq!(agent.hear_release().await.session_id, released.to_string());
        assert_eq!(agent.hear_release().await.session_id, unknown.to_string());
        becomes(&app, started, SessionStatus::Running).await;
        let session = app.session(crashed).await;
        assert_eq!(session.reason.unwrap().code, EndReason::BrowserCrashed);
    }

    async fn a_lapsed_agent_is_lost_and_has_to_start_over(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        lost::declare_all(&app.app).await.unwrap();
        assert_eq!(app.session(id).await.status, SessionStatus::Running, "its lease is live");

        app.sql("UPDATE agents SET lease_expires_us = 1", &[]).await;
        lost::declare_all(&app.app).await.unwrap();
        becomes(&app, id, SessionStatus::Errored).await;
        assert_eq!(app.session(id).await.reason.unwrap().code, EndReason::AgentLost);
        assert_eq!(regions(&app).await["status"], "offline");
        agent.say(Said::Heartbeat(Heartbeat { sequence: 1, warm: 0 }));
        assert_eq!(agent.hear_end().await, Code::Aborted);
    }

    async fn an_agent_that_comes_back_after_it_was_declared_lost_has_lost_its_sessions(app: TestApp) {
        let hub = listen(&app).await;
        let hello = hello(AgentId::generate());
        let mut agent = Agent::attach(&hub, &hello).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        app.sql("UPDATE agents SET lease_expires_us = 1", &[]).await;
        lost::declare_all(&app.app).await.unwrap();
        let sessions = vec![report(id, session_report::State::Running(true))];
        let mut agent = Agent::attach(&hub, &Hello { sessions, ..hello }).await.unwrap();
        assert_eq!(agent.hear_release().await.session_id, id.to_string());
        let session = app.session(id).await;
        assert_eq!(session.reason.unwrap().code, EndReason::AgentLost);
        assert!(!session.slot_held);
    }

    async fn a_lapsed_lease_that_nobody_has_judged_is_as_good_as_any(app: TestApp) {
        let hub = listen(&app).await;
        let hello = hello(AgentId::generate());
        let mut agent = Agent::attach(&hub, &hello).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        let lapse = "UPDATE agents SET lease_expires_us = 1";
        app.sql(lapse, &[]).await;
        agent.say(Said::Heartbeat(Heartbeat { sequence: 1, warm: 0 }));
        assert!(matches!(agent.hear().await, Ok(Message::Lease(_))));
        app.sql(lapse, &[]).await;
        let sessions = vec![report(id, session_report::State::Running(true))];
        let _newer = Agent::attach(&hub, &Hello { sessions, ..hello }).await.unwrap();
        lost::declare_all(&app.app).await.unwrap();
        assert_eq!(app.session(id).await.status, SessionStatus::Running);
    }

    async fn nobody_judges_a_lease_that_could_not_be_renewed(app: TestApp) {
        let agent = app.agent("local", 1).await;
        let id = provision(&app, "one").await;
        sessions::started(&app.app, agent, id).await.unwrap();
        app.lapse(agent).await;
        app.app.watch.failed();
        lost::declare_all(&app.app).await.unwrap();
        assert_eq!(app.session(id).await.status, SessionStatus::Running);
        app.app.watch.grow_old();
        lost::declare_all(&app.app).await.unwrap();
        assert_eq!(app.session(id).await.status, SessionStatus::Errored);
    }

    async fn agents_are_told_that_the_database_is_away_and_that_nobody_judges_them(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        app.app.db.close().await;
        agent.say(Said::Heartbeat(Heartbeat { sequence: 1, warm: 0 }));
        let held = Lease { sequence: 1, held_ms: 10_000, ..Lease::default() };
        assert_eq!(agent.hear().await.unwrap(), Message::Lease(held));
        let refused = Agent::attach(&hub, &hello(AgentId::generate())).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unavailable);
        assert_eq!(refused.metadata().get(proto::HELD_MS).unwrap(), "10000");
    }

    async fn nothing_is_placed_on_an_agent_without_a_stream(app: TestApp) {
        let hub = listen(&app).await;
        let hello = hello(AgentId::generate());
        let mut agent = Agent::attach(&hub, &hello).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        drop(agent);
        until(|| async { app.count("SELECT connected_us FROM agents").await == 0 }).await;
        assert!(app.count("SELECT lease_expires_us FROM agents").await > 1, "the lease stays");
        assert_eq!(app.session(id).await.status, SessionStatus::Running);
        let full = app.create("two").header("prefer", "wait=0").json(&json!({})).send().await;
        full.problem(503, "insufficient-capacity");
    }

    async fn an_agent_that_closes_its_stream_without_sessions_has_left(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        agent.ended(id, EndReason::AgentLost);
        assert_eq!(agent.hear_acknowledge().await, id);
        let Agent { out, mut inbound, .. } = agent;
        drop(out);
        while timeout(PATIENCE, inbound.message()).await.unwrap().is_ok_and(|heard| heard.is_some()) {}
        until(|| async { regions(&app).await["status"] == "offline" }).await;
    }

    async fn a_stopping_hub_sends_its_agents_elsewhere(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        hub.stop.cancel();
        assert_eq!(agent.hear_end().await, Code::Unavailable);
        let refused = Agent::attach(&hub, &hello(AgentId::generate())).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unavailable);
    }

    async fn an_older_stream_can_neither_renew_nor_end_the_lease(app: TestApp) {
        let hub = listen(&app).await;
        let hello = hello(AgentId::generate());
        let older = Agent::attach(&hub, &hello).await.unwrap();
        let newer = Agent::attach(&hub, &hello).await.unwrap();
        let mut tx = app.tx().await;
        assert!(!store::renew(&mut tx, older.id, older.epoch, 0).await.unwrap());
        assert!(!store::left(&mut tx, older.id, older.epoch).await.unwrap());
        store::disconnected(&mut tx, older.id, older.epoch).await.unwrap();
        assert!(store::renew(&mut tx, newer.id, newer.epoch, 0).await.unwrap());
        let region = "local".parse().unwrap();
        let slot = slots::hold(&mut tx, &region, &[], &[]).await.unwrap();
        assert_eq!(slot, slots::Slot::On(newer.id), "it still counts as connected");
    }

    async fn room_is_never_given_twice(app: TestApp) {
        for _ in 0..3 {
            app.agent("local", 4).await;
        }
        let mut creates = Vec::new();
        for n in 0..30 {
            let create = app.create(&n.to_string());
            let create = create.header("prefer", "respond-async, wait=0").json(&json!({}));
            creates.push(tokio::spawn(create.send()));
        }
        let mut created = 0;
        for create in creates {
            match create.await.unwrap().status {
                201 => created += 1,
                status => assert_eq!(status, 503),
            }
        }
        assert_eq!(created, 12);
        let fullest = "SELECT MAX(n) FROM (SELECT COUNT(*) AS n FROM sessions \
                       WHERE slot_held = 1 GROUP BY agent_id) AS counts";
        assert_eq!(app.count(fullest).await, 4);
    }

    async fn agents_hear_of_new_keys_at_once(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        signing::rotate(&app.app.db, &app.app.secrets).await.unwrap();
        signing::refresh_once(&app.app).await.unwrap();
        let Message::SigningKeys(keys) = agent.hear().await.unwrap() else { panic!("no keys") };
        let keys: Value = serde_json::from_str(&keys.jwks).unwrap();
        assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn an_agent_gets_three_chances_to_renew() {
    assert!(HEARTBEAT * 3 < LEASE);
    assert!(LEASE <= Duration::from_secs(10));
}
