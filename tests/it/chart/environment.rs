//! What the chart tells the program is what the program knows: by name, and by running it.

use std::{collections::BTreeSet, fs};

use base64::{Engine, engine::general_purpose::STANDARD};
use harness::{
    Server, User, fleet,
    helm::{KUBERNETES, Object, VERSIONS, of_kind, one, render, rendered_examples},
};
use serde_json::Value;

/// Known, but no flag of its own has them in `--help`.
const WITHOUT_FLAG: [&str; 2] = ["VENTUS_MASTER_KEY", "VENTUS_SMTP_PASSWORD"];

/// Variables of a container.
fn variables(pod: &Object) -> &[Value] {
    pod.list("/containers/0/env")
}

/// What the image runs: its arguments.
fn command(pod: &Object) -> &str {
    assert!(pod.at("/containers/0/command").is_null(), "the image knows its program");
    pod.text("/containers/0/args/0")
}

#[tokio::test]
async fn every_variable_is_one_that_the_program_knows() {
    let user = User::nowhere();
    for (example, objects) in rendered_examples() {
        for (_, pod) in objects.iter().filter_map(Object::pod) {
            if pod.text("/containers/0/name") == "postgresql" {
                continue;
            }
            let help = user.run(&[command(&pod), "--help"]).await;
            assert_eq!(help.code, 0, "{example}: {}", command(&pod));
            let mut seen = BTreeSet::new();
            for variable in variables(&pod) {
                let name = variable["name"].as_str().unwrap();
                assert!(seen.insert(name), "{example}: {name} twice");
                let known = [format!("[env: {name}]"), format!("[env: {name}=")];
                let known = known.iter().any(|known| help.out.contains(known));
                let ours = name.starts_with("VENTUS_") && !WITHOUT_FLAG.contains(&name);
                assert!(known || !ours, "{example}: {} does not know {name}", command(&pod));
            }
        }
    }
}

/// A variable's value, as the cluster would fill it in.
fn value(objects: &[Object], variable: &Value) -> Option<String> {
    let reference = &variable["valueFrom"]["secretKeyRef"];
    if let Some(secret) = reference["name"].as_str() {
        let encoded =
            one(objects, "Secret", secret).at("/data")[reference["key"].as_str()?].as_str()?;
        return String::from_utf8(STANDARD.decode(encoded).unwrap()).ok();
    }
    variable["value"].as_str().map(str::to_owned)
}

/// The environment of a component's pod, without what names a place of the cluster.
fn environment(objects: &[Object], pod: &Object) -> Vec<(String, String)> {
    let of_the_cluster = [
        "VENTUS_LISTEN",
        "VENTUS_HUB_LISTEN",
        "VENTUS_ADMIN_LISTEN",
        "VENTUS_DATA_DIR",
        "VENTUS_PUBLIC_URL",
        "VENTUS_DATABASE_URL",
        "VENTUS_CONTROL_PLANE",
        "VENTUS_JOIN_TOKEN_FILE",
        "VENTUS_PEER_URL",
        "VENTUS_URL",
        "VENTUS_TRY_DATA_PLANE",
        "VENTUS_TRY_OUTPUT",
    ];
    let ours = variables(pod).iter().filter(|v| {
        let name = v["name"].as_str().unwrap();
        name.starts_with("VENTUS_") && !of_the_cluster.contains(&name)
    });
    let named = |v: &Value| Some((v["name"].as_str()?.to_owned(), value(objects, v)?));
    ours.filter_map(named).collect()
}

/// Renders a release, runs its pods as processes of this machine, and then its test.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_rendered_runs_a_session() {
    let set = [
        "ingress.enabled=true,ingress.host=api.test,regions[0].name=local",
        "regions[0].host=browsers.test,agents.sessionLimits.memoryMb=1500,agents.capacity=2",
        // `ventus try` serves its page where the server is, which is this machine
        "agents.egress.allow={10.0.0.0/8:443,127.0.0.1/32},controlPlane.trustedProxies={127.0.0.0/8}",
        "agents.drainSeconds=5,controlPlane.ownerEmail=owner@example.com",
    ];
    let set: Vec<_> = set.iter().flat_map(|set| ["--set", set]).collect();
    let objects = render(VERSIONS[1], KUBERNETES[1], &set);
    let of = |kind, name| one(&objects, kind, name).pod().unwrap().1;
    let control_plane = of("Deployment", "shop-ventus-control-plane");
    let agents = of("Deployment", "shop-ventus-agents-default");
    let test = of_kind(&objects, "Pod").next().unwrap().pod().unwrap().1;

    let hub = fleet::free_port();
    let database = fleet::database().await;
    let mut plan = Server::control_plane().database(&database);
    for (name, value) in environment(&objects, &control_plane) {
        plan = plan.env(&name, value);
    }
    let control_plane = plan.flag("hub-listen", format!("127.0.0.1:{hub}")).start().await;
    assert_eq!(control_plane.key(), None, "its key is the release's");

    let mut plan = Server::agent().flag("control-plane", format!("http://127.0.0.1:{hub}"));
    let token = plan.data().join("token");
    let secret = one(&objects, "Secret", "shop-ventus");
    fs::write(&token, STANDARD.decode(secret.text("/data/join-token")).unwrap()).unwrap();
    for (name, value) in environment(&objects, &agents) {
        plan = plan.env(&name, value);
    }
    let port = fleet::free_port();
    let agent = plan
        .listen(port)
        .flag("peer-url", format!("ws://127.0.0.1:{port}"))
        .flag("join-token-file", token.display())
        .start()
        .await;

    let mut user = User::nowhere();
    for (name, value) in environment(&objects, &test) {
        user = user.env(&name, &value);
    }
    let user = user
        .env("VENTUS_URL", &control_plane.api.base_url)
        .env("VENTUS_TRY_DATA_PLANE", &format!("ws://127.0.0.1:{port}"));
    let said = user.run(&["try"]).await;
    assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
    assert!(said.out.contains("screenshot") && said.out.contains("release"), "{}", said.out);
    let session = user.json(&["session", "list"]).await["items"][0].clone();
    assert_eq!((&session["region"], &session["status"]), (&"local".into(), &"COMPLETED".into()));

    agent.stop_process().await;
    control_plane.stop().await;
}
