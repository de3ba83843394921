//! Runs the client scripts, and compares what they saw in two places.

use std::{collections::BTreeMap, path::PathBuf, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{process::Command, time::timeout};

use crate::folder;

/// How long a script may take for all its scenarios.
const SCRIPT_LIMIT: Duration = Duration::from_secs(240);

/// What each scenario saw.
pub type Seen = BTreeMap<String, Value>;

/// Runs a script of `tests/clients` against a browser endpoint; without names, all its
/// scenarios.
///
/// # Panics
///
/// When a scenario fails, or the script cannot be run.
pub async fn run(script: &str, endpoint: &str, site: &str, only: &[&str]) -> Seen {
    let clients = folder().join("clients");
    let program = if script.ends_with(".py") {
        python()
    } else {
        let installed = clients.join("node_modules").is_dir();
        assert!(installed, "run `npm ci --prefix tests/clients` first");
        PathBuf::from("node")
    };
    let mut command = Command::new(program);
    command.arg(script).arg(endpoint).arg(site).args(only).current_dir(&clients);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(SCRIPT_LIMIT, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{script} is not done in {SCRIPT_LIMIT:?}"));
    let output = output.unwrap_or_else(|error| panic!("{script} cannot be run: {error}"));

    let (mut seen, mut faults) = (Seen::new(), Vec::new());
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut line: Value = serde_json::from_str(line).expect("a line of JSON");
        let scenario = line["scenario"].as_str().expect("a name").to_owned();
        match line["error"].as_str() {
            Some(error) => faults.push(format!("{scenario}: {error}")),
            None => drop(seen.insert(scenario, line["seen"].take())),
        }
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(faults.is_empty(), "{script} failed:\n{}\n{stderr}", faults.join("\n"));
    assert!(output.status.success(), "{script}: {}\n{stderr}", output.status);
    assert!(!seen.is_empty(), "{script} ran nothing");
    seen
}

/// The interpreter with the Python clients: their own environment, or the machine's.
fn python() -> PathBuf {
    let own = folder().join("clients/.venv/bin/python");
    if own.is_file() { own } else { PathBuf::from("python3") }
}

/// Fails when two places were not seen alike, and says where.
///
/// # Panics
///
/// When they differ.
pub fn assert_alike(ours: &Seen, chrome: &Seen) {
    let mut found = Vec::new();
    for scenario in chrome.keys().chain(ours.keys().filter(|name| !chrome.contains_key(*name))) {
        let side = |seen: &Seen| seen.get(scenario).cloned().unwrap_or(Value::Null);
        differences(scenario, &side(ours), &side(chrome), &mut found);
    }
    let shown = found.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
    assert!(found.is_empty(), "{} differences from Chrome's own port:\n{shown}", found.len());
}

fn differences(place: &str, ours: &Value, chrome: &Value, found: &mut Vec<String>) {
    match (ours, chrome) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                let side = |map: &serde_json::Map<_, _>| map.get(key).cloned().unwrap_or_default();
                differences(&format!("{place} / {key}"), &side(a), &side(b), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{place} / {n}"), a, b, found);
            }
        }
        (a, b) if a != b => found.push(format!("{place}\n    ours:   {a}\n    chrome: {b}")),
        _ => {}
    }
}
