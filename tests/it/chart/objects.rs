//! What the objects say of each other is true: selectors select, ports are there, names resolve.

use std::collections::BTreeSet;

use harness::helm::{Object, chart, of_kind, one, rendered_examples, selects, yaml};
use serde_json::{Value, json};

/// Labels and spec of all pods.
fn pods(objects: &[Object]) -> Vec<(&Value, Object)> {
    objects.iter().filter_map(Object::pod).collect()
}

/// The pods that a selector selects. They are all of one component.
fn selected(objects: &[Object], what: &str, selector: &Value) -> Vec<Object> {
    let pods = pods(objects).into_iter().filter(|(labels, _)| selects(selector, labels));
    let (labels, pods): (Vec<_>, Vec<_>) = pods.unzip();
    assert!(!pods.is_empty(), "{what} selects no pod: {selector}");
    let component = |labels: &Value| labels["app.kubernetes.io/component"].clone();
    let components: BTreeSet<_> = labels.iter().map(|l| component(l).to_string()).collect();
    assert_eq!(components.len(), 1, "{what} selects {components:?}");
    pods
}

/// Names and numbers of a pod's ports.
fn ports(pod: &Object) -> Vec<(&str, u64)> {
    let ports = pod.list("/containers").iter().flat_map(|container| container["ports"].as_array());
    let port = |port: &'_ Value| port["containerPort"].as_u64().unwrap();
    ports.flatten().map(|p| (p["name"].as_str().unwrap(), port(p))).collect()
}

fn has_port(pod: &Object, wanted: &Value) -> bool {
    ports(pod).iter().any(|(name, number)| wanted == name || wanted == number)
}

#[test]
fn selectors_select_the_pods_that_they_are_for() {
    for (example, objects) in rendered_examples() {
        let what = |object: &Object| format!("{example}: {}", object.title());
        for object in &objects {
            let place = match object.kind() {
                "Deployment" | "StatefulSet" | "PodDisruptionBudget" => {
                    "/spec/selector/matchLabels"
                }
                "Service" => "/spec/selector",
                "NetworkPolicy" => "/spec/podSelector/matchLabels",
                _ => continue,
            };
            let found = selected(&objects, &what(object), object.at(place));
            if let Some((_, own)) = object.pod() {
                assert_eq!(found, [own], "{} selects another's pods", what(object));
            }
        }
        for monitor in of_kind(&objects, "ServiceMonitor") {
            let selector = monitor.at("/spec/selector/matchLabels");
            let services: Vec<_> = of_kind(&objects, "Service")
                .filter(|service| selects(selector, service.at("/metadata/labels")))
                .collect();
            assert_eq!(services.len(), 1, "{}", what(monitor));
            let port = monitor.text("/spec/endpoints/0/port");
            assert!(services[0].list("/spec/ports").iter().any(|p| p["name"] == port));
        }
        for object in &objects {
            for constraint in
                object.pod().iter().flat_map(|(_, pod)| pod.list("/topologySpreadConstraints"))
            {
                selected(&objects, &what(object), &constraint["labelSelector"]["matchLabels"]);
            }
        }
    }
}

#[test]
fn services_lead_to_ports_that_pods_have() {
    for (example, objects) in rendered_examples() {
        for service in of_kind(&objects, "Service") {
            for pod in selected(&objects, &example, service.at("/spec/selector")) {
                for port in service.list("/spec/ports") {
                    let there = has_port(&pod, &port["targetPort"]);
                    assert!(there, "{example}: {} has no {port}", service.title());
                }
            }
        }
        for (_, pod) in pods(&objects) {
            for container in pod.list("/containers") {
                for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
                    let port = &container[probe]["httpGet"]["port"];
                    assert!(port.is_null() || has_port(&pod, port), "{example}: {probe} of {port}");
                }
            }
        }
    }
}

#[test]
fn probes_ask_what_they_are_for() {
    for (_, objects) in rendered_examples() {
        for object in of_kind(&objects, "Deployment") {
            let container = "/spec/template/spec/containers/0";
            for (probe, path) in
                [("liveness", "/livez"), ("readiness", "/readyz"), ("startup", "/startupz")]
            {
                let place = format!("{container}/{probe}Probe/httpGet");
                assert_eq!(object.at(&place), &json!({"path": path, "port": "admin"}));
            }
        }
    }
}

#[test]
fn what_leads_outside_leads_to_services() {
    let mut seen = BTreeSet::new();
    for (example, objects) in rendered_examples() {
        for object in &objects {
            let (name, port) = match object.kind() {
                "Ingress" => {
                    let backend = "/spec/rules/0/http/paths/0/backend/service";
                    (format!("{backend}/name"), object.at(&format!("{backend}/port/name")))
                }
                "HTTPRoute" => {
                    let backend = "/spec/rules/0/backendRefs/0";
                    (format!("{backend}/name"), object.at(&format!("{backend}/port")))
                }
                _ => continue,
            };
            seen.insert(object.kind().to_owned());
            let service = one(&objects, "Service", object.text(&name));
            let ports = service.list("/spec/ports");
            let has = ports.iter().any(|p| &p["name"] == port || &p["port"] == port);
            assert!(has, "{example}: {} leads to no port of {}", object.title(), service.title());
        }
    }
    assert_eq!(seen.len(), 2, "no example has {seen:?}");
}

#[test]
fn an_ingress_lets_connections_last_and_buffers_nothing() {
    for (example, objects) in rendered_examples() {
        for ingress in of_kind(&objects, "Ingress") {
            let annotation = |name: &str| &ingress.at("/metadata/annotations")[name];
            let expected: &[(&str, &str)] = match ingress.text("/spec/ingressClassName") {
                "nginx" => &[
                    ("nginx.ingress.kubernetes.io/proxy-read-timeout", "86400"),
                    ("nginx.ingress.kubernetes.io/proxy-send-timeout", "86400"),
                    ("nginx.ingress.kubernetes.io/proxy-buffering", "off"),
                    ("nginx.ingress.kubernetes.io/proxy-request-buffering", "off"),
                ],
                "alb" => &[(
                    "alb.ingress.kubernetes.io/load-balancer-attributes",
                    "idle_timeout.timeout_seconds=4000",
                )],
                "traefik" => &[("traefik.ingress.kubernetes.io/router.entrypoints", "websecure")],
                other => panic!("{example}: {other}"),
            };
            for (name, value) in expected {
                assert_eq!(annotation(name), value, "{example}: {}", ingress.title());
            }
        }
        for route in of_kind(&objects, "HTTPRoute") {
            let timeouts = json!({"request": "0s", "backendRequest": "0s"});
            assert_eq!(route.at("/spec/rules/0/timeouts"), &timeouts);
        }
    }
}

#[test]
fn what_scales_is_there_and_counts_no_replicas_of_its_own() {
    let mut seen = 0;
    for (example, objects) in rendered_examples() {
        for object in &objects {
            if !["HorizontalPodAutoscaler", "ScaledObject"].contains(&object.kind()) {
                continue;
            }
            seen += 1;
            let target = one(&objects, "Deployment", object.text("/spec/scaleTargetRef/name"));
            assert!(target.at("/spec/replicas").is_null(), "{example}: {}", target.title());
        }
    }
    assert!(seen >= 3, "examples scale only {seen}");
}

#[test]
fn a_pod_is_given_the_time_that_its_drain_takes() {
    for (example, objects) in rendered_examples() {
        for object in of_kind(&objects, "Deployment") {
            let (_, pod) = object.pod().unwrap();
            let env = pod.list("/containers/0/env");
            let Some(drain) = env.iter().find(|v| v["name"] == "VENTUS_DRAIN_SECONDS") else {
                continue;
            };
            let drain: u64 = drain["value"].as_str().unwrap().parse().unwrap();
            let grace = pod.at("/terminationGracePeriodSeconds").as_u64().unwrap();
            assert!(grace > drain + 6, "{example}: {grace} s for a drain of {drain} s");
            let update = object.at("/spec/strategy/rollingUpdate");
            assert_eq!(update["maxUnavailable"], 0, "{example}: {}", object.title());
        }
    }
}

/// Names of Secrets and the keys that are wanted of them; an optional one may be missing.
fn wanted_of_secrets(pod: &Object) -> Vec<(String, Option<String>)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let containers = pod.list("/containers").iter();
    let variables = containers.flat_map(|c| c["env"].as_array()).flatten();
    let references = variables.map(|variable| &variable["valueFrom"]["secretKeyRef"]);
    let of_variables = references
        .filter(|reference| reference.is_object() && reference["optional"] != true)
        .map(|reference| (text(&reference["name"]).unwrap(), text(&reference["key"])));
    let volumes = pod.list("/volumes").iter().map(|volume| &volume["secret"]);
    let of_volumes = volumes
        .filter(|secret| secret.is_object())
        .map(|secret| (text(&secret["secretName"]).unwrap(), text(&secret["items"][0]["key"])));
    let pulls = pod.list("/imagePullSecrets").iter().map(|s| (text(&s["name"]).unwrap(), None));
    of_variables.chain(of_volumes).chain(pulls).collect()
}

/// All texts in a values file: what it names is the operator's to make.
fn texts(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => drop(into.insert(text.clone())),
        Value::Array(values) => values.iter().for_each(|value| texts(value, into)),
        Value::Object(values) => values.values().for_each(|value| texts(value, into)),
        _ => {}
    }
}

#[test]
fn every_name_is_of_the_release_or_of_the_values() {
    for (example, objects) in rendered_examples() {
        let mut external = BTreeSet::new();
        texts(&yaml(&chart().join(format!("examples/{example}.yaml"))), &mut external);
        for (_, pod) in pods(&objects) {
            for (secret, key) in wanted_of_secrets(&pod) {
                let found = of_kind(&objects, "Secret").find(|object| object.name() == secret);
                match (found, key) {
                    (Some(found), Some(key)) => {
                        assert!(!found.at("/data")[&key].is_null(), "{example}: {secret} {key}");
                    }
                    (found, _) => {
                        assert!(
                            found.is_some() || external.contains(&secret),
                            "{example}: {secret}"
                        );
                    }
                }
            }
            let account = pod.text("/serviceAccountName");
            let accounts: Vec<_> = of_kind(&objects, "ServiceAccount").map(Object::name).collect();
            let known = account.is_empty() || accounts.contains(&account);
            assert!(known || external.contains(account), "{example}: {account}");
            for volume in pod.list("/volumes") {
                assert!(volume["configMap"].is_null(), "{example}: is it there? {volume}");
            }
            mounts_are_volumes(&example, &pod);
        }
        for ingress in of_kind(&objects, "Ingress") {
            let issued =
                !ingress.at("/metadata/annotations")["cert-manager.io/cluster-issuer"].is_null();
            let secret = ingress.text("/spec/tls/0/secretName");
            let known = secret.is_empty() || issued || external.contains(secret);
            assert!(known, "{example}: who makes {secret}?");
        }
    }
}

fn mounts_are_volumes(example: &str, pod: &Object) {
    let volumes: BTreeSet<_> = pod.list("/volumes").iter().map(|v| v["name"].as_str()).collect();
    let mounts = pod.list("/containers").iter().flat_map(|c| c["volumeMounts"].as_array());
    let mounted: BTreeSet<_> = mounts.flatten().map(|mount| mount["name"].as_str()).collect();
    // A claim of a StatefulSet is a volume, too.
    let missing = mounted.difference(&volumes).copied().flatten().collect::<Vec<_>>();
    assert!(missing.is_empty() || missing == ["data"], "{example}: {missing:?}");
    assert_eq!(volumes.difference(&mounted).count(), 0, "{example}: not mounted");
}

#[test]
fn no_two_objects_have_one_name() {
    for (example, objects) in rendered_examples() {
        let titles: BTreeSet<_> = objects.iter().map(Object::title).collect();
        assert_eq!(titles.len(), objects.len(), "{example}");
    }
}
