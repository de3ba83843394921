//! Renders the chart with real Helms, of the oldest and the newest kind that it supports, and
//! reads what comes out.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde::Deserialize;
use serde_json::Value;

use crate::folder;

/// The versions of Helm: `scripts/helms` brings them.
pub const VERSIONS: [&str; 2] = ["3.17.3", "4.2.3"];
/// The oldest and the newest Kubernetes.
pub const KUBERNETES: [&str; 2] = ["1.25", "1.37"];
/// The release's name and its namespace.
pub const RELEASE: (&str, &str) = ("shop", "browsers");

/// The folder of the chart.
pub fn chart() -> PathBuf {
    folder().join("../charts/ventus")
}

/// The values files that come with the chart.
///
/// # Panics
///
/// When there are none.
pub fn examples() -> Vec<PathBuf> {
    let entries = fs::read_dir(chart().join("examples")).expect("examples");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Reads a YAML file of the chart.
///
/// # Panics
///
/// When it cannot be read.
pub fn yaml(path: &Path) -> Value {
    let text = fs::read_to_string(path).expect("a file of the chart");
    yaml_serde::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs Helm with a home of its own, so that nothing of this machine's settings counts.
///
/// # Panics
///
/// When it cannot be run.
pub fn helm(version: &str, arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().expect("a home");
    let mut command = Command::new(program(version));
    command.args(arguments).env_clear().env("HOME", home.path());
    command.output().expect("helm runs")
}

fn program(version: &str) -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache");
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    let program = cache.join(format!("ventus/helm-{version}"));
    assert!(program.is_file(), "no {}: run `scripts/helms`", program.display());
    program
}

/// Renders the chart as text; `Err` has what Helm said.
pub fn template(version: &str, kubernetes: &str, more: &[&str]) -> Result<String, String> {
    let chart = chart();
    let chart = chart.to_str().expect("a path of letters");
    let start = ["template", RELEASE.0, chart, "--namespace", RELEASE.1];
    let output = helm(version, &[&start[..], &["--kube-version", kubernetes], more].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

/// Renders the chart.
///
/// # Panics
///
/// When Helm fails; what it said is shown.
pub fn render(version: &str, kubernetes: &str, more: &[&str]) -> Vec<Object> {
    objects(&template(version, kubernetes, more).unwrap_or_else(|said| panic!("{said}")))
}

/// The objects in a stream of YAML documents.
///
/// # Panics
///
/// When it is none.
pub fn objects(text: &str) -> Vec<Object> {
    let documents = yaml_serde::Deserializer::from_str(text);
    let values = documents.map(|document| Value::deserialize(document).expect("YAML"));
    values.filter(|value| !value.is_null()).map(Object).collect()
}

/// All examples, each with its name, as the newest of both renders them.
pub fn rendered_examples() -> Vec<(String, Vec<Object>)> {
    let render = |path: PathBuf| {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let path = path.to_str().expect("a path of letters");
        (name, render(VERSIONS[1], KUBERNETES[1], &["--values", path]))
    };
    examples().into_iter().map(render).collect()
}

/// An object of Kubernetes.
#[derive(Clone, Debug, PartialEq)]
pub struct Object(pub Value);

impl Object {
    /// What kind it is.
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// Kind and name, for people.
    pub fn title(&self) -> String {
        format!("{} {}", self.kind(), self.name())
    }

    /// What is at this place; null if there is nothing.
    pub fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// The text at this place; empty if there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.at(pointer).as_str().unwrap_or_default()
    }

    /// The entries of the list at this place.
    pub fn list(&self, pointer: &str) -> &[Value] {
        self.at(pointer).as_array().map_or(&[], Vec::as_slice)
    }

    /// Labels and `spec` of its pods, if it has any.
    pub fn pod(&self) -> Option<(&Value, Self)> {
        let place = match self.kind() {
            "Pod" => "",
            "Deployment" | "StatefulSet" => "/spec/template",
            _ => return None,
        };
        let spec = self.at(&format!("{place}/spec")).clone();
        Some((self.at(&format!("{place}/metadata/labels")), Self(spec)))
    }
}

/// Those of a kind.
pub fn of_kind<'a>(objects: &'a [Object], kind: &'a str) -> impl Iterator<Item = &'a Object> {
    objects.iter().filter(move |object| object.kind() == kind)
}

/// The one with this kind and name.
///
/// # Panics
///
/// When there is none.
pub fn one<'a>(objects: &'a [Object], kind: &str, name: &str) -> &'a Object {
    let found = objects.iter().find(|object| (object.kind(), object.name()) == (kind, name));
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// Whether labels have all that a selector's `matchLabels` want, which must want something.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.as_object().filter(|wanted| !wanted.is_empty());
    let wanted = wanted.unwrap_or_else(|| panic!("selects everything: {selector}"));
    wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}
