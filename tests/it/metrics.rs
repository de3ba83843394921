//! What operators see of a server from outside is there, is documented, and is true.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use harness::{
    PATIENCE, Server, Site,
    cdp::Cdp,
    clients, eventually,
    fleet::{
        TOKEN, another, control_plane, database, free_port, id_of, operator, with_small_browser,
    },
    folder, leftovers, process,
    scrape::{Admin, Scrape},
    server::Plan,
    simulated_agent::SimulatedAgent,
};
use http::Method;
use rustix::process::Signal;
use serde_json::json;

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A metric: its kind and its labels.
type Described = BTreeMap<String, (String, BTreeSet<String>)>;

/// The table of `docs/metrics.md`: what one half exposes, `C` or `A`.
fn documented(half: char) -> Described {
    let path = folder().join("../docs/metrics.md");
    let text = fs::read_to_string(path).unwrap();
    let quoted =
        |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, places, _] = cells[..] else { return None };
        let name = quoted(name).pop_first()?;
        let is_here = places.split([' ', ',']).any(|place| place == half.to_string());
        is_here.then(|| (name, (kind.to_owned(), quoted(labels))))
    });
    rows.collect()
}

/// What is exposed, as another parser reads it, which also judges names and values.
async fn exposed(scrape: &Scrape) -> Described {
    let families = clients::python_reading("metrics.py", &scrape.0).await;
    let families = families.iter().map(|family| {
        let text = |name: &str| family[name].as_str().unwrap().to_owned();
        assert!(family["samples"].as_u64() > Some(0), "{family} has no sample");
        let labels = family["labels"].as_array().unwrap().iter();
        let labels = labels.map(|label| label.as_str().unwrap().to_owned()).collect();
        (text("name"), (text("kind"), labels))
    });
    families.collect()
}

/// An agent with so many slots and idle browsers.
fn agent(hub: u16, capacity: u32, warm: u32) -> Plan {
    let plan = Server::agent().flag("control-plane", format!("http://127.0.0.1:{hub}"));
    with_small_browser(plan.env("VENTUS_JOIN_TOKEN", TOKEN).capacity(capacity, warm))
}

/// Waits until an agent has so many slots in use and idle browsers.
async fn at(agent: &Admin, used: f64, warm: f64) -> Scrape {
    let wanted = (Some(used), Some(warm));
    agent
        .until("slots and idle browsers", PATIENCE, |now| {
            (now.get("ventus_agent_slots_used"), now.get("ventus_agent_browsers_warm")) == wanted
        })
        .await
}

/// How many sessions have ended for a reason.
fn ended(scrape: &Scrape, reason: &str) -> f64 {
    let series = format!("ventus_sessions_ended_total{{region=\"local\",reason=\"{reason}\"}}");
    scrape.get(&series).unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_half_exposes_what_is_documented_and_says_what_happened() {
    let (database, hub) = (database().await, free_port());
    let (seen_control, plan) = Admin::of(control_plane(&database, hub));
    let control = plan.start().await;
    let (seen_agent, plan) = Admin::of(agent(hub, 2, 1));
    let agent = plan.start().await;
    let site = Site::start().await;
    let before = seen_agent.scrape().await;

    // One that works and is released, one that dies, one that waits for room in vain.
    let session = control.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let (_, page) = cdp.page("about:blank").await;
    cdp.call(Some(&page), "Page.enable", json!({})).await;
    cdp.call(Some(&page), "Page.navigate", json!({ "url": site.url })).await;
    cdp.until_titled(&page, "Ventus test site").await;
    for _ in 0..10 {
        cdp.evaluate(Some(&page), "1 + 1").await;
    }
    cdp.evaluate(Some(&page), "fetch('http://10.0.0.1/').catch(() => 0)").await;
    let doomed = control.api.create(json!({})).await;
    let refused = control.api.create_with("in-vain", "wait=1", &json!({})).await;
    assert_eq!(refused.status, 503);
    assert_eq!(control.api.get("/some/where").await.status, 404);
    let full = seen_agent.scrape().await;
    assert_eq!(full.get("ventus_agent_slots_used"), Some(2.0));
    assert_eq!(full.get("ventus_agent_cdp_clients"), Some(1.0));
    assert!(full.get("ventus_agent_memory_bytes") > Some(50e6), "browsers take memory");
    assert_eq!(seen_agent.probes().await, [200; 3], "a full agent is ready");
    let running = r#"ventus_sessions{region="local",state="running"}"#;
    let used = r#"ventus_slots_used{region="local"}"#;
    let live = seen_control
        .until("sessions are seen", PATIENCE, |now| {
            (now.get(running), now.get(used)) == (Some(2.0), Some(2.0))
        })
        .await;
    assert_eq!(live.get(r#"ventus_slots{region="local"}"#), Some(2.0));
    assert_eq!(live.get(r#"ventus_agents{region="local",state="ready"}"#), Some(1.0));
    assert_eq!(live.get("ventus_agent_streams"), Some(1.0));

    control.api.release(session.id()).await;
    at(&seen_agent, 1.0, 1.0).await;
    for browser in agent.browsers() {
        browser.kill(); // the session's, and the idle one
    }
    control.api.wait_for(doomed.id(), "ERRORED", PATIENCE).await;

    // All is as it was, and what happened was counted once.
    let rest = at(&seen_agent, 0.0, 1.0).await;
    assert_eq!(rest.get("ventus_agent_cdp_clients"), Some(0.0));
    let counted = |name: &str| rest.sum(name) - before.sum(name);
    assert_eq!(counted("ventus_agent_browser_crashes_total"), 2.0);
    assert!(counted("ventus_agent_browser_start_seconds_count") >= 2.0);
    assert_eq!(counted("ventus_agent_egress_denials_total"), 1.0);
    let outcome = |name: &str| {
        rest.get(&format!("ventus_agent_egress_connections_total{{outcome=\"{name}\"}}"))
    };
    assert_eq!(outcome("refused"), Some(1.0));
    assert!(outcome("opened") >= Some(1.0));
    assert!(counted("ventus_agent_egress_bytes_total") > 100.0);
    let of_method = |name: &str| {
        let name = "ventus_agent_cdp_command_duration_seconds_count{method=\"".to_owned() + name;
        rest.get(&(name + "\"}"))
    };
    assert!(of_method("Runtime.evaluate") >= Some(11.0), "ten, the fetch, and the titles");
    assert_eq!(of_method("Page.navigate"), Some(1.0));
    assert_eq!(of_method("Target.createTarget"), Some(1.0));
    assert_eq!(rest.get("ventus_agent_hub_connects_total"), Some(1.0));
    let over = seen_control
        .until("sessions are over", PATIENCE, |now| {
            (now.get(running), now.get(used)) == (Some(0.0), Some(0.0))
        })
        .await;
    assert_eq!(over.sum("ventus_sessions_ended_total"), 2.0);
    assert_eq!((ended(&over, "released"), ended(&over, "browser_crashed")), (1.0, 1.0));
    let stage = |name: &str| {
        over.get(&format!("ventus_session_create_duration_seconds_count{{stage=\"{name}\"}}"))
    };
    for name in ["queue", "place", "launch", "total"] {
        assert_eq!(stage(name), Some(2.0), "{name}");
    }
    assert_eq!(over.get(r#"ventus_queue_wait_seconds_count{region="local"}"#), Some(1.0));
    let requests = |route: &str, status: u16| {
        over.get(&format!(
            "ventus_http_requests_total{{method=\"{route}\",status=\"{status}\"}}",
            route = route.replacen(' ', "\",route=\"", 1)
        ))
    };
    assert_eq!(requests("POST /v1/sessions", 201), Some(2.0));
    assert_eq!(requests("POST /v1/sessions", 503), Some(1.0));
    assert_eq!(requests("DELETE /v1/sessions/{id}", 204), Some(1.0));

    assert_eq!(requests("GET none", 404), Some(1.0));

    // Nothing is missing, nothing is undocumented, and another parser understands it.
    assert_eq!(exposed(&over).await, documented('C'));
    assert_eq!(exposed(&rest).await, documented('A'));
    for text in [&over.0, &rest.0] {
        for secret in [control.key().unwrap().as_str(), session.token(), session.id(), &site.url] {
            assert!(!text.contains(secret), "{secret} is told");
        }
    }
    agent.stop_process().await;
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_of_an_agent_follow_its_hub_and_its_drain() {
    let (database, hub) = (database().await, free_port());
    let (seen_control, control) = Admin::of(control_plane(&database, hub));
    let (seen, plan) = Admin::of(agent(hub, 1, 1).env("VENTUS_DRAIN_SECONDS", 60));
    // Without a hub it lives, and waits for one.
    let starting = tokio::spawn(plan.start());
    at(&seen, 0.0, 1.0).await;
    assert_eq!(seen.probes().await, [200, 503, 503]);
    assert_eq!(seen.scrape().await.get("ventus_agent_hub_connected"), Some(0.0));
    let (_, why) = seen.get("/readyz").await.unwrap();
    assert_eq!(why, "the agent has no lease from a hub\n");
    let control = control.start().await;
    let agent = starting.await.unwrap();
    seen.until_probes([200; 3], PATIENCE).await;
    assert_eq!(seen_control.probes().await, [200; 3]);
    assert_eq!(seen.scrape().await.get("ventus_agent_hub_connected"), Some(1.0));

    // By order of the hub it takes nothing new.
    let api = operator(&control).await;
    let path = format!("/v1/agents/{}/drain", id_of(&agent));
    let body = json!({ "deadline_seconds": 600 });
    assert_eq!(api.send(Method::POST, &path, &[], Some(&body)).await.status, 200);
    seen.until_probes([200, 200, 503], PATIENCE).await;
    let draining = r#"ventus_agents{region="local",state="draining"}"#;
    seen_control.until("the drain is seen", PATIENCE, |now| now.get(draining) == Some(1.0)).await;
    assert_eq!(api.send(Method::DELETE, &path, &[], None).await.status, 200);
    seen.until_probes([200; 3], PATIENCE).await;

    // Its hub is gone for longer than its lease, and comes back.
    let control = control.kill(leftovers::GRACE).await;
    seen.until_probes([200, 200, 503], PATIENCE).await;
    let control = control.start().await;
    seen.until_probes([200; 3], PATIENCE).await;
    let connects = seen.scrape().await.get("ventus_agent_hub_connects_total");
    assert!(connects >= Some(2.0), "{connects:?}");

    // Told to stop it waits for what runs, and is alive meanwhile.
    let session = control.api.create(json!({})).await;
    let mut cdp = Cdp::connect(session.connect_url()).await;
    process::signal(agent.pid().cast_signed(), Signal::TERM);
    seen.until_probes([200, 200, 503], PATIENCE).await;
    cdp.call(None, "Browser.getVersion", json!({})).await;
    cdp.close().await;
    control.api.release(session.id()).await;
    let plan = agent.ended(0, PATIENCE).await;
    assert_eq!(seen.probes().await, [0; 3]);

    // With a hub it has started when its first idle browser is up, and not before.
    let starting = tokio::spawn(plan.start());
    let started = async || seen.get("/startupz").await.is_some_and(|(status, _)| status == 200);
    eventually("it has started", START, || async { started().await.then_some(()) }).await;
    assert_eq!(seen.scrape().await.get("ventus_agent_browsers_warm"), Some(1.0));
    starting.await.unwrap().stop_process().await;
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_end_is_counted_by_the_replica_that_committed_it() {
    const SESSIONS: usize = 8;
    let (database, hubs) = (database().await, [free_port(), free_port()]);
    let (seen_one, plan) = Admin::of(control_plane(&database, hubs[0]));
    let one = plan.start().await;
    let (seen_two, plan) = Admin::of(another(&database, hubs[1], &one));
    let two = plan.start().await;
    let agent = SimulatedAgent::start(&hubs, TOKEN, 2 * SESSIONS as u32);
    let mut made = Vec::new();
    for _ in 0..SESSIONS {
        made.push(one.api.create(json!({})).await);
    }
    // Each is released at both, and twice.
    for (n, session) in made.iter().enumerate() {
        let mut servers = [&one, &two];
        servers.rotate_left(n % 2);
        for server in servers.iter().chain(&servers) {
            server.api.release(session.id()).await;
        }
    }
    // The others are lost with their agent, which any replica may notice.
    let lost = [one.api.create(json!({})).await, two.api.create(json!({})).await];
    drop(agent);
    for session in &lost {
        let over = one.api.wait_for(session.id(), "ERRORED", PATIENCE).await;
        assert_eq!(over.reason(), "agent_lost");
    }
    let counted = |reason: &'static str| async move {
        let each =
            [ended(&seen_one.scrape().await, reason), ended(&seen_two.scrape().await, reason)];
        (each[0] + each[1], each)
    };
    let (released, by_each) = counted("released").await;
    assert_eq!(released, SESSIONS as f64);
    assert!(by_each.iter().all(|count| *count > 0.0), "{by_each:?}");
    eventually("both are counted", PATIENCE, || async {
        (counted("agent_lost").await.0 == lost.len() as f64).then_some(())
    })
    .await;
    two.stop_process().await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_tells_of_both_halves_and_no_page_can_read_it() {
    let (seen, plan) = Admin::of(Server::up());
    let server = with_small_browser(plan.capacity(1, 0)).start().await;
    assert_eq!(seen.probes().await, [200; 3]);
    let session = server.api.create(json!({})).await;
    let refused = server.api.create_with("in-vain", "wait=0", &json!({})).await;
    assert_eq!(refused.status, 503);
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let (_, page) = cdp.page("about:blank").await;
    // Its pages may connect to this machine, but not to what is the server's own.
    let url = seen.url("/metrics");
    let fetch = format!("fetch('{url}', {{mode: 'no-cors'}}).then(() => 'read', () => 'refused')");
    assert_eq!(cdp.evaluate(Some(&page), &fetch).await, "refused");
    cdp.close().await;
    server.api.release(session.id()).await;
    server.at_rest(0).await;
    // Both looks at the database have seen it.
    let looks = [
        "ventus_sessions{region=\"local\",state=\"running\"}",
        "ventus_slots_used{region=\"local\"}",
    ];
    let is_over = |now: &Scrape| looks.iter().all(|look| now.get(look) == Some(0.0));
    seen.until("the session is over", PATIENCE, is_over).await;
    let rest = at(&seen, 0.0, 0.0).await;
    assert!(rest.sum("ventus_agent_egress_denials_total") >= 1.0);
    let mut all = documented('C');
    all.extend(documented('A'));
    assert_eq!(exposed(&rest).await, all);
    server.stop().await;
}
