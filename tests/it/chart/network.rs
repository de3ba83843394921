//! Who may talk to whom: agents are reached by their data plane alone, and browsers reach no
//! private address.

use std::net::IpAddr;

use harness::helm::{
    KUBERNETES, Object, VERSIONS, of_kind, one, render, rendered_examples, selects,
};
use ipnet::IpNet;
use serde_json::{Value, json};

/// Whether a policy's peer covers an address.
fn covers(peer: &Value, address: IpAddr) -> bool {
    let block = &peer["ipBlock"];
    let within = |cidr: &Value| cidr.as_str().unwrap().parse::<IpNet>().unwrap().contains(&address);
    let except = block["except"].as_array().into_iter().flatten();
    block.is_object() && within(&block["cidr"]) && !except.into_iter().any(within)
}

/// The rules of a direction that name no peer at all, or one that covers this address.
fn open_to<'a>(
    policy: &'a Object,
    direction: &str,
    side: &str,
    address: IpAddr,
) -> impl Iterator<Item = &'a Value> {
    let rules = policy.list(&format!("/spec/{direction}")).iter();
    let side = side.to_owned();
    rules.filter(move |rule| match rule[&side].as_array() {
        None => true,
        Some(peers) => peers.iter().any(|peer| covers(peer, address)),
    })
}

fn policies(objects: &[Object]) -> impl Iterator<Item = &Object> {
    of_kind(objects, "NetworkPolicy")
}

fn is_of_agents(policy: &Object) -> bool {
    policy.at("/spec/podSelector/matchLabels")["app.kubernetes.io/component"] == "agent"
}

#[test]
fn every_pod_of_a_release_has_a_policy_for_both_ways() {
    for (example, objects) in rendered_examples() {
        for object in &objects {
            let Some((labels, _)) = object.pod() else { continue };
            if object.kind() == "Pod" {
                continue; // the test's own
            }
            let of = policies(&objects)
                .filter(|policy| selects(policy.at("/spec/podSelector/matchLabels"), labels));
            let of: Vec<_> = of.collect();
            assert_eq!(of.len(), 1, "{example}: {}", object.title());
            assert_eq!(of[0].at("/spec/policyTypes"), &json!(["Ingress", "Egress"]));
        }
    }
}

#[test]
fn browsers_reach_public_addresses_and_no_others() {
    let forbidden = [
        "169.254.169.254", // the clouds' metadata
        "fd00:ec2::254",
        "100.100.100.200",
        "127.0.0.1",
        "::1",
        "10.0.0.1",
        "10.96.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "fe80::1",
        "64:ff9b::a00:1",
    ];
    let mut seen = 0;
    for (example, objects) in rendered_examples() {
        for policy in policies(&objects).filter(|policy| is_of_agents(policy)) {
            seen += 1;
            // The way to a hub elsewhere is open by its port only.
            let hub = |rule: &&Value| {
                rule["to"].is_null() && rule["ports"].as_array().unwrap().len() == 1
            };
            for address in forbidden {
                let open = open_to(policy, "egress", "to", address.parse().unwrap());
                let open: Vec<_> = open.filter(|rule| !hub(rule)).collect();
                assert!(open.is_empty(), "{example}: {} to {address}: {open:?}", policy.title());
            }
            for address in ["93.184.215.14", "2606:2800:21f::1", "172.32.0.1", "192.169.0.1"] {
                let open = open_to(policy, "egress", "to", address.parse().unwrap());
                assert!(open.count() >= 1, "{example}: {} to {address}", policy.title());
            }
        }
    }
    assert!(seen > 5);
}

#[test]
fn a_rule_of_a_pool_opens_what_it_says_for_that_pool() {
    let objects = rendered_examples().into_iter().find(|(name, _)| name == "regions").unwrap().1;
    let open = |pool: &str| {
        let policy = one(&objects, "NetworkPolicy", &format!("shop-ventus-agents-{pool}"));
        open_to(policy, "egress", "to", "10.50.3.4".parse().unwrap()).count()
    };
    assert_eq!((open("eu-large"), open("eu-small")), (1, 0));
}

#[test]
fn an_agent_is_reached_by_its_data_plane_and_by_monitoring_alone() {
    for (example, objects) in rendered_examples() {
        for policy in policies(&objects).filter(|policy| is_of_agents(policy)) {
            for rule in policy.list("/spec/ingress") {
                let ports = rule["ports"].as_array().unwrap();
                let ports: Vec<_> =
                    ports.iter().map(|port| port["port"].as_str().unwrap()).collect();
                match ports[..] {
                    ["http"] => {}
                    ["admin"] => assert!(!rule["from"].as_array().unwrap().is_empty(), "{example}"),
                    _ => panic!("{example}: {} lets in {ports:?}", policy.title()),
                }
            }
        }
    }
}

#[test]
fn the_hub_and_the_database_are_for_those_who_need_them() {
    let objects = render(VERSIONS[1], KUBERNETES[1], &[]);
    let rule = |policy: &str, direction: &str, port: &str| {
        let policy = one(&objects, "NetworkPolicy", policy);
        let rules = policy.list(&format!("/spec/{direction}"));
        let named =
            |rule: &&Value| rule["ports"].as_array().unwrap().iter().any(|p| p["port"] == port);
        rules.iter().find(named).unwrap_or_else(|| panic!("no {port} in {rules:?}")).clone()
    };
    let component = |peer: &Value| {
        assert!(peer["namespaceSelector"].is_null(), "of this namespace: {peer}");
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"].clone()
    };
    for (policy, direction, side, port, whom) in [
        ("shop-ventus-control-plane", "ingress", "from", "hub", "agent"),
        ("shop-ventus-control-plane", "egress", "to", "postgresql", "postgresql"),
        ("shop-ventus-postgresql", "ingress", "from", "postgresql", "control-plane"),
        ("shop-ventus-agents-default", "egress", "to", "hub", "control-plane"),
        ("shop-ventus-agents-default", "egress", "to", "http", "agent"),
    ] {
        let rule = rule(policy, direction, port);
        let peers = rule[side].as_array().unwrap();
        assert_eq!(peers.iter().map(component).collect::<Vec<_>>(), [whom], "{policy} {port}");
    }
    let postgresql = one(&objects, "NetworkPolicy", "shop-ventus-postgresql");
    assert!(postgresql.list("/spec/egress").is_empty(), "the database calls nobody");
}

#[test]
fn helm_test_gets_through_where_callers_are_named() {
    let objects = rendered_examples().into_iter().find(|(name, _)| name == "production").unwrap().1;
    let (labels, _) = of_kind(&objects, "Pod").next().unwrap().pod().unwrap();
    for policy in policies(&objects) {
        let rules = policy.list("/spec/ingress").iter();
        for rule in rules.filter(|rule| rule["ports"][0]["port"] == "http") {
            let peers = rule["from"].as_array().unwrap();
            let lets_in = |peer: &Value| {
                let selector = &peer["podSelector"]["matchLabels"];
                selector.is_object() && selects(selector, labels)
            };
            assert!(peers.iter().any(lets_in), "{}", policy.title());
        }
    }
}
