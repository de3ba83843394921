//! In a cluster of Kubernetes, scale-down learns which agents are idle.

use std::time::Duration;

use harness::{
    Server, User,
    cluster::{Cost, StandInCluster},
    eventually,
    fleet::{agent, control_plane, database, free_port},
};
use http::StatusCode;
use serde_json::json;

/// How long a change may take to be written: a pod is written to every 15 seconds at most.
const SOON: Duration = Duration::from_secs(25);

/// What the log says of a cluster that cannot be reached, and of one that refuses.
const AWAY: &str = "the API of Kubernetes cannot be reached";
const FORBIDDEN: &str = "in namespace browsers it needs a Role with the verb patch on pods";

/// Waits until this is the last that was written.
async fn written(cluster: &StandInCluster, pod: &str, value: &str) -> Cost {
    eventually(&format!("{pod} costs {value}"), SOON, || async {
        cluster
            .costs()
            .pop()
            .filter(|last| (last.pod.as_str(), last.value.as_str()) == (pod, value))
    })
    .await
}

/// How often the log says this.
fn said(control: &Server, text: &str) -> usize {
    control.log().matches(text).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_costs_as_much_to_delete_as_its_agent_has_sessions() {
    let mut cluster = StandInCluster::new().await;
    cluster.listen().await;
    let (database, hub) = (database().await, free_port());
    let control = cluster.of(control_plane(&database, hub)).start().await;
    let busy = agent(hub).env("VENTUS_POD", cluster.pod("busy")).start().await;
    written(&cluster, "busy", "0").await;

    let session = control.api.create(json!({})).await;
    written(&cluster, "busy", "1").await;
    // One that is not of this namespace, and one that names another's pod: it does not know its
    // uid. Neither is written, and nothing is the worse for it.
    let refused = cluster.refused();
    let stranger = "elsewhere/0b0e4a0e-6b5c-4f6e-9b5e-0a4d5f3a2c1b";
    let liar = stranger.replace("elsewhere", "busy");
    let others = [stranger, &liar].map(|pod| agent(hub).env("VENTUS_POD", pod));
    let [stranger, liar] = others;
    let (stranger, liar) = (stranger.start().await, liar.start().await);
    eventually("both are refused", SOON, || async {
        (cluster.refused() == refused + 2).then_some(())
    })
    .await;

    let token = cluster.rotate_token();
    control.api.release(session.id()).await;
    let last = written(&cluster, "busy", "0").await;
    assert_eq!(last.token, token, "it is read anew");
    let costs: Vec<_> = cluster.costs().into_iter().map(|cost| (cost.pod, cost.value)).collect();
    let expected = ["0", "1", "0"].map(|value| ("busy".to_owned(), value.to_owned()));
    assert_eq!(costs, expected, "only what changes is written");
    assert!(cluster.shortest_pause() > Some(Duration::from_millis(14_500)), "and not often");
    assert_eq!(cluster.refused(), refused + 2, "what is not there is not tried again");
    for agent in [busy, stranger, liar] {
        agent.stop_process().await;
    }
    control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_refuses_or_cannot_be_reached_hinders_nothing() {
    let mut cluster = StandInCluster::new().await;
    let (database, hub) = (database().await, free_port());
    let control = cluster.of(control_plane(&database, hub)).start().await;
    let agent = agent(hub).env("VENTUS_POD", cluster.pod("one")).start().await;
    let runs_a_session = async || {
        let session = control.api.create(json!({})).await;
        control.api.release(session.id()).await;
    };
    let says = async |text: &str| {
        eventually(text, SOON, || async { (said(&control, text) > 0).then_some(()) }).await;
    };

    says(AWAY).await;
    runs_a_session().await;

    cluster.refuse(Some(StatusCode::FORBIDDEN));
    cluster.listen().await;
    says(FORBIDDEN).await;
    runs_a_session().await;
    // It is tried again, and not told again.
    let refused = cluster.refused();
    eventually("another try", SOON, || async { (cluster.refused() > refused).then_some(()) }).await;

    cluster.refuse(None);
    written(&cluster, "one", "0").await;
    says("what pods cost to delete is written again").await;
    assert_eq!([AWAY, FORBIDDEN].map(|text| said(&control, text)), [1, 1]);
    agent.stop_process().await;
    control.stop().await;
}

#[tokio::test]
async fn outside_of_a_cluster_there_is_nobody_to_tell() {
    let data = |user: User| {
        let data = user.home().join("data");
        user.env("VENTUS_DATA_DIR", data.to_str().unwrap())
    };
    let flag = ["control-plane", "--pod-deletion-cost"];
    let user = data(User::nowhere());
    let said = user.fails(2, &flag).await;
    assert!(said.contains("KUBERNETES_SERVICE_HOST is not set"), "{said}");

    let user = user.env("KUBERNETES_SERVICE_HOST", "::1");
    let user = user.env("KUBERNETES_SERVICE_PORT", "6443");
    let listen = ["--listen", "127.0.0.1:0", "--hub-listen", "127.0.0.1:0"];
    let nowhere = ["--service-account", "/nowhere"];
    let said = user.fails(1, &[&flag[..], &listen, &nowhere].concat()).await;
    assert!(said.contains("no service account of Kubernetes"), "{said}");

    let agent = ["agent", "--control-plane", "http://127.0.0.1:1", "--pod", "browsers/agent-1"];
    let said = user.fails(2, &agent).await;
    assert!(said.contains("metadata.name and metadata.uid"), "{said}");
}
