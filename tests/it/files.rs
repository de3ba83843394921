//! Files of a session: put for its browser to upload, and downloaded by it.

use std::time::Duration;

use harness::{Server, User, api::Api, cdp::Cdp, clients, eventually, fleet, leftovers::GRACE};
use http::Method;
use serde_json::{Value, json};

/// How long a download of 100 MB may take to be listed, on a busy machine.
const KEPT: Duration = Duration::from_secs(60);
/// The same for all replicas.
const MASTER_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const MANY: usize = 100_000_000;

/// So many bytes, of which no two megabytes are the same.
fn bytes(count: usize) -> Vec<u8> {
    let megabyte: Vec<u8> = (0..1 << 20).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let mut bytes = megabyte.repeat(count.div_ceil(megabyte.len()));
    for (number, megabyte) in bytes.chunks_mut(megabyte.len()).enumerate() {
        megabyte[..8].copy_from_slice(&number.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// A page with an input for files, and its session.
async fn page(cdp: &mut Cdp) -> String {
    let (_, page) = cdp.page("about:blank").await;
    cdp.evaluate(Some(&page), "document.body.innerHTML = '<input type=file>'").await;
    page
}

/// Chooses an upload in the page's input.
async fn choose(cdp: &mut Cdp, page: &str, name: &str) {
    let input = json!({ "expression": "document.querySelector('input')" });
    let input = cdp.call(Some(page), "Runtime.evaluate", input).await;
    let id = &input["result"]["objectId"];
    let files = json!({ "files": [format!("uploads/{name}")], "objectId": id });
    cdp.call(Some(page), "DOM.setFileInputFiles", files).await;
}

async fn downloads(api: &Api, id: &str) -> Vec<Value> {
    let answer = api.get(&format!("/v1/sessions/{id}/downloads")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["items"].as_array().unwrap().clone()
}

/// Waits until a download of this name is listed.
async fn listed(api: &Api, id: &str, name: &str) -> Value {
    eventually(&format!("{name} is kept"), KEPT, || async {
        downloads(api, id).await.into_iter().find(|file| file["name"] == name)
    })
    .await
}

/// Has the page offer a file for download, by an expression of its parts.
async fn download(cdp: &mut Cdp, page: &str, name: &str, parts: &str) {
    let script = format!(
        "{{ const a = document.createElement('a'); a.download = {name:?};
            a.href = URL.createObjectURL(new Blob({parts})); a.click() }}"
    );
    let click = json!({ "expression": script, "userGesture": true });
    cdp.call(Some(page), "Runtime.evaluate", click).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_go_to_a_page_and_come_back() {
    let server = Server::up().capacity(1, 1).start().await;
    let session = server.api.create(json!({})).await;
    let (api, id) = (&server.api, session.id());
    let content = bytes(MANY);
    let upload = format!("/v1/sessions/{id}/uploads/large%20one.bin");
    let put = api.put(&upload, content.clone()).await;
    assert_eq!((put.status, &put.body["size_bytes"]), (201, &json!(MANY)), "{}", put.body);

    let mut cdp = Cdp::connect(session.connect_url()).await;
    let page = page(&mut cdp).await;
    choose(&mut cdp, &page, "large one.bin").await;
    let read = "document.querySelector('input').files[0].arrayBuffer().then(all => all.byteLength)";
    assert_eq!(cdp.evaluate(Some(&page), read).await, MANY);

    // the page gives it back
    let given = "[document.querySelector('input').files[0]]";
    download(&mut cdp, &page, "back.bin", given).await;
    let listed = listed(api, id, "back.bin").await;
    assert_eq!(listed["size_bytes"], MANY);
    let path = format!("/v1/sessions/{id}/downloads/back.bin");
    let (status, whole) = api.bytes(&path, None).await;
    assert!(status == 200 && whole == content);
    let (status, part) = api.bytes(&path, Some("bytes=49999990-50000009")).await;
    assert!(status == 206 && part == content[49_999_990..50_000_010]);

    // another content, and none
    let put = api.put(&upload, b"another".to_vec()).await;
    assert_eq!((put.status, &put.body["size_bytes"]), (200, &json!(7)), "{}", put.body);
    choose(&mut cdp, &page, "large one.bin").await;
    let text = "document.querySelector('input').files[0].text().catch(error => error.name)";
    assert_eq!(cdp.evaluate(Some(&page), text).await, "another");
    let removed = api.send(Method::DELETE, &upload, &[], None).await;
    assert_eq!(removed.status, 204, "{}", removed.body);
    assert_eq!(cdp.evaluate(Some(&page), text).await, "NotFoundError");

    // what was downloaded outlives the session, which leaves nothing else
    let last = download(&mut cdp, &page, "last.txt", "['last']");
    last.await;
    cdp.evaluate(Some(&page), "new Promise(done => setTimeout(done, 300))").await;
    api.release(id).await;
    server.at_rest(1).await;
    assert_eq!(downloads(api, id).await.len(), 2);
    let guid = listed["guid"].as_str().unwrap();
    let (status, same) = api.bytes(&format!("/v1/sessions/{id}/downloads/{guid}"), None).await;
    assert!(status == 200 && same == content);
    let late = api.put(&upload, b"late".to_vec()).await;
    assert_eq!((late.status, late.problem()), (410, "gone"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_from_the_command_line() {
    let server = Server::up().capacity(1, 1).start().await;
    let user = User::beside(&server);
    let session = server.api.create(json!({})).await;
    let place = tempfile::tempdir().unwrap();
    let [given, got] = ["given.txt", "got.txt"].map(|name| place.path().join(name));
    std::fs::write(&given, "from the disk of the caller").unwrap();
    let said = user.says(&["session", "upload", session.id(), given.to_str().unwrap()]).await;
    assert_eq!(said, "put uploads/given.txt (27 B)");
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let page = page(&mut cdp).await;
    choose(&mut cdp, &page, "given.txt").await;
    download(&mut cdp, &page, "report.txt", "document.querySelector('input').files").await;
    listed(&server.api, session.id(), "report.txt").await;
    let table = user.says(&["session", "downloads", session.id()]).await;
    assert!(table.contains("report.txt  27 B"), "{table}");
    let output = got.to_str().unwrap();
    user.says(&["session", "download", session.id(), "report.txt", "-o", output]).await;
    assert_eq!(std::fs::read(&got).unwrap(), std::fs::read(&given).unwrap());
    user.fails(4, &["session", "download", session.id(), "none", "-o", output]).await;
    cdp.close().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_replica_takes_files_and_an_agent_that_dies_takes_none() {
    let database = fleet::database().await;
    let [first, second] = [(); 2].map(|()| fleet::free_port());
    let [near, far] = [first, second]
        .map(|hub| fleet::control_plane(&database, hub).env("VENTUS_MASTER_KEY", MASTER_KEY));
    let (near, far) = (near.start().await, far.start().await);
    let agent = fleet::agent(first).start().await;
    let session = near.api.create(json!({})).await;
    let path = format!("/v1/sessions/{}/uploads/x.txt", session.id());
    let far_api = near.api.at(&far.api.base_url);
    let put = far_api.put(&path, b"from afar".to_vec()).await;
    assert_eq!(put.status, 201, "{}", put.body);
    let mut cdp = Cdp::connect(session.connect_url()).await;
    let page = page(&mut cdp).await;
    choose(&mut cdp, &page, "x.txt").await;
    download(&mut cdp, &page, "back.txt", "document.querySelector('input').files").await;
    listed(&far_api, session.id(), "back.txt").await;
    drop(cdp);

    let _agent = agent.kill(GRACE).await;
    let put = far_api.put(&path, b"too late".to_vec()).await;
    assert_eq!((put.status, put.problem()), (410, "gone"));
    let (status, kept) =
        far_api.bytes(&format!("/v1/sessions/{}/downloads/back.txt", session.id()), None).await;
    assert_eq!((status, kept.as_slice()), (200, &b"from afar"[..]));
    far.stop().await;
    near.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_libraries_give_and_get_files() {
    let server = Server::up().capacity(1, 1).start().await;
    let session = server.api.create(json!({})).await;
    let upload = format!("/v1/sessions/{}/uploads/put.txt", session.id());
    assert_eq!(server.api.put(&upload, b"put".to_vec()).await.status, 201);
    let seen = clients::run("files.mjs", session.connect_url(), "", &[]).await;
    assert_eq!(seen["playwright"], json!({ "saved": "not on this disk" }));
    for (name, content) in [("playwright.txt", "one"), ("puppeteer.txt", "two")] {
        listed(&server.api, session.id(), name).await;
        let path = format!("/v1/sessions/{}/downloads/{name}", session.id());
        assert_eq!(server.api.bytes(&path, None).await.1, content.as_bytes());
    }
    server.stop().await;
}
