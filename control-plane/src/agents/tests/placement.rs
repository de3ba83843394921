//! Which agent gets a session, and that slots are counted.

use http::Method;
use proto::{
    id::{AgentId, SessionId},
    session::EndReason,
};
use serde_json::json;

use crate::{
    agents::{
        lost, roster,
        slots::{self, Slot},
        store,
    },
    sessions,
    testing::{TestApp, id_of, on_both_databases, on_postgres},
};

/// How many agents count something else than they hold.
const MISCOUNTED: &str = "SELECT COUNT(*) FROM agents WHERE in_use <> \
     (SELECT COUNT(*) FROM sessions WHERE agent_id = agents.id AND slot_held = 1)";

/// A session that has a slot.
async fn provision(app: &TestApp, key: &str) -> SessionId {
    let created = app.create(key).header("prefer", "respond-async, wait=0").send().await;
    id_of(&created.expect(201))
}

/// How many slots are taken, which is also what the agents count.
async fn taken(app: &TestApp) -> i64 {
    assert_eq!(app.count(MISCOUNTED).await, 0, "the count is wrong");
    app.count("SELECT CAST(SUM(in_use) AS BIGINT) FROM agents").await
}

/// Where a session would go now.
async fn best(app: &TestApp, shortlist: &[AgentId], but: &[AgentId]) -> Slot {
    let mut tx = app.tx().await;
    let slot = slots::hold(&mut tx, &"local".parse().unwrap(), shortlist, but).await.unwrap();
    tx.commit().await.unwrap(); // dropped, it would hold the agent's row for a moment
    slot
}

on_both_databases! {
    async fn slots_are_counted_whatever_becomes_of_a_session(app: TestApp) {
        let first = app.agent("local", 2).await;
        let ran = provision(&app, "ran").await;
        let moved = provision(&app, "moved").await;
        assert_eq!(taken(&app).await, 2);
        assert_eq!(best(&app, &[], &[]).await, Slot::None);
        sessions::started(&app.app, first, ran).await.unwrap();
        assert_eq!(taken(&app).await, 2);
        let second = app.agent("local", 1).await;
        sessions::ended(&app.app, first, moved, EndReason::LaunchFailed, "").await.unwrap();
        assert_eq!(app.session(moved).await.agent_id, Some(second));
        assert_eq!(taken(&app).await, 2);
        assert_eq!(best(&app, &[], &[]).await, Slot::On(first), "the other one is full");
        // Released: the slot is free when the browser is gone, and once.
        app.call(Method::DELETE, &format!("/v1/sessions/{ran}")).send().await.expect(204);
        assert_eq!(taken(&app).await, 2);
        for _ in 0..2 {
            sessions::ended(&app.app, first, ran, EndReason::Released, "").await.unwrap();
            assert_eq!(taken(&app).await, 1);
        }
        // A launch that nobody takes over.
        app.lapse(first).await;
        sessions::ended(&app.app, second, moved, EndReason::LaunchFailed, "").await.unwrap();
        assert_eq!(taken(&app).await, 0);
        // An agent that is lost with what it had.
        let third = app.agent("local", 3).await;
        for key in ["first", "second", "third"] {
            provision(&app, key).await;
        }
        assert_eq!(taken(&app).await, 3);
        app.lapse(second).await;
        app.lapse(third).await;
        lost::declare_all(&app.app).await.unwrap();
        assert_eq!(taken(&app).await, 0);
        // And what no code of ours does.
        app.agent("local", 1).await;
        provision(&app, "deleted").await;
        for referring in ["DELETE FROM idempotency", "DELETE FROM session_events"] {
            app.sql(referring, &[]).await;
        }
        app.sql("DELETE FROM sessions WHERE slot_held = 1", &[]).await;
        assert_eq!(taken(&app).await, 0);
    }

    async fn the_best_agent_is_warm_then_freest(app: TestApp) {
        let [small, large, warm] =
            [app.agent("local", 2).await, app.agent("local", 100).await, app.agent("local", 2).await];
        let used = "UPDATE agents SET in_use = 1 WHERE id = $1";
        app.sql(used, &[&small.to_string()]).await;
        app.sql(used, &[&large.to_string()]).await;
        assert_eq!(best(&app, &[], &[]).await, Slot::On(warm), "it has the greatest free share");
        app.sql(used, &[&warm.to_string()]).await;
        assert_eq!(best(&app, &[], &[]).await, Slot::On(large));
        app.sql("UPDATE agents SET warm = 1 WHERE id = $1", &[&warm.to_string()]).await;
        assert_eq!(best(&app, &[], &[]).await, Slot::On(warm));
        assert_eq!(best(&app, &[], &[warm]).await, Slot::On(large), "but not one that is left out");
        app.sql("UPDATE agents SET in_use = 2 WHERE id = $1", &[&warm.to_string()]).await;
        assert_eq!(best(&app, &[], &[]).await, Slot::On(large), "nor one that is full");
    }

    async fn an_agent_that_may_get_nothing_is_passed_over(app: TestApp) {
        let agents = [app.agent("local", 9).await, app.agent("local", 9).await,
            app.agent("local", 9).await, app.agent("local", 9).await, app.agent("eu", 9).await];
        let not = ["draining = 1", "lease_expires_us = 1", "connected_us = 0", "gone_us = 1", ""];
        let last = app.agent("local", 1).await;
        app.sql("UPDATE agents SET warm = 9 WHERE capacity = 9", &[]).await;
        for (agent, set) in agents.iter().zip(not).filter(|(_, set)| !set.is_empty()) {
            let set: &str = format!("UPDATE agents SET {set} WHERE id = $1").leak();
            app.sql(set, &[&agent.to_string()]).await;
        }
        assert_eq!(best(&app, &agents, &[]).await, Slot::On(last));
        assert_eq!(best(&app, &agents, &[last]).await, Slot::None);
    }

    async fn the_shortlist_is_asked_first_and_all_when_it_is_full(app: TestApp) {
        let (listed, other) = (app.agent("local", 1).await, app.agent("local", 9).await);
        assert_eq!(best(&app, &[listed], &[]).await, Slot::On(listed));
        app.sql("UPDATE agents SET in_use = 1 WHERE id = $1", &[&listed.to_string()]).await;
        assert_eq!(best(&app, &[listed], &[]).await, Slot::On(other));
    }

    async fn a_shortlist_has_those_that_had_room(app: TestApp) {
        let region = "local".parse().unwrap();
        let [open, full, draining, warm] = [app.agent("local", 1).await,
            app.agent("local", 1).await, app.agent("local", 1).await, app.agent("local", 1).await];
        assert!(app.app.hub.shortlist(&region, &[]).is_empty(), "nobody has looked");
        for (agent, set) in [
            (full, "UPDATE agents SET in_use = 1 WHERE id = $1"),
            (draining, "UPDATE agents SET draining = 1 WHERE id = $1"),
            (warm, "UPDATE agents SET warm = 3 WHERE id = $1"),
        ] {
            app.sql(set, &[&agent.to_string()]).await;
        }
        roster::look(&app.app).await.unwrap();
        assert_eq!(app.app.hub.shortlist(&region, &[]), [warm, open]);
        assert_eq!(app.app.hub.shortlist(&region, &[warm]), [open]);
        assert!(app.app.hub.shortlist(&"eu".parse().unwrap(), &[]).is_empty());
    }

    async fn an_agent_is_gone_once_nothing_of_it_is_left_until_it_comes_back(app: TestApp) {
        let agent = app.agent("local", 1).await;
        provision(&app, "k").await;
        let gone = "SELECT COUNT(*) FROM agents WHERE gone_us IS NOT NULL";
        lost::declare_all(&app.app).await.unwrap();
        assert_eq!(app.count(gone).await, 0, "it lives");
        app.lapse(agent).await;
        lost::declare_all(&app.app).await.unwrap();
        assert_eq!((app.count(gone).await, taken(&app).await), (1, 0));
        let mut tx = app.tx().await;
        assert_eq!(store::lapsed(&mut tx).await.unwrap(), None, "there is nothing left to do");
        let back = store::Registration { id: agent, ..app.registration("local", 1) };
        store::register(&mut tx, &back, None).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(app.count(gone).await, 0);
        provision(&app, "again").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_that_others_hold_are_left_to_them_and_waited_for_only_if_none_is_left() {
    async fn story(app: TestApp) {
        let region = "local".parse().unwrap();
        let (a, b) = (app.agent("local", 2).await, app.agent("local", 1).await);
        let mut first = app.tx().await;
        assert_eq!(slots::hold(&mut first, &region, &[a], &[]).await.unwrap(), Slot::On(a));
        let mut second = app.tx().await;
        assert_eq!(slots::hold(&mut second, &region, &[a], &[]).await.unwrap(), Slot::On(b));
        let Slot::Contended(of) = best(&app, &[a, b], &[]).await else { panic!("some have room") };
        assert!([a, b].contains(&of));
        assert_eq!(best(&app, &[], &[a]).await, Slot::Contended(b));
        assert_eq!(best(&app, &[], &[a, b]).await, Slot::None);
        // A create waits, and gets what the others have left.
        drop(second);
        let filled = "UPDATE agents SET in_use = 1 WHERE id = $1";
        app.sql(filled, &[&b.to_string()]).await;
        let create = app.create("k").header("prefer", "respond-async, wait=0").send();
        let create = tokio::spawn(create);
        let waits = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                     AND datname = current_database()";
        crate::testing::until(async || app.count(waits).await == 1).await;
        first.commit().await.unwrap();
        let id = id_of(&create.await.unwrap().expect(201));
        assert_eq!(app.session(id).await.agent_id, Some(a));
    }
    on_postgres(story).await;
}

/// Late reports, lapses, launches that fail and creates want the same sessions and agents.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_in_a_circle() {
    async fn story(app: TestApp) {
        const ROUNDS: usize = 25;
        for round in 0..ROUNDS {
            let agents = [
                app.agent("local", 5).await,
                app.agent("local", 5).await,
                app.agent("local", 5).await,
            ];
            let mut ids = Vec::new();
            for n in 0..12 {
                ids.push(provision(&app, &format!("{round}-{n}")).await);
            }
            let lapsed = agents[0];
            app.lapse(lapsed).await;
            let mut all = tokio::task::JoinSet::new();
            for replica in 0..2 {
                let app = app.clone();
                all.spawn(async move { lost::declare_all(&app.app).await.map(|()| replica) });
            }
            for (n, id) in ids.into_iter().enumerate() {
                let (app, agent) = (app.clone(), app.session(id).await.agent_id.unwrap());
                all.spawn(async move {
                    let reason = if n % 2 == 0 {
                        EndReason::LaunchFailed
                    } else {
                        EndReason::BrowserCrashed
                    };
                    sessions::ended(&app.app, agent, id, reason, "").await.map(|()| n)
                });
            }
            for n in 0..4 {
                let create = app.create(&format!("{round}-new-{n}")).json(&json!({}));
                let create = create.header("prefer", "respond-async, wait=0").send();
                all.spawn(async move {
                    let status = create.await.status;
                    assert!([201, 503].contains(&status), "{status}");
                    Ok(n)
                });
            }
            while let Some(done) = all.join_next().await {
                done.unwrap().expect("nothing fails, nothing is a victim");
            }
            taken(&app).await;
            for agent in agents {
                app.lapse(agent).await;
            }
            crate::testing::until(async || {
                lost::declare_all(&app.app).await.unwrap();
                taken(&app).await == 0
            })
            .await;
        }
    }
    on_postgres(story).await;
}
