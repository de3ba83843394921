//! The live server does what its own OpenAPI document says, in every detail that a machine can
//! check, and clients that are generated from the document work.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use harness::{Api, Server, clients, folder};
use serde_json::json;
use tokio::{task::JoinHandle, time::sleep};

/// Cases of each operation and each way to make them; more by `make contract`.
const EXAMPLES: &str = "20";
const SEED: &str = "1";

/// A server on which a flood of creates does not wait for long.
async fn server() -> Server {
    Server::up().capacity(3, 1).start().await
}

/// Releases what runs for more than a moment, so that slots are free for the next create; but
/// not what the hooks keep for the operations that need a browser.
fn release_all(api: &Api) -> JoinHandle<()> {
    let api = api.clone();
    tokio::spawn(async move {
        loop {
            let running = api.get("/v1/sessions?status=RUNNING&status=PROVISIONING").await;
            sleep(Duration::from_millis(500)).await;
            let running = running.body["items"].as_array().into_iter().flatten();
            for session in running.filter(|session| session["labels"]["contract"] != "kept") {
                api.release(session["id"].as_str().unwrap()).await;
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_valid_and_its_examples_fit() {
    let server = server().await;
    let url = format!("{}/openapi.json", server.api.base_url);
    clients::python("check_document.py", &[&url], &[]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_keeps_its_contract() {
    let server = server().await;
    let releasing = release_all(&server.api);
    let url = format!("{}/openapi.json", server.api.base_url);
    let set = |name, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let (examples, seed) = (set("CONTRACT_EXAMPLES", EXAMPLES), set("CONTRACT_SEED", SEED));
    let report = tempfile::tempdir().unwrap();
    let directory = report.path().to_str().unwrap();
    let arguments = [
        "--config-file",
        "schemathesis.toml",
        "run",
        &url,
        "--no-color",
        "--max-examples",
        &examples,
        "--seed",
        &seed,
        "--report-dir",
        directory,
    ];
    let mails = server.data().join("mail");
    let answered = report.path().join("answered.json");
    let environment = [
        ("VENTUS_SERVER", server.api.base_url.as_str()),
        ("VENTUS_MAILS", text(&mails)),
        ("VENTUS_ANSWERED", text(&answered)),
        ("HYPOTHESIS_STORAGE_DIRECTORY", directory),
        ("PYTHONPATH", "."), // the hooks are of two files
    ];
    let said = clients::tool("schemathesis", &arguments, &environment).await;
    println!("{said}");
    let cases = said.lines().find_map(|line| line.trim().split_once(" generated, "));
    let cases = cases.expect("a number of cases").0.replace(',', "");
    let cases: usize = cases.parse().unwrap();
    assert!(cases > 2_000, "only {cases} cases");
    // No page downloads anything here: see files.rs.
    assert_eq!(without_success(&answered), ["getDownload"], "never succeeded");
    releasing.abort();
    for session in server.api.all().await {
        server.api.release(session.id()).await;
    }
    server.at_rest(1).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_python_client_works() {
    let server = server().await;
    let url = format!("{}/openapi.json", server.api.base_url);
    let generated = tempfile::tempdir().unwrap();
    let package = generated.path().join("ventus_client");
    let arguments = [
        "generate",
        "--url",
        &url,
        "--meta",
        "none",
        "--fail-on-warning",
        "--config",
        "generated/openapi-python-client.yaml",
        "--output-path",
        text(&package),
    ];
    clients::tool("openapi-python-client", &arguments, &[]).await;
    let key = server.key().unwrap();
    let environment = [("VENTUS_API_KEY", key.as_str()), ("PYTHONPATH", text(generated.path()))];
    clients::python("generated/client.py", &[&server.api.base_url], &environment).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_typescript_client_type_checks_and_works() {
    let server = server().await;
    let url = format!("{}/openapi.json", server.api.base_url);
    // Beside node_modules, where the compiler and node look for the packages.
    let clients = folder().join("clients");
    let generated = tempfile::Builder::new().prefix(".generated-").tempdir_in(&clients).unwrap();
    let at = |name: &str| generated.path().join(name);
    fs::copy(clients.join("generated/client.ts"), at("client.ts")).unwrap();
    clients::node_tool(
        "openapi-typescript",
        &[&url, "--default-non-nullable=false", "-o", text(&at("schema.d.ts"))],
    )
    .await;
    let options = json!({
        "compilerOptions": {
            "strict": true, "noUncheckedIndexedAccess": true, "exactOptionalPropertyTypes": true,
            "noEmitOnError": true, "target": "es2022", "module": "nodenext",
            "lib": ["es2023", "dom", "dom.iterable"], "types": [], "outDir": "out",
        },
        "files": ["client.ts"],
    });
    fs::write(at("tsconfig.json"), options.to_string()).unwrap();
    clients::node_tool("tsc", &["--project", text(generated.path())]).await;
    let key = server.key().unwrap();
    let script = at("out/client.js");
    clients::node(text(&script), &[&server.api.base_url], &[("VENTUS_API_KEY", &key)]).await;
    server.stop().await;
}

/// The operations that no request of the run was good enough for.
fn without_success(answered: &Path) -> Vec<String> {
    let answered = fs::read(answered).unwrap();
    let answered: BTreeMap<String, Vec<u16>> = serde_json::from_slice(&answered).unwrap();
    assert!(answered.len() > 35, "only {} operations were asked", answered.len());
    let failed = answered.into_iter().filter(|(_, statuses)| !statuses.iter().any(|s| *s < 300));
    failed.map(|(name, _)| name).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
