//! Contents in the store and in an object store, over REST, without agents: they play no part
//! in what is read. `agents/tests/files.rs` has the rest.

use std::path::Path;

use http::Method;
use object_store::local::LocalFileSystem;
use serde_json::json;

use super::{
    content::{CHUNK, New, Stored, Writer},
    *,
};
use crate::{
    profiles::objects::Objects,
    testing::{Call, TestApp, id_of, on_both_databases, until},
};

const LEFT: &str = "SELECT COUNT(*) FROM session_files WHERE status <> 'STORED'";
const CHUNKS: &str = "SELECT COUNT(*) FROM file_chunks";

/// Stores a file as whoever it comes from would have it.
pub(crate) async fn store(
    app: &TestApp,
    session: SessionId,
    source: Source,
    name: &str,
    content: &[u8],
) -> Result<Stored, Error> {
    let guid = matches!(source, Source::Agent(_)).then(|| format!("guid of {name}"));
    let new = New { session, source, name: name.to_owned(), guid, size_bytes: None };
    let mut writer = Writer::begin(&app.app, new).await?;
    // In pieces that fit no chunk.
    for piece in content.chunks(CHUNK / 3 + 1) {
        writer.write(piece).await?;
    }
    writer.finish().await
}

/// A session that runs, and its agent.
async fn session(app: &TestApp) -> (SessionId, AgentId) {
    let agent = app.quick_agent("local", 10).await;
    (id_of(&app.create("k").send().await.expect(201)), agent)
}

fn get(app: &TestApp, id: SessionId, rest: &str) -> Call {
    app.get(&format!("/v1/sessions/{id}{rest}"))
}

/// Bytes that tell where they are.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| b'a' + u8::try_from(at / 1_000 % 26).unwrap()).collect()
}

async fn with_objects(app: &TestApp, directory: &Path) -> TestApp {
    app.with_objects(Objects::of(LocalFileSystem::new_with_prefix(directory).unwrap())).await
}

on_both_databases! {
    async fn a_file_is_read_as_it_was_written(app: TestApp) {
        let (id, agent) = session(&app).await;
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5_000] {
            let (name, content) = (format!("{size}.bin"), bytes(size));
            let stored = store(&app, id, Source::Agent(agent), &name, &content).await.unwrap();
            assert_eq!(stored.file.size_bytes, size as u64);
            let answer = get(&app, id, &format!("/downloads/{name}")).send().await;
            let headers = answer.headers.clone();
            assert_eq!(headers["content-length"], size.to_string());
            assert_eq!(headers["content-type"], "application/octet-stream");
            assert_eq!(headers["x-content-type-options"], "nosniff");
            assert_eq!(headers["cache-control"], "no-store");
            assert!(headers["content-disposition"].to_str().unwrap().starts_with("attachment;"));
            assert_eq!((answer.status, answer.text.as_bytes()), (200, &*content), "{size}");
        }
        // What is in the store says nothing of it.
        let big = "SELECT COUNT(*) FROM file_chunks WHERE content LIKE '%aaaaaaaa%'";
        if app.app.config.database_url.starts_with("sqlite") {
            assert_eq!(app.count(big).await, 0);
        }
    }

    async fn a_part_is_what_was_asked_for(app: TestApp) {
        let (id, agent) = session(&app).await;
        let content = bytes(2 * CHUNK + 500);
        store(&app, id, Source::Agent(agent), "x", &content).await.unwrap();
        let ask = |range: String| get(&app, id, "/downloads/x").header("range", &range);
        let edge = CHUNK - 3;
        for (first, last) in [(0, 0), (5, 10), (edge, CHUNK + 3), (1, 2 * CHUNK), (CHUNK, 2 * CHUNK + 499)] {
            let answer = ask(format!("bytes={first}-{last}")).send().await;
            let range = format!("bytes {first}-{last}/{}", content.len());
            assert_eq!(answer.headers["content-range"], range);
            assert_eq!(answer.headers["content-length"], (last - first + 1).to_string());
            assert_eq!((answer.status, answer.text.as_bytes()), (206, &content[first..=last]));
        }
        let beyond = ask(format!("bytes={}-", content.len())).send().await;
        assert_eq!(beyond.headers["content-range"], format!("bytes */{}", content.len()));
        beyond.problem(416, "range-not-satisfiable");
        let whole = get(&app, id, "/downloads/x").send().await;
        let tag = whole.headers["etag"].to_str().unwrap().to_owned();
        let known = get(&app, id, "/downloads/x").header("if-none-match", &tag).send().await;
        assert_eq!((known.status, known.text.as_str()), (304, ""));
        let head = app.call(Method::HEAD, &format!("/v1/sessions/{id}/downloads/x")).send().await;
        assert_eq!((head.status, head.text.as_str()), (200, ""));
        assert_eq!(head.headers["content-length"], content.len().to_string());
    }

    async fn downloads_of_one_name_are_told_apart_and_each_has_its_guid(app: TestApp) {
        let (id, agent) = session(&app).await;
        for (guid, content) in [("g1", "first"), ("g2", "second")] {
            let new = New {
                session: id,
                source: Source::Agent(agent),
                name: "report.pdf".to_owned(),
                guid: Some(guid.to_owned()),
                size_bytes: Some(6),
            };
            let mut writer = Writer::begin(&app.app, new).await.unwrap();
            writer.write(content.as_bytes()).await.unwrap();
            writer.finish().await.unwrap();
        }
        let page = get(&app, id, "/downloads?limit=1").send().await.expect(200);
        assert_eq!(page["items"][0]["name"], "report (1).pdf");
        assert_eq!((&page["items"][0]["guid"], &page["has_more"]), (&json!("g2"), &json!(true)));
        let next = format!("/downloads?cursor={}", page["next_cursor"].as_str().unwrap());
        let page = get(&app, id, &next).send().await.expect(200);
        assert_eq!((&page["items"][0]["name"], &page["items"][0]["size_bytes"]), (&json!("report.pdf"), &json!(5)));
        assert_eq!((page["items"].as_array().unwrap().len(), &page["has_more"]), (1, &json!(false)));
        for (name, content) in [
            ("report.pdf", "first"), ("g1", "first"), ("report%20(1).pdf", "second"), ("g2", "second"),
        ] {
            let answer = get(&app, id, &format!("/downloads/{name}")).send().await;
            assert_eq!((answer.status, answer.text.as_str()), (200, content), "{name}");
        }
        for none in ["report (2).pdf".replace(' ', "%20").as_str(), "g3", "%2e%2e", "a%2Fb", "a%00"] {
            get(&app, id, &format!("/downloads/{none}")).send().await.problem(404, "not-found");
        }
    }

    async fn a_large_content_goes_to_the_object_store_and_back(app: TestApp) {
        let directory = tempfile::tempdir().unwrap();
        let app = with_objects(&app, directory.path()).await;
        let (id, agent) = session(&app).await;
        let content = bytes(10 * CHUNK + 77);
        store(&app, id, Source::Agent(agent), "large", &content).await.unwrap();
        store(&app, id, Source::Agent(agent), "small", &content[..CHUNK]).await.unwrap();
        assert_eq!(app.count(CHUNKS).await, 1, "the small one's");
        let objects = directory.path().join("files");
        assert_eq!(std::fs::read_dir(&objects).unwrap().count(), 1);
        let answer = get(&app, id, "/downloads/large").send().await;
        assert!(answer.text.as_bytes() == content);
        let part = get(&app, id, "/downloads/large").header("range", "bytes=-80").send().await;
        assert_eq!(part.text.as_bytes(), &content[content.len() - 80..]);
        // With the workspace all of it goes.
        sweep::workspace(&app.app, app.workspace).await.unwrap();
        assert_eq!(app.count("SELECT COUNT(*) FROM session_files").await, 0);
        assert_eq!(app.count(CHUNKS).await, 0);
        assert_eq!(std::fs::read_dir(&objects).unwrap().count(), 0);
        app.app.db.close().await;
    }

    async fn what_is_over_a_limit_leaves_nothing(app: TestApp) {
        let (id, agent) = session(&app).await;
        let source = Source::Agent(agent);
        let begin = async |size_bytes| {
            let new = New { session: id, source, name: "x".into(), guid: None, size_bytes };
            Writer::begin(&app.app, new).await
        };
        assert!(matches!(begin(Some(FILE_MAX + 1)).await, Err(Error::TooLarge(_))));
        let mut writer = begin(None).await.unwrap();
        let much = vec![0; CHUNK];
        writer.write(&much).await.unwrap();
        // All but one byte of the session's room is taken.
        let others = "INSERT INTO session_files (id, session_id, kind, name, status, size_bytes, \
             in_objects, created_us) VALUES ('o', $1, 'DOWNLOAD', 'o', 'STORED', \
             CAST($2 AS BIGINT), 0, 0)";
        let nearly_all = (SESSION_MAX - 1).to_string();
        app.sql(others, &[&id.to_string(), &nearly_all]).await;
        assert!(matches!(writer.finish().await, Err(Error::Conflict(_))));
        assert!(matches!(begin(Some(2)).await, Err(Error::Conflict(_))));
        assert!(store(&app, id, source, "fits", b"x").await.is_ok());
        // What was given up is deleted in the background.
        until(|| async { app.count(LEFT).await == 0 }).await;
        assert_eq!(app.count(CHUNKS).await, 1);
    }

    async fn a_session_has_so_many_files_and_no_more(app: TestApp) {
        let (id, agent) = session(&app).await;
        let source = Source::Agent(agent);
        let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999) \
             INSERT INTO session_files (id, session_id, kind, name, status, size_bytes, in_objects, \
             created_us) SELECT 'f' || i, $1, 'DOWNLOAD', 'f' || i, 'STORED', 1, 0, 0 FROM n";
        app.sql(many, &[&id.to_string()]).await;
        assert!(store(&app, id, source, "last", b"x").await.is_ok());
        assert!(matches!(store(&app, id, source, "more", b"x").await, Err(Error::Conflict(_))));
        let uploads = Source::Caller(app.workspace);
        assert!(store(&app, id, uploads, "other kind", b"x").await.is_ok());
        // Those on their way count, too, and they are few.
        let mut writers = Vec::new();
        for n in 0..WRITING_MAX {
            let name = n.to_string();
            let new = New { session: id, source: uploads, name, guid: None, size_bytes: None };
            writers.push(Writer::begin(&app.app, new).await.unwrap());
        }
        assert!(matches!(store(&app, id, uploads, "one more", b"x").await, Err(Error::Conflict(_))));
        for writer in writers {
            writer.give_up().await;
        }
        assert!(store(&app, id, uploads, "one more", b"x").await.is_ok());
    }

    async fn a_file_that_nobody_writes_any_more_is_swept(app: TestApp) {
        let (id, agent) = session(&app).await;
        let new = New { session: id, source: Source::Agent(agent), name: "x".into(), guid: None, size_bytes: None };
        let mut writer = Writer::begin(&app.app, new).await.unwrap();
        writer.write(&bytes(3 * CHUNK)).await.unwrap();
        std::mem::forget(writer); // as by kill -9
        sweep::all(&app.app).await.unwrap();
        assert_eq!((app.count(LEFT).await, app.count(CHUNKS).await), (1, 2));
        app.sql("UPDATE session_files SET created_us = created_us - 7200000000", &[]).await;
        sweep::all(&app.app).await.unwrap();
        assert_eq!((app.count(LEFT).await, app.count(CHUNKS).await), (0, 0));
    }

    async fn an_agent_brings_files_only_until_its_browser_is_gone(app: TestApp) {
        let (id, agent) = session(&app).await;
        let stranger = app.agent("local", 1).await;
        let refused = store(&app, id, Source::Agent(stranger), "x", b"x").await;
        assert!(matches!(refused, Err(Error::NoSuchSession)));
        let path = format!("/v1/sessions/{id}");
        app.call(Method::DELETE, &path).send().await.expect(204);
        until(|| async { !app.session(id).await.slot_held }).await;
        let refused = store(&app, id, Source::Agent(agent), "x", b"x").await;
        assert!(matches!(refused, Err(Error::Over)));
        let put = app.call(Method::PUT, &format!("{path}/uploads/x")).send().await;
        put.problem(410, "gone");
    }
}
