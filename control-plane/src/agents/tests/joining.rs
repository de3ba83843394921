//! Who is let in: join tokens, regions, and versions of the protocol.

use proto::{
    PROTOCOL_VERSION,
    agent::{FileRequest, hub_client::HubClient},
};

use super::*;
use crate::join_tokens::operator;

/// A token for a region.
async fn token(app: &TestApp, region: &str) -> (proto::id::JoinTokenId, String) {
    let made = operator::create(&app.app.db, &region.parse().unwrap(), "", None).await;
    made.map(|(row, token)| (row.id, token)).unwrap()
}

fn hello_with(id: AgentId, region: &str, token: &str) -> Hello {
    Hello { region: region.to_owned(), join_token: token.to_owned(), ..hello(id) }
}

async fn refusal(hub: &Listening, hello: &Hello) -> Status {
    Agent::attach(hub, hello).await.err().expect("a refusal")
}

on_both_databases! {
    async fn a_token_lets_in_the_agents_of_its_region(app: TestApp) {
        let hub = listen(&app).await;
        let (eu, us) = (token(&app, "eu").await.1, token(&app, "us").await.1);
        let id = AgentId::generate();
        let elsewhere = refusal(&hub, &hello_with(id, "us", &eu)).await;
        assert_eq!(elsewhere.code(), Code::PermissionDenied, "{elsewhere}");
        assert_eq!(app.count("SELECT COUNT(*) FROM agents").await, 0);

        let agent = Agent::attach(&hub, &hello_with(id, "eu", &eu)).await.unwrap();
        assert_eq!(app.count("SELECT COUNT(*) FROM join_tokens WHERE last_used_us > 0").await, 1);
        agent.leave().await;
        // An id is known to others: it is in every connect token.
        let moved = refusal(&hub, &hello_with(id, "us", &us)).await;
        assert_eq!(moved.code(), Code::PermissionDenied, "{moved}");
        assert_eq!(app.count("SELECT COUNT(*) FROM agents WHERE region = 'eu'").await, 1);
        let agent = Agent::attach(&hub, &hello_with(id, "eu", &eu)).await.unwrap();
        assert_eq!(agent.epoch, 2);
        // The server's own token moves an agent, but none that lives.
        let lives = refusal(&hub, &hello_with(id, "us", "join")).await;
        assert_eq!(lives.code(), Code::PermissionDenied, "{lives}");
        agent.leave().await;
        assert!(Agent::attach(&hub, &hello_with(id, "us", "join")).await.is_ok());
        assert_eq!(app.count("SELECT COUNT(*) FROM agents WHERE region = 'us'").await, 1);
    }

    async fn a_revoked_token_ends_its_agents_streams_with_their_leases(app: TestApp) {
        let hub = listen(&app).await;
        let (id, eu) = token(&app, "eu").await;
        let mut agent =
            Agent::attach(&hub, &hello_with(AgentId::generate(), "eu", &eu)).await.unwrap();
        let mut other = Agent::attach(&hub, &hello(AgentId::generate())).await.unwrap();
        agent.say(Said::Heartbeat(Heartbeat { sequence: 1, warm: 0 }));
        assert!(matches!(agent.hear().await, Ok(Message::Lease(_))), "it is still good");

        operator::revoke(&app.app.db, id).await.unwrap();
        let open = "SELECT COUNT(*) FROM agents WHERE connected_us > 0";
        assert_eq!(app.count(open).await, 1, "nothing is placed there any more");
        agent.say(Said::Heartbeat(Heartbeat { sequence: 2, warm: 0 }));
        let cut = agent.hear().await.unwrap_err();
        assert_eq!((cut.code(), cut.message()), (Code::Unauthenticated, "the join token was revoked"));
        let again = refusal(&hub, &hello_with(AgentId::generate(), "eu", &eu)).await;
        assert_eq!(again.message(), "the join token was revoked");
        other.say(Said::Heartbeat(Heartbeat { sequence: 1, warm: 0 }));
        assert!(matches!(other.hear().await, Ok(Message::Lease(_))), "the others are unharmed");
    }

    async fn an_expired_token_is_as_good_as_revoked(app: TestApp) {
        let hub = listen(&app).await;
        let (_, eu) = token(&app, "eu").await;
        let mut agent =
            Agent::attach(&hub, &hello_with(AgentId::generate(), "eu", &eu)).await.unwrap();
        app.sql("UPDATE join_tokens SET expires_us = created_us", &[]).await;
        agent.say(Said::Heartbeat(Heartbeat { sequence: 1, warm: 0 }));
        let cut = agent.hear().await.unwrap_err();
        assert_eq!(cut.message(), "the join token has expired");
    }

    async fn files_are_for_the_agents_of_the_tokens_region(app: TestApp) {
        let hub = listen(&app).await;
        let (eu, us) = (token(&app, "eu").await.1, token(&app, "us").await.1);
        let id = AgentId::generate();
        let _agent = Agent::attach(&hub, &hello_with(id, "eu", &eu)).await.unwrap();
        let asked = |token: &str| FileRequest {
            agent_id: id.to_string(),
            join_token: token.to_owned(),
            session_id: SessionId::generate().to_string(),
            name: "a.txt".to_owned(),
        };
        let mut client = HubClient::connect(format!("http://{}", hub.address)).await.unwrap();
        for (token, code) in [
            (us.as_str(), Code::PermissionDenied),
            ("wrong", Code::Unauthenticated),
            (&eu, Code::NotFound), // let in: it is the session that is not there
            ("join", Code::NotFound),
        ] {
            assert_eq!(client.fetch(asked(token)).await.err().map(|e| e.code()), Some(code));
        }
    }

    async fn one_version_of_the_protocol_overlaps(app: TestApp) {
        let hub = listen(&app).await;
        for (version, upgrade) in [
            (PROTOCOL_VERSION + 1, "upgrade the control plane first"),
            (PROTOCOL_VERSION - 2, "upgrade the agent"),
        ] {
            let hello = Hello { protocol_version: version, ..hello(AgentId::generate()) };
            let refused = refusal(&hub, &hello).await;
            assert_eq!(refused.code(), Code::FailedPrecondition);
            assert!(refused.message().ends_with(upgrade), "{refused}");
        }
        for version in [PROTOCOL_VERSION, PROTOCOL_VERSION - 1] {
            let hello = Hello { protocol_version: version, ..hello(AgentId::generate()) };
            assert!(Agent::attach(&hub, &hello).await.is_ok(), "{version}");
        }
    }
}
