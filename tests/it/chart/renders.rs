//! Both Helms render every example, alike, and to what Kubernetes takes; bad values are refused.

use std::{collections::BTreeSet, fs};

use harness::{
    clients,
    helm::{
        KUBERNETES, Object, RELEASE, VERSIONS, chart, examples, helm, of_kind, one, render,
        template, yaml,
    },
};
use serde_json::{Value, json};

/// What no schema of Kubernetes itself describes.
const CUSTOM: [&str; 4] = ["HTTPRoute", "PrometheusRule", "ScaledObject", "ServiceMonitor"];

#[test]
fn the_chart_has_no_faults_for_the_linters() {
    let chart = chart();
    for version in VERSIONS {
        for example in examples() {
            let example = example.to_str().unwrap();
            let lint = ["lint", "--strict", chart.to_str().unwrap(), "--values", example];
            let output = helm(version, &lint);
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "Helm {version}, {example}:\n{said}");
        }
    }
}

#[test]
fn both_helms_render_the_same() {
    for example in examples() {
        let values = ["--values", example.to_str().unwrap()];
        let [old, new] = VERSIONS.map(|version| {
            let mut objects = render(version, KUBERNETES[1], &values);
            // Drawn anew each time.
            objects
                .iter_mut()
                .filter(|o| o.kind() == "Secret")
                .for_each(|o| drop(o.0["data"].take()));
            objects.sort_by_key(Object::title);
            objects
        });
        assert!(old.len() > 5, "{example:?} renders little");
        assert_eq!(old, new, "{example:?}");
    }
}

#[tokio::test]
async fn every_example_is_what_the_oldest_and_the_newest_kubernetes_take() {
    let folder = tempfile::tempdir().unwrap();
    for kubernetes in KUBERNETES {
        for example in examples() {
            let values = ["--values", example.to_str().unwrap()];
            let text = template(VERSIONS[1], kubernetes, &values).unwrap();
            let objects = harness::helm::objects(&text);
            let custom = objects.iter().filter(|object| CUSTOM.contains(&object.kind())).count();
            let file = folder.path().join("rendered.yaml");
            fs::write(&file, text).unwrap();
            let arguments = ["--strict", "-k", kubernetes, file.to_str().unwrap()];
            let said = clients::tool("kubernetes-validate", &arguments, &[]).await;
            let begins = |word| said.lines().filter(|line| line.starts_with(word)).count();
            assert_eq!(begins("INFO "), objects.len() - custom, "{said}");
            assert_eq!(begins("WARN "), custom, "{said}");
        }
    }
}

#[test]
fn every_level_of_the_schema_is_closed() {
    fn walk(place: &str, schema: &Value, seen: &mut usize) {
        if schema["properties"].is_object() {
            *seen += 1;
            assert_eq!(schema["additionalProperties"], json!(false), "{place}");
        }
        if schema["type"] == "object" && place != "/properties/global" {
            assert!(!schema["additionalProperties"].is_null(), "{place} takes anything");
        }
        for (name, inner) in schema.as_object().into_iter().flatten() {
            walk(&format!("{place}/{name}"), inner, seen);
        }
    }
    let mut seen = 0;
    walk("", &schema(), &mut seen);
    assert!(seen > 30, "only {seen} levels were seen");
}

#[test]
fn every_value_is_in_the_schema_and_every_one_of_the_schema_has_its_default() {
    fn walk<'a>(root: &'a Value, place: &str, schema: &'a Value, value: &Value) {
        let schema = match schema["$ref"].as_str() {
            Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
            None => schema,
        };
        let Some(properties) = schema["properties"].as_object() else { return };
        // What is left out is the agent's to decide.
        if place.ends_with("/sessionLimits") {
            return;
        }
        let names = |object: &Value| -> BTreeSet<String> {
            object.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
        };
        let mut known: BTreeSet<_> = properties.keys().cloned().collect();
        known.remove("global"); // of the charts above this one
        assert!(known.is_superset(&names(value)), "{place} has more than the schema");
        assert!(known.is_subset(&names(value)), "values.yaml lacks some of {place}: {known:?}");
        for (name, inner) in properties {
            walk(root, &format!("{place}/{name}"), inner, &value[name]);
        }
    }
    let schema = schema();
    let values = yaml(&chart().join("values.yaml"));
    walk(&schema, "", &schema, &values);
}

fn schema() -> Value {
    serde_json::from_slice(&fs::read(chart().join("values.schema.json")).unwrap()).unwrap()
}

/// What is set, and what the refusal names.
const BAD: &[(&[&str], &str)] = &[
    // unknown at any level
    (&["replicas=3"], "replicas"),
    (&["controlPlane.replica=3"], "replica"),
    (&["agents.sessionLimits.memory=3"], "memory"),
    (&["agents.autoscaling.scaleDown.policy=x"], "policy"),
    (&["networkPolicy.except.ipv5={}"], "ipv5"),
    (&["pools[0].name=a", "pools[0].region=eu", "pools[0].capacty=3"], "capacty"),
    (&["regions[0].name=local", "regions[0].tls=true"], "tls"),
    // of the wrong kind or out of bounds
    (&["controlPlane.replicas=-1"], "replicas"),
    (&["controlPlane.publicUrl=browsers.example.com"], "publicUrl"),
    (&["controlPlane.publicUrl=https://browsers.example.com/api"], "publicUrl"),
    (&["controlPlane.objectStore=https://bucket"], "objectStore"),
    (&["agents.drainSeconds=90000"], "drainSeconds"),
    (&["agents.isolation=strict"], "isolation"),
    (&["agents.egress.allow={a b}"], "allow"),
    (&["agents.resources.limits.memory=much"], "memory"),
    (&["agents.autoscaling.targetUsedPercent=0"], "targetUsedPercent"),
    (&["agents.seccomp.localhostProfile=/etc/seccomp.json"], "localhostProfile"),
    (&["image.pullPolicy=Sometimes"], "pullPolicy"),
    (&["agents.image.digest=sha256:abc"], "digest"),
    (&["log.format=xml"], "format"),
    (&["ingress.controller=haproxy"], "controller"),
    (&["hub.service.type=NodePort"], "type"),
    (&["networkPolicy.databasePort=0"], "databasePort"),
    (&["networkPolicy.apiServerPorts={0}"], "apiServerPorts"),
    (&["networkPolicy.apiServerPorts={}"], "apiServerPorts"),
    (&["controlPlane.podDeletionCost=auto"], "podDeletionCost"),
    (&["regions[0].name=local", "regions[0].url=https://eu.example.com"], "url"),
    (&["pools[0].name=A", "pools[0].region=eu"], "name"),
    (&["pools[0].name=a"], "region"),
    (&["pools=null"], "pools"),
    // what fits the schema and not together
    (
        &["pools[0].name=a", "pools[0].region=eu", "pools[1].name=a", "pools[1].region=us"],
        "two pools named a",
    ),
    (&["agents.capacity=2", "agents.warm=3"], "more warm browsers than its capacity"),
    (&["regions[0].name=mars"], "no pool serves mars"),
    (&["agents.autoscaling.enabled=true", "agents.autoscaling.minReplicas=20"], "minReplicas"),
    (&["agents.autoscaling.enabled=true", "agents.autoscaling.kind=keda"], "prometheusUrl"),
    (&["controlPlane.enabled=false"], "hub.url"),
    (&["controlPlane.enabled=false", "hub.url=https://hub:8081"], "secrets.existingSecret"),
    (&["hub.url=https://hub:8081"], "only for controlPlane.enabled: false"),
    (&["ingress.enabled=true"], "ingress.host"),
    (&["gateway.enabled=true", "gateway.host=a.example.com"], "parentRefs"),
    (&["ingress.enabled=true", "ingress.host=a.b", "gateway.enabled=true"], "enable one of them"),
    (&["controlPlane.mail.smtpUrl=smtp://mail:25"], "mail.from"),
];

#[test]
fn bad_values_are_refused_by_name() {
    for version in VERSIONS {
        for (set, named) in BAD {
            let arguments: Vec<_> = set.iter().flat_map(|set| ["--set", set]).collect();
            let Err(said) = template(version, KUBERNETES[1], &arguments) else {
                panic!("Helm {version} takes {set:?}");
            };
            assert!(said.contains(named), "Helm {version}, {set:?} should name {named}:\n{said}");
        }
    }
}

#[test]
fn the_notes_tell_the_next_step_and_what_is_for_trials_only() {
    let notes = |example: &str| {
        let chart = chart();
        let values = chart.join(format!("examples/{example}.yaml"));
        let [chart, values] = [&chart, &values].map(|path| path.to_str().unwrap());
        let install = ["install", RELEASE.0, chart, "--namespace", RELEASE.1];
        let how = ["--dry-run=client", "--values", values];
        // The older Helm asks a cluster even for this.
        let output = helm(VERSIONS[1], &[&install[..], &how].concat());
        let said = String::from_utf8(output.stdout).unwrap();
        said.split_once("NOTES:").unwrap_or_else(|| panic!("{example}: no notes")).1.to_owned()
    };
    for (example, told, not_told) in [
        ("trial", "helm test shop --namespace browsers", "https://"),
        ("trial", "the bundled PostgreSQL is for trials", "wss://"),
        ("trial", "without their own sandbox", "https://"),
        ("production", "eu  wss://eu.browsers.example.com", "WARNING"),
        ("production", "https://browsers.example.com/v1/sessions", "port-forward"),
        ("production", "The control plane may patch pods in browsers", "helm upgrade"),
        ("trial", "Regions, and where", "may patch"),
        ("agents", "ventus agents list", "helm test"),
    ] {
        let notes = notes(example);
        assert!(notes.contains(told), "{example} should tell {told}:\n{notes}");
        assert!(!notes.contains(not_told), "{example} should not tell {not_told}:\n{notes}");
    }
}

#[test]
fn nothing_needs_to_be_set() {
    let objects = render(VERSIONS[0], KUBERNETES[0], &[]);
    let replicas = |name: &str| one(&objects, "Deployment", name).at("/spec/replicas").clone();
    assert_eq!(replicas("shop-ventus-control-plane"), json!(2));
    assert_eq!(replicas("shop-ventus-agents-default"), json!(1));
    assert_eq!(of_kind(&objects, "StatefulSet").count(), 1, "the bundled PostgreSQL");
    assert_eq!(RELEASE, ("shop", "browsers"));
}

#[test]
fn a_pool_has_from_the_common_settings_what_it_does_not_say() {
    let path = chart().join("examples/regions.yaml");
    let values = ["--values", path.to_str().unwrap(), "--set", "agents.warm=2"];
    let objects = render(VERSIONS[1], KUBERNETES[1], &values);
    let variable = |pool: &str, name: &str| {
        let agents = one(&objects, "Deployment", &format!("shop-ventus-agents-{pool}"));
        let env = agents.list("/spec/template/spec/containers/0/env");
        env.iter().find(|v| v["name"] == name).map(|v| v["value"].as_str().unwrap().to_owned())
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(variable("eu-small", "VENTUS_WARM"), text("2"));
    assert_eq!(variable("us-spot", "VENTUS_WARM"), text("0"));
    assert_eq!(variable("eu-large", "VENTUS_CAPACITY"), text("2"));
    assert_eq!(variable("eu-large", "VENTUS_EGRESS_ALLOW"), text("10.50.0.0/16:443"));
    assert_eq!(variable("eu-small", "VENTUS_EGRESS_ALLOW"), None);
    assert_eq!(variable("eu-large", "VENTUS_SESSION_CPU_PERCENT"), text("0"), "no bound");
    assert_eq!(variable("eu-large", "VENTUS_SESSION_PROCESSES"), None, "the agent's default");
    for pool in ["eu-small", "eu-large"] {
        assert_eq!(variable(pool, "VENTUS_ADVERTISE"), text("wss://eu.browsers.example.com"));
    }
}
