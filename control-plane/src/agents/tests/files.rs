//! Uploads and downloads: from any replica to the agent and back.

use http::Method;
use proto::agent::{FileHeader, FileOrder, FileRequest, KeepFile, Placed, keep_file::Part};
use tonic::transport::Channel;

use super::*;
use crate::testing::Call;

const ORDERS: &str = "SELECT COUNT(*) FROM file_orders";
const FILES: &str = "SELECT COUNT(*) FROM session_files";

fn path(id: SessionId, name: &str) -> String {
    format!("/v1/sessions/{id}/uploads/{name}")
}

fn put(app: &TestApp, id: SessionId, name: &str, content: &str) -> Call {
    app.call(Method::PUT, &path(id, name)).body(content)
}

async fn files_of(hub: &Listening) -> HubClient<Channel> {
    HubClient::connect(format!("http://{}", hub.address)).await.unwrap()
}

impl Agent {
    async fn hear_order(&mut self) -> FileOrder {
        loop {
            match self.hear().await.unwrap() {
                Message::Assign(_) => (),
                Message::File(order) => return order,
                other => panic!("no order but {other:?}"),
            }
        }
    }

    fn placed(&self, order: &FileOrder, error: &str) {
        self.say(Said::Placed(Placed {
            order_id: order.order_id.clone(),
            session_id: order.session_id.clone(),
            error: error.to_owned(),
        }));
    }

    /// Fetches an upload as this agent.
    async fn fetch(&self, hub: &Listening, id: SessionId, name: &str) -> Result<Vec<u8>, Status> {
        let request = FileRequest {
            agent_id: self.id.to_string(),
            join_token: "join".to_owned(),
            session_id: id.to_string(),
            name: name.to_owned(),
        };
        let mut chunks = files_of(hub).await.fetch(request).await?.into_inner();
        let mut content = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            assert!(chunk.data.len() <= 1 << 20);
            content.extend(chunk.data);
        }
        Ok(content)
    }

    fn header(&self, id: SessionId, size_bytes: u64) -> FileHeader {
        FileHeader {
            agent_id: self.id.to_string(),
            join_token: "join".to_owned(),
            session_id: id.to_string(),
            name: "../report.pdf".to_owned(),
            size_bytes,
            guid: "8ab77585".to_owned(),
        }
    }
}

async fn keep(hub: &Listening, header: FileHeader, content: &[u8]) -> Result<(), Code> {
    let parts = [Part::Header(header), Part::Data(content.to_vec())];
    let parts = parts.map(|part| KeepFile { part: Some(part) });
    let kept = files_of(hub).await.keep(tokio_stream::iter(parts)).await;
    kept.map(drop).map_err(|status| status.code())
}

on_both_databases! {
    async fn an_upload_is_put_fetched_replaced_and_removed(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        for (content, status) in [("first", 201), ("the second", 200)] {
            let putting = tokio::spawn(put(&app, id, "a%20b.txt", content).send());
            let order = agent.hear_order().await;
            let told = (order.session_id.as_str(), order.name.as_str(), order.size_bytes, order.remove);
            assert_eq!(told, (&*id.to_string(), "a b.txt", content.len() as u64, false));
            assert_eq!(agent.fetch(&hub, id, "a b.txt").await.unwrap(), content.as_bytes());
            assert!(!putting.is_finished(), "the browser does not have it yet");
            agent.placed(&order, "");
            let answer = putting.await.unwrap();
            assert_eq!(answer.headers.get("location").is_some(), status == 201);
            let upload = answer.expect(status);
            assert_eq!((&upload["name"], &upload["size_bytes"]), (&json!("a b.txt"), &json!(content.len())));
        }
        let page = app.get(&format!("/v1/sessions/{id}/uploads")).send().await.expect(200);
        assert_eq!(page["items"].as_array().unwrap().len(), 1);
        assert_eq!(app.get(&path(id, "a%20b.txt")).send().await.text, "the second");
        let removing = tokio::spawn(app.call(Method::DELETE, &path(id, "a%20b.txt")).send());
        let order = agent.hear_order().await;
        assert!(order.remove && order.name == "a b.txt");
        agent.placed(&order, "");
        removing.await.unwrap().expect(204);
        let gone = agent.fetch(&hub, id, "a b.txt").await.unwrap_err();
        assert_eq!(gone.code(), Code::NotFound);
        for method in [Method::GET, Method::DELETE] {
            app.call(method, &path(id, "a%20b.txt")).send().await.problem(404, "not-found");
        }
        until(|| async { app.count(FILES).await == 0 && app.count(ORDERS).await == 0 }).await;
    }

    async fn any_replica_takes_a_file(app: TestApp) {
        let hub = listen(&app).await;
        let other = app.another().await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        let putting = tokio::spawn(put(&other, id, "x", "content").send());
        let order = agent.hear_order().await;
        assert_eq!(agent.fetch(&hub, id, "x").await.unwrap(), b"content");
        agent.placed(&order, "");
        putting.await.unwrap().expect(201);
        other.app.db.close().await;
    }

    async fn an_order_that_was_lost_with_its_stream_is_repeated(app: TestApp) {
        let hub = listen(&app).await;
        let agent_id = AgentId::generate();
        let greeting = hello(agent_id);
        let mut agent = Agent::attach(&hub, &greeting).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        let putting = tokio::spawn(put(&app, id, "x", "content").send());
        let first = agent.hear_order().await;
        drop(agent);
        let sessions = vec![report(id, session_report::State::Running(true))];
        let mut again = Agent::attach(&hub, &Hello { sessions, ..greeting }).await.unwrap();
        let second = again.hear_order().await;
        assert_eq!(second.order_id, first.order_id);
        again.placed(&second, "");
        putting.await.unwrap().expect(201);
    }

    async fn a_file_that_the_browser_cannot_have_is_told_and_can_be_put_again(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        let putting = tokio::spawn(put(&app, id, "x", "content").send());
        let order = agent.hear_order().await;
        agent.placed(&order, "the browser's directory is full");
        let answer = putting.await.unwrap();
        assert!(answer.headers.contains_key("retry-after"));
        let problem = answer.problem(503, "session-not-ready");
        assert!(problem["detail"].as_str().unwrap().contains("directory is full"), "{problem}");
        let putting = tokio::spawn(put(&app, id, "x", "content").send());
        let order = agent.hear_order().await;
        // Another agent's answer counts for nothing.
        let other = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        other.placed(&order, "nonsense");
        agent.placed(&order, "");
        putting.await.unwrap().expect(200);
        // A session that ends meanwhile takes no more.
        let putting = tokio::spawn(put(&app, id, "y", "content").send());
        agent.hear_order().await;
        agent.ended(id, EndReason::BrowserCrashed);
        putting.await.unwrap().problem(410, "gone");
        app.call(Method::DELETE, &path(id, "x")).send().await.expect(204);
    }

    async fn a_bad_name_is_refused(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        let long = "x".repeat(256);
        for bad in ["%2e%2e", "..%2Fx", "a%5Cb", ".env", "a%00", "a%0A", &long, "%2F"] {
            put(&app, id, bad, "x").send().await.problem(400, "validation-error");
        }
        // Decoded once, not twice.
        let putting = tokio::spawn(put(&app, id, "%252F", "x").send());
        let order = agent.hear_order().await;
        assert_eq!(order.name, "%2F");
        agent.placed(&order, "");
        putting.await.unwrap().expect(201);
        let unknown = SessionId::generate();
        put(&app, unknown, ".env", "x").send().await.problem(404, "not-found");
    }

    async fn a_download_is_kept_once_and_made_safe(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        for _ in 0..2 {
            keep(&hub, agent.header(id, 7), b"content").await.unwrap();
        }
        let downloads = format!("/v1/sessions/{id}/downloads");
        let page = app.get(&downloads).send().await.expect(200);
        assert_eq!(page["items"].as_array().unwrap().len(), 1);
        assert_eq!(page["items"][0]["name"], "_report.pdf");
        // Also while its session ends, until the browser is gone; and there it stays.
        app.call(Method::DELETE, &format!("/v1/sessions/{id}")).send().await.expect(204);
        let late = FileHeader { guid: "late".to_owned(), ..agent.header(id, 4) };
        keep(&hub, late.clone(), b"late").await.unwrap();
        agent.ended(id, EndReason::Released);
        until(|| async { !app.session(id).await.slot_held }).await;
        let later = FileHeader { guid: "later".to_owned(), ..late };
        assert_eq!(keep(&hub, later, b"late").await, Err(Code::FailedPrecondition));
        assert_eq!(app.get(&format!("{downloads}/late")).send().await.text, "late");
    }

    async fn only_the_sessions_own_agent_has_to_do_with_its_files(app: TestApp) {
        let hub = listen(&app).await;
        let mut agent = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = run_session(&app, &mut agent, "one").await;
        let putting = tokio::spawn(put(&app, id, "x", "content").send());
        let order = agent.hear_order().await;
        agent.placed(&order, "");
        putting.await.unwrap().expect(201);
        let other = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        assert_eq!(other.fetch(&hub, id, "x").await.unwrap_err().code(), Code::NotFound);
        let good = agent.header(id, 7);
        for (header, code) in [
            (FileHeader { join_token: "wrong".to_owned(), ..good.clone() }, Code::Unauthenticated),
            (FileHeader { agent_id: other.id.to_string(), ..good.clone() }, Code::NotFound),
            (FileHeader { session_id: "x".to_owned(), ..good.clone() }, Code::NotFound),
            (FileHeader { guid: "../x".to_owned(), ..good.clone() }, Code::InvalidArgument),
            (FileHeader { size_bytes: 6, ..good.clone() }, Code::InvalidArgument),
            (FileHeader { size_bytes: 8, ..good.clone() }, Code::InvalidArgument),
            (FileHeader { size_bytes: 1 << 40, ..good.clone() }, Code::ResourceExhausted),
        ] {
            assert_eq!(keep(&hub, header, b"content").await, Err(code));
        }
        until(|| async { app.count(FILES).await == 1 }).await;
        keep(&hub, good, b"content").await.unwrap();
    }
}
