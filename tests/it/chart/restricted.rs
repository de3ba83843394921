//! Every pod meets the restricted profile of the Pod Security Standards, and a little more.

use harness::helm::{Object, rendered_examples};
use serde_json::{Value, json};

/// Kinds of volumes that the profile allows.
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// What of a pod's `spec` the profile forbids.
fn faults(pod: &Object) -> Vec<String> {
    let mut faults = Vec::new();
    let mut deny = |is: bool, what: &str| is.then(|| faults.push(what.to_owned()));
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        deny(pod.at(&format!("/{host}")) == &json!(true), host);
    }
    for volume in pod.list("/volumes") {
        let kinds = volume.as_object().unwrap().keys().filter(|key| *key != "name");
        let known = kinds.filter(|kind| VOLUMES.contains(&kind.as_str())).count();
        deny(known != 1, "a volume of another kind");
    }
    let both = ["/containers", "/initContainers"].map(|place| pod.list(place));
    deny(both[0].is_empty(), "no container");
    for container in both.concat() {
        let own = container["securityContext"].clone();
        // The container's word goes before the pod's.
        let said = |name: &str| match &own[name] {
            Value::Null => pod.at(&format!("/securityContext/{name}")).clone(),
            own => own.clone(),
        };
        deny(said("runAsNonRoot") != json!(true), "may run as root");
        deny(said("runAsUser") == json!(0), "runs as root");
        let seccomp = said("seccompProfile")["type"].clone();
        deny(!["RuntimeDefault", "Localhost"].map(Value::from).contains(&seccomp), "seccomp");
        deny(own["allowPrivilegeEscalation"] != json!(false), "privilege escalation");
        deny(own["privileged"] == json!(true), "privileged");
        deny(own["capabilities"]["drop"] != json!(["ALL"]), "keeps capabilities");
        deny(!own["capabilities"]["add"].is_null(), "adds capabilities");
        let ports = container["ports"].as_array().into_iter().flatten();
        deny(ports.filter(|port| !port["hostPort"].is_null()).count() > 0, "a port of the node");
        // More than the profile.
        deny(own["readOnlyRootFilesystem"] != json!(true), "may write its root");
        deny(container["resources"]["limits"]["memory"].is_null(), "memory without limit");
        deny(container["resources"]["requests"].is_null(), "requests nothing");
    }
    deny(
        pod.at("/automountServiceAccountToken") != &json!(uses_token(pod)),
        "a token of the cluster",
    );
    deny(pod.at("/enableServiceLinks") != &json!(false), "variables of the cluster");
    faults
}

/// Whether it is there to talk to the cluster's API.
fn uses_token(pod: &Object) -> bool {
    let env = pod.list("/containers/0/env");
    env.iter().any(|variable| variable["name"] == "VENTUS_POD_DELETION_COST")
}

#[test]
fn every_pod_meets_the_restricted_profile() {
    for (example, objects) in rendered_examples() {
        let mut seen = 0;
        for object in &objects {
            let Some((_, pod)) = object.pod() else { continue };
            seen += 1;
            assert_eq!(faults(&pod), Vec::<String>::new(), "{example}: {}", object.title());
        }
        assert!(seen >= 1, "{example} has no pods");
    }
}

#[test]
fn a_pod_that_does_not_meet_it_is_found_out() {
    let (_, objects) = rendered_examples().swap_remove(0);
    let (_, pod) = objects.iter().find_map(Object::pod).unwrap();
    let container = "/containers/0/securityContext";
    for (place, name, value, fault) in [
        ("", "hostNetwork", json!(true), "hostNetwork"),
        ("/volumes/0", "hostPath", json!({"path": "/"}), "a volume of another kind"),
        ("/securityContext", "runAsNonRoot", json!(false), "may run as root"),
        (container, "runAsUser", json!(0), "runs as root"),
        (container, "seccompProfile", json!({"type": "Unconfined"}), "seccomp"),
        (container, "allowPrivilegeEscalation", json!(true), "privilege escalation"),
        (container, "capabilities", json!({"drop": ["NET_RAW"]}), "keeps capabilities"),
        (container, "readOnlyRootFilesystem", json!(false), "may write its root"),
        ("", "enableServiceLinks", json!(true), "variables of the cluster"),
        ("", "automountServiceAccountToken", json!(true), "a token of the cluster"),
    ] {
        let mut worse = pod.clone();
        let within = worse.0.pointer_mut(place).unwrap().as_object_mut().unwrap();
        if name == "hostPath" {
            within.retain(|key, _| key == "name");
        }
        within.insert(name.to_owned(), value);
        assert_eq!(faults(&worse), [fault], "{name}");
    }
}
