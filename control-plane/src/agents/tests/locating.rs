//! Which agent has a session, for another one that was asked for it.

use proto::agent::LocateRequest;

use super::*;

/// What an agent is told, by the server's own join token.
async fn located(hub: &Listening, by: AgentId, session: &str) -> Result<String, Code> {
    let request = LocateRequest {
        agent_id: by.to_string(),
        join_token: "join".to_owned(),
        session_id: session.to_owned(),
    };
    let mut client = HubClient::connect(format!("http://{}", hub.address)).await.unwrap();
    let located = client.locate(request).await.map_err(|status| status.code())?;
    Ok(located.into_inner().agent_id)
}

on_both_databases! {
    async fn a_session_is_where_the_database_says_while_it_is_not_over(app: TestApp) {
        let hub = listen(&app).await;
        let owner = AgentId::generate();
        let mut agent = Agent::attach(&hub, &hello(owner)).await.unwrap();
        let id = provision(&app, "one").await;
        let other = AgentId::generate();
        let _other = Agent::attach(&hub, &hello(other)).await.unwrap();
        let session = id.to_string();
        for asker in [owner, other] {
            assert_eq!(located(&hub, asker, &session).await, Ok(owner.to_string()));
        }
        while agent.hear_assign().await != id {}
        agent.running(id);
        becomes(&app, id, SessionStatus::Running).await;
        assert_eq!(located(&hub, other, &session).await, Ok(owner.to_string()));

        let waits = "UPDATE sessions SET status = 'QUEUED', agent_id = NULL, slot_held = 0";
        app.sql(waits, &[]).await;
        assert_eq!(located(&hub, other, &session).await, Ok(String::new()));
        app.call(http::Method::DELETE, &format!("/v1/sessions/{id}")).send().await.expect(204);
        assert_eq!(located(&hub, other, &session).await, Err(Code::NotFound));
    }

    async fn only_agents_of_its_region_are_told_where_a_session_is(app: TestApp) {
        let hub = listen(&app).await;
        let _owner = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        let id = provision(&app, "one").await.to_string();
        let (elsewhere, unknown) = (AgentId::generate(), AgentId::generate());
        let hello = Hello { region: "eu".to_owned(), ..hello(elsewhere) };
        let _elsewhere = Agent::attach(&hub, &hello).await.unwrap();
        assert_eq!(located(&hub, elsewhere, &id).await, Err(Code::NotFound));
        assert_eq!(located(&hub, unknown, &id).await, Err(Code::PermissionDenied));
        assert_eq!(located(&hub, elsewhere, "no id").await, Err(Code::NotFound));
        let unlisted = SessionId::generate().to_string();
        assert_eq!(located(&hub, elsewhere, &unlisted).await, Err(Code::NotFound));
    }
}
