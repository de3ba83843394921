//! What pods cost to delete.

use std::collections::HashMap;

use super::*;
use crate::agents::roster;

const PODS: [&str; 2] = [
    "shop-agents-7d9f8-x2x4z/0b0e4a0e-6b5c-4f6e-9b5e-0a4d5f3a2c1b",
    "shop-agents-7d9f8-k8k2q/1b0e4a0e-6b5c-4f6e-9b5e-0a4d5f3a2c1b",
];

on_both_databases! {
    async fn a_pod_costs_as_much_as_slots_are_in_use_at_the_replica_that_its_agent_dialled(
        app: TestApp
    ) {
        let other = app.another().await;
        let (hub, elsewhere) = (listen(&app).await, listen(&other).await);
        let with = |pod: &str| Hello { pod: pod.to_owned(), ..hello(AgentId::generate()) };
        let busy = with(PODS[0]);
        let mut agent = Agent::attach(&hub, &busy).await.unwrap();
        run_session(&app, &mut agent, "k").await;
        let _idle = Agent::attach(&elsewhere, &with(PODS[1])).await.unwrap();
        let _without = Agent::attach(&hub, &with("")).await.unwrap();

        let (mut here, mut there) = (app.app.costs.looks(), other.app.costs.looks());
        roster::look(&app.app).await.unwrap();
        roster::look(&other.app).await.unwrap();
        let costs = |pod: &str, cost| HashMap::from([(pod.parse().unwrap(), cost)]);
        assert_eq!(*here.borrow_and_update(), costs(PODS[0], 1));
        assert_eq!(*there.borrow_and_update(), costs(PODS[1], 0));

        // A drain changes nothing of it: what runs, runs.
        app.sql("UPDATE agents SET draining = 1", &[]).await;
        roster::look(&app.app).await.unwrap();
        assert_eq!(*here.borrow_and_update(), costs(PODS[0], 1));
        other.app.db.close().await;
    }

    async fn an_agent_with_a_pod_that_can_be_none_is_not_let_in(app: TestApp) {
        let hub = listen(&app).await;
        for pod in ["x", "../secrets/x", &PODS[0].replace('/', "")] {
            let wrong = Hello { pod: pod.to_owned(), ..hello(AgentId::generate()) };
            assert_eq!(refused(&hub, wrong).await, Some(Code::FailedPrecondition), "{pod}");
        }
    }
}
