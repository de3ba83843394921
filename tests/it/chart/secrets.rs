//! Keys are drawn once: an upgrade keeps those that the cluster has. Helm looks them up there, so
//! a stand-in for the cluster's API answers here.

use std::{collections::BTreeSet, fs, sync::Arc};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use harness::helm::{KUBERNETES, Object, RELEASE, VERSIONS, of_kind, one, render, template};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::spawn_blocking};

/// What the stand-in knows: kinds, so that Helm believes that they exist, and one Secret.
struct StandIn {
    /// apiVersion and kind.
    kinds: BTreeSet<(String, String)>,
    secret: Object,
}

impl StandIn {
    fn answer(&self, path: &str) -> Option<Value> {
        let (namespace, name) = (RELEASE.1, self.secret.name());
        if path == format!("/api/v1/namespaces/{namespace}/secrets/{name}") {
            return Some(self.secret.0.clone());
        }
        let groups = self.kinds.iter().filter_map(|(version, _)| version.split_once('/'));
        let group = |(name, version): (&str, &str)| {
            let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
            json!({"name": name, "versions": [version], "preferredVersion": version})
        };
        match path {
            "/version" => Some(json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0"})),
            "/api" => Some(json!({"kind": "APIVersions", "versions": ["v1"]})),
            "/apis" => {
                let groups: BTreeSet<_> = groups.collect();
                let groups: Vec<_> = groups.into_iter().map(group).collect();
                Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
            }
            _ => {
                let version = path.strip_prefix("/apis/").or(path.strip_prefix("/api/"))?;
                let kinds = self.kinds.iter().filter(|(own, _)| own == version);
                let resources: Vec<_> = kinds.map(|(_, kind)| resource(kind)).collect();
                (!resources.is_empty()).then(|| {
                    json!({"kind": "APIResourceList", "groupVersion": version, "resources": resources})
                })
            }
        }
    }
}

fn resource(kind: &str) -> Value {
    let single = kind.to_lowercase();
    let plural = match single.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{single}s"),
    };
    json!({"name": plural, "singularName": single, "namespaced": true, "kind": kind,
        "verbs": ["get", "list"]})
}

async fn handler(State(cluster): State<Arc<StandIn>>, request: Request) -> Response {
    match cluster.answer(request.uri().path()) {
        Some(body) => Json(body).into_response(),
        None => {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                "reason": "NotFound", "code": 404});
            (StatusCode::NOT_FOUND, Json(status)).into_response()
        }
    }
}

/// Renders against a cluster with this Secret in it.
async fn upgrade(version: &'static str, secret: &Object) -> Vec<Object> {
    let all = render(version, KUBERNETES[1], &[]);
    let kinds = all.iter().map(|o| (o.text("/apiVersion").to_owned(), o.kind().to_owned()));
    let cluster = StandIn { kinds: kinds.collect(), secret: secret.clone() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().fallback(handler).with_state(Arc::new(cluster));
    let serving = tokio::spawn(async { axum::serve(listener, routes).await });

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": server}}],
        "users": [{"name": "x", "user": {}}]});
    fs::write(&file, config.to_string()).unwrap();
    let rendered = spawn_blocking(move || {
        let mut arguments = vec!["--dry-run=server", "--kubeconfig", file.to_str().unwrap()];
        if !version.starts_with('3') {
            arguments.push("--disable-openapi-validation");
        }
        template(version, KUBERNETES[1], &arguments)
    });
    let rendered = rendered.await.unwrap().unwrap_or_else(|said| panic!("{said}"));
    serving.abort();
    harness::helm::objects(&rendered)
}

/// The release's Secret, as Helm marks what it has installed.
fn secret(objects: &[Object]) -> Object {
    let mut secret = one(objects, "Secret", "shop-ventus").clone();
    let (name, namespace) = RELEASE;
    secret.0["metadata"]["annotations"]["meta.helm.sh/release-name"] = name.into();
    secret.0["metadata"]["annotations"]["meta.helm.sh/release-namespace"] = namespace.into();
    secret
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_keeps_the_keys_that_are_there() {
    for version in VERSIONS {
        let first = secret(&render(version, KUBERNETES[1], &[]));
        assert_eq!(first.at("/data").as_object().unwrap().len(), 4);
        let second = secret(&upgrade(version, &first).await);
        assert_eq!(second.at("/data"), first.at("/data"), "Helm {version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_draws_only_the_keys_that_are_missing() {
    for version in VERSIONS {
        let mut first = secret(&render(version, KUBERNETES[1], &[]));
        first.0["data"].as_object_mut().unwrap().remove("api-key");
        let second = secret(&upgrade(version, &first).await);
        let mut data = second.at("/data").clone();
        let drawn = data.as_object_mut().unwrap().remove("api-key");
        assert!(drawn.is_some_and(|key| key.as_str().unwrap().len() > 60), "Helm {version}");
        assert_eq!(&data, first.at("/data"), "Helm {version}");
    }
}

#[test]
fn keys_are_drawn_for_each_release_anew_and_outlive_it() {
    let [one, two] = [(); 2].map(|()| secret(&render(VERSIONS[1], KUBERNETES[1], &[])));
    for (name, value) in one.at("/data").as_object().unwrap() {
        assert_ne!(value, &two.at("/data")[name], "{name} is always the same");
    }
    assert_eq!(one.at("/metadata/annotations")["helm.sh/resource-policy"], "keep");
}

#[test]
fn keys_of_ones_own_replace_all_that_would_be_drawn() {
    let set = ["--set", "secrets.existingSecret=mine,database.existingSecret=theirs"];
    let objects = render(VERSIONS[0], KUBERNETES[1], &set);
    assert_eq!(of_kind(&objects, "Secret").count(), 0);
    assert_eq!(of_kind(&objects, "StatefulSet").count(), 0);
}
