//! What a release may do with the cluster's API: nothing, unless scale-down is to be told which
//! agents are idle.

use harness::helm::{
    KUBERNETES, Object, RELEASE, VERSIONS, of_kind, one, render, rendered_examples,
};
use serde_json::{Value, json};

const ON: [&str; 2] = ["--set", "controlPlane.podDeletionCost=true"];

fn with(more: &[&str]) -> Vec<Object> {
    render(VERSIONS[1], KUBERNETES[1], more)
}

/// What gives rights, or could.
fn grants(objects: &[Object]) -> Vec<String> {
    let kinds = ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];
    let found = objects.iter().filter(|object| kinds.contains(&object.kind()));
    found.map(Object::title).collect()
}

fn holds_token(objects: &[Object]) -> Vec<&str> {
    let token = |pod: &Object| {
        let volumes = pod.list("/volumes").iter();
        let own = volumes.filter(|volume| volume.to_string().contains("serviceAccountToken"));
        pod.at("/automountServiceAccountToken") != &json!(false) || own.count() > 0
    };
    let pods = objects.iter().filter_map(|object| Some((object.name(), object.pod()?.1)));
    pods.filter(|(_, pod)| token(pod)).map(|(name, _)| name).collect()
}

fn variable<'a>(objects: &'a [Object], deployment: &str, name: &str) -> Option<&'a Value> {
    let env = one(objects, "Deployment", deployment).list("/spec/template/spec/containers/0/env");
    env.iter().find(|variable| variable["name"] == name)
}

#[test]
fn a_release_has_no_rights_unless_it_is_said() {
    for off in [
        &[][..],
        &["--set", "agents.autoscaling.enabled=true"],
        // Where there is no control plane there is nobody to have them.
        &[
            &ON[..],
            &["--set", "controlPlane.enabled=false,hub.url=https://hub:8081"],
            &["--set", "secrets.existingSecret=join"],
        ]
        .concat(),
    ] {
        let objects = with(off);
        assert_eq!(grants(&objects), Vec::<String>::new(), "{off:?}");
        assert_eq!(holds_token(&objects), Vec::<&str>::new(), "{off:?}");
        assert_eq!(variable(&objects, "shop-ventus-agents-default", "VENTUS_POD"), None);
        assert_eq!(api_rules(&objects).len(), 0, "{off:?}");
    }
}

#[test]
fn the_control_plane_alone_may_patch_pods_and_do_nothing_else() {
    let objects = with(&ON);
    let name = "shop-ventus-control-plane";
    assert_eq!(grants(&objects), [format!("Role {name}"), format!("RoleBinding {name}")]);
    assert_eq!(holds_token(&objects), [name]);
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}]);
    assert_eq!(one(&objects, "Role", name).at("/rules"), &rules);
    let binding = one(&objects, "RoleBinding", name);
    assert_eq!(
        binding.at("/roleRef"),
        &json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name})
    );
    let account = json!({"kind": "ServiceAccount", "name": name, "namespace": RELEASE.1});
    assert_eq!(binding.at("/subjects"), &json!([account]));
    // An account of the operator's own has the same.
    let own = with(&[&ON[..], &["--set", "controlPlane.serviceAccount.name=mine"]].concat());
    assert_eq!(one(&own, "RoleBinding", name).text("/subjects/0/name"), "mine");
    // Whoever else comes with its account has no token by that.
    for account in of_kind(&objects, "ServiceAccount") {
        assert_eq!(account.at("/automountServiceAccountToken"), &json!(false));
    }
}

#[test]
fn agents_are_told_which_pod_they_are_and_the_control_plane_what_to_do() {
    let objects = with(&ON);
    let agents = "shop-ventus-agents-default";
    let pod = variable(&objects, agents, "VENTUS_POD").unwrap();
    assert_eq!(pod["value"], "$(POD_NAME)/$(POD_UID)");
    for (name, path) in [("POD_NAME", "metadata.name"), ("POD_UID", "metadata.uid")] {
        let field =
            &variable(&objects, agents, name).unwrap()["valueFrom"]["fieldRef"]["fieldPath"];
        assert_eq!(field, path);
    }
    // A variable is filled in with those before it.
    let env = one(&objects, "Deployment", agents).list("/spec/template/spec/containers/0/env");
    let place = |name: &str| env.iter().position(|variable| variable["name"] == name).unwrap();
    assert!(place("POD_NAME") < place("VENTUS_POD") && place("POD_UID") < place("VENTUS_POD"));
    let told = variable(&objects, "shop-ventus-control-plane", "VENTUS_POD_DELETION_COST");
    assert_eq!(told.unwrap()["value"], "true");
}

/// Rules of the control plane's policy that are for the cluster's API.
fn api_rules(objects: &[Object]) -> Vec<&Value> {
    let policies = of_kind(objects, "NetworkPolicy");
    let own = policies.filter(|policy| policy.name() == "shop-ventus-control-plane");
    let rules = own.flat_map(|policy| policy.list("/spec/egress"));
    rules.filter(|rule| rule["ports"].to_string().contains("443")).collect()
}

#[test]
fn the_way_to_the_clusters_api_is_open_where_it_is_taken() {
    let objects = with(&ON);
    let port = |port: u16| json!({"port": port, "protocol": "TCP"});
    assert_eq!(api_rules(&objects), [&json!({"ports": [port(443), port(6443)]})]);
    let (_, production) =
        rendered_examples().into_iter().find(|(name, _)| name == "production").unwrap();
    let expected = json!({"ports": [port(443)], "to": [{"ipBlock": {"cidr": "10.20.1.0/28"}}]});
    assert!(api_rules(&production).contains(&&expected), "{:?}", api_rules(&production));
}
