//! Dashboard, alerts and scaling ask for metrics and labels that there are: those of the table in
//! `docs/metrics.md`, which other tests compare with what is exposed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use harness::{
    clients, folder,
    helm::{chart, of_kind, rendered_examples, yaml},
};
use serde_json::Value;

/// Labels that scraping adds.
const SCRAPED: [&str; 5] = ["namespace", "pod", "job", "pool", "region"];

/// The metrics of the table, each with its labels. A histogram has three, and `le`.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = fs::read_to_string(folder().join("../docs/metrics.md")).unwrap();
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| `ventus_") || line.starts_with("| `process_"));
    let mut metrics = BTreeMap::new();
    for row in rows {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, name, kind, labels, _, _, _] = cells[..] else { continue };
        let name = name.trim_matches('`').to_owned();
        let quoted = labels.split('`').skip(1).step_by(2);
        let mut labels: BTreeSet<_> = quoted.map(str::to_owned).collect();
        labels.extend(SCRAPED.map(str::to_owned));
        if kind == "histogram" {
            metrics.insert(format!("{name}_sum"), labels.clone());
            metrics.insert(format!("{name}_count"), labels.clone());
            labels.insert("le".to_owned());
            metrics.insert(format!("{name}_bucket"), labels);
        } else {
            metrics.insert(name, labels);
        }
    }
    assert!(metrics.len() > 40, "{metrics:?}");
    metrics
}

/// Fails unless this is PromQL over metrics and labels that there are.
async fn is_answered(what: &str, query: &str) {
    let metrics = documented();
    let named = clients::tool("python3", &["promql.py", query], &[]).await;
    let named: Vec<(Option<String>, Vec<String>)> = serde_json::from_str(&named).unwrap();
    let mut of_metrics = BTreeSet::new();
    for metric in named.iter().filter_map(|(metric, _)| metric.as_ref()) {
        let labels = metrics.get(metric);
        of_metrics.extend(labels.unwrap_or_else(|| panic!("{what}: no {metric} in {query}")));
    }
    assert!(!of_metrics.is_empty(), "{what} names no metric: {query}");
    for (metric, labels) in &named {
        let known = match metric {
            Some(metric) => &metrics[metric].iter().collect(),
            None => &of_metrics,
        };
        for label in labels {
            assert!(known.contains(label), "{what}: {metric:?} has no {label} in {query}");
        }
    }
}

fn dashboard() -> Value {
    serde_json::from_slice(&fs::read(chart().join("files/dashboard.json")).unwrap()).unwrap()
}

#[tokio::test]
async fn every_panel_of_the_dashboard_asks_for_what_there_is() {
    let dashboard = dashboard();
    let mut asked = String::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        if panel["type"] == "row" {
            continue;
        }
        assert!(!panel["description"].as_str().unwrap().is_empty(), "{title}");
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            asked += query;
            // As Grafana would fill them in.
            let query = query.replace("$__rate_interval", "1m").replace("$namespace", "x");
            is_answered(title, &query).await;
        }
    }
    for metric in documented().keys().filter(|name| name.starts_with("ventus_")) {
        let whole = metric.trim_end_matches("_sum").trim_end_matches("_count");
        assert!(asked.contains(whole), "the dashboard shows nothing of {metric}");
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_loads() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "an id for each panel");
    let names: Vec<_> = dashboard["templating"]["list"].as_array().unwrap().iter().collect();
    let names: BTreeSet<_> = names.iter().map(|v| v["name"].as_str().unwrap()).collect();
    assert_eq!(names, BTreeSet::from(["datasource", "namespace", "region"]));
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert_eq!(panel["datasource"]["uid"], "${datasource}");
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{panel}");
    }
    let rendered = rendered_examples();
    let maps: Vec<_> = rendered.iter().flat_map(|(_, o)| of_kind(o, "ConfigMap")).collect();
    assert_eq!(maps.len(), 1);
    assert_eq!(maps[0].at("/metadata/labels")["grafana_dashboard"], "1");
    let shipped: Value = serde_json::from_str(maps[0].text("/data/ventus.json")).unwrap();
    assert_eq!(shipped, dashboard);
}

#[tokio::test]
async fn every_alert_asks_for_what_there_is_and_says_what_it_is() {
    let alerts = yaml(&chart().join("files/alerts.yaml"));
    let rules = alerts["groups"][0]["rules"].as_array().unwrap();
    let names: BTreeSet<_> = rules.iter().map(|rule| rule["alert"].as_str().unwrap()).collect();
    assert_eq!((names.len(), names.len() > 8), (rules.len(), true));
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        is_answered(name, rule["expr"].as_str().unwrap()).await;
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()));
        for annotation in ["summary", "description"] {
            assert!(rule["annotations"][annotation].as_str().unwrap().len() > 10, "{name}");
        }
    }
    let page = fs::read_to_string(folder().join("../docs/operations.md")).unwrap();
    let explained =
        page.lines().filter_map(|line| line.strip_prefix("| `Ventus")?.split('`').next());
    let explained: Vec<_> = explained.map(|rest| format!("Ventus{rest}")).collect();
    let in_order: Vec<_> = rules.iter().map(|rule| rule["alert"].as_str().unwrap()).collect();
    assert_eq!(explained, in_order, "docs/operations.md says what to do for each, in this order");
    let rendered = rendered_examples();
    let shipped = rendered.iter().flat_map(|(_, o)| of_kind(o, "PrometheusRule")).next().unwrap();
    assert_eq!(shipped.at("/spec/groups"), &alerts["groups"]);
}

#[tokio::test]
async fn scaling_asks_for_what_there_is() {
    let rendered = rendered_examples();
    let scaled = rendered.iter().flat_map(|(_, objects)| of_kind(objects, "ScaledObject"));
    for object in scaled {
        is_answered("KEDA", object.text("/spec/triggers/0/metadata/query")).await;
        assert_eq!(object.text("/spec/triggers/0/metadata/threshold"), "0.60");
    }
    // The rule of prometheus-adapter makes the metric that the HPA looks at.
    let page = fs::read_to_string(folder().join("../docs/kubernetes.md")).unwrap();
    let begin = page.find("```yaml\nrules:").unwrap() + "```yaml\n".len();
    let block = page[begin..].split("```").next().unwrap();
    let rule = &yaml_serde::from_str::<Value>(block).unwrap()["rules"]["custom"][0];
    let scalers = rendered.iter().flat_map(|(_, o)| of_kind(o, "HorizontalPodAutoscaler"));
    let metrics: BTreeSet<_> =
        scalers.map(|o| o.text("/spec/metrics/0/pods/metric/name")).collect();
    assert_eq!(metrics, BTreeSet::from(["", rule["name"]["as"].as_str().unwrap()]));
    let query = rule["metricsQuery"].as_str().unwrap();
    // As the adapter would fill it in.
    let query = query.replace("<<.LabelMatchers>>", r#"namespace="x",pod=~"a|b""#);
    is_answered("adapter", &query.replace("<<.GroupBy>>", "pod")).await;
    is_answered("adapter", rule["seriesQuery"].as_str().unwrap()).await;
}
