//! Runs the client scripts and the tools of their ecosystems, and compares what scripts saw in
//! two places.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use crate::folder;

/// How long a script may take for all its scenarios.
const SCRIPT_LIMIT: Duration = Duration::from_secs(480);

/// The same for a tool: some are let run through the night.
const TOOL_LIMIT: Duration = Duration::from_secs(80 * 60);

/// What each scenario saw.
pub type Seen = BTreeMap<String, Value>;

/// Runs a script of `tests/clients` against a browser endpoint; without names, all its
/// scenarios.
///
/// # Panics
///
/// When a scenario fails, or the script cannot be run.
pub async fn run(script: &str, endpoint: &str, site: &str, only: &[&str]) -> Seen {
    let program = if script.ends_with(".py") { of_python("python3") } else { of_node() };
    let arguments = [&[script, endpoint, site], only].concat();
    let output = output(program, &arguments, &[], SCRIPT_LIMIT).await;

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

/// Environment of a program: names and values.
type Environment<'a> = [(&'a str, &'a str)];

/// Runs a Python script of `tests/clients`.
///
/// # Panics
///
/// When it fails; what it said is shown.
pub async fn python(script: &str, arguments: &[&str], environment: &Environment<'_>) {
    let arguments = [&[script], arguments].concat();
    succeeded(script, output(of_python("python3"), &arguments, environment, SCRIPT_LIMIT).await);
}

/// The same for a script that reads something and answers with lines of JSON.
///
/// # Panics
///
/// When it fails; what it said is shown.
pub async fn python_reading(script: &str, text: &str) -> Vec<Value> {
    let mut command = Command::new(of_python("python3"));
    command.arg(script).current_dir(folder().join("clients")).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{script}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    // It says nothing before it has read all.
    stdin.write_all(text.as_bytes()).await.expect("it reads");
    drop(stdin);
    let output = timeout(SCRIPT_LIMIT, child.wait_with_output()).await.expect("it ends");
    let said = succeeded(script, output.expect("a child of ours"));
    said.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Runs a command that a Python package brings, and answers what it said.
///
/// # Panics
///
/// When it fails; what it said is shown.
pub async fn tool(name: &str, arguments: &[&str], environment: &Environment<'_>) -> String {
    succeeded(name, output(of_python(name), arguments, environment, TOOL_LIMIT).await)
}

/// Runs a script with node.
///
/// # Panics
///
/// When it fails; what it said is shown.
pub async fn node(script: &str, arguments: &[&str], environment: &Environment<'_>) {
    let arguments = [&[script], arguments].concat();
    succeeded(script, output(of_node(), &arguments, environment, SCRIPT_LIMIT).await);
}

/// Runs a command that an npm package brings.
///
/// # Panics
///
/// When it fails; what it said is shown.
pub async fn node_tool(name: &str, arguments: &[&str]) {
    of_node();
    let program = folder().join("clients/node_modules/.bin").join(name);
    succeeded(name, output(program, arguments, &[], TOOL_LIMIT).await);
}

/// Node, once its packages are there.
fn of_node() -> PathBuf {
    let installed = folder().join("clients/node_modules").is_dir();
    assert!(installed, "run `npm ci --prefix tests/clients` first");
    PathBuf::from("node")
}

/// A program of the Python clients' own environment, or else the machine's.
pub(crate) fn of_python(program: &str) -> PathBuf {
    let own = folder().join("clients/.venv/bin").join(program);
    if own.is_file() { own } else { PathBuf::from(program) }
}

async fn output(
    program: PathBuf,
    arguments: &[&str],
    environment: &Environment<'_>,
    limit: Duration,
) -> Output {
    let mut command = Command::new(&program);
    command.args(arguments).envs(environment.iter().copied());
    command.current_dir(folder().join("clients"));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let what = || format!("{} {arguments:?}", program.display());
    let output = timeout(limit, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("not done in {limit:?}: {}", what()));
    output.unwrap_or_else(|error| panic!("cannot be run: {}: {error}", what()))
}

fn succeeded(what: &str, output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{said}\n{stderr}", output.status);
    said
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
