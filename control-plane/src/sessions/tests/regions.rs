use http::Method;
use serde_json::json;

use crate::testing::{TestApp, id_of, on_both_databases, until};

on_both_databases! {
    async fn a_session_goes_to_the_first_of_its_regions_with_room(app: TestApp) {
        for region in ["eu", "local", "us"] {
            app.quick_agent(region, 1).await;
        }
        let create = async |key: &str, region| {
            let create = app.create(key).header("prefer", "wait=0").json(&json!({"region": region}));
            create.send().await
        };
        let us = create("1", json!(["us", "eu", "us"])).await.expect(201);
        let eu = create("2", json!(["us", "eu"])).await.expect(201);
        assert_eq!((&us["region"], &eu["region"]), (&json!("us"), &json!("eu")));
        let full = create("3", json!(["us", "eu"])).await;
        let problem = full.problem(503, "insufficient-capacity");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("any of the regions us, eu"), "{detail}");
        assert!(detail.ends_with("; other regions: local"), "{detail}");
        app.call(Method::DELETE, &format!("/v1/sessions/{}", id_of(&eu))).send().await.expect(204);
        until(async || !app.session(id_of(&eu)).await.slot_held).await;
        // The default region comes first.
        for (key, region) in [("4", "local"), ("5", "eu")] {
            assert_eq!(create(key, json!("any")).await.expect(201)["region"], region);
        }
        let full = create("6", json!("any")).await.problem(503, "insufficient-capacity");
        assert!(full["detail"].as_str().unwrap().ends_with("; there is no other region"), "{full}");
    }

    async fn the_first_slot_in_any_of_its_regions_ends_a_requests_wait(app: TestApp) {
        for region in ["eu", "us"] {
            app.quick_agent(region, 1).await;
        }
        let create = |key: &str, region| {
            let create = app.create(key).header("prefer", "wait=60");
            create.json(&json!({"region": region})).send()
        };
        let first = create("1", json!("eu")).await.expect(201);
        create("2", json!("us")).await.expect(201);
        let waiting = tokio::spawn(create("3", json!(["us", "eu"])));
        let queue = &app.app.queue;
        let lengths = async || queue.lengths().values().copied().collect::<Vec<_>>();
        until(async || lengths().await == [1, 1]).await;
        let path = format!("/v1/sessions/{}", id_of(&first));
        app.call(Method::DELETE, &path).send().await.expect(204);
        assert_eq!(waiting.await.unwrap().expect(201)["region"], "eu");
        assert_eq!(lengths().await, [0_usize; 0]);
    }

    async fn a_list_with_a_region_that_does_not_exist_is_refused_but_not_its_repetition(app: TestApp) {
        app.quick_agent("eu", 1).await;
        let body = json!({"region": ["eu", "mars"]});
        let refused = app.create("k").json(&body).send().await.problem(422, "unknown-region");
        assert!(refused["detail"].as_str().unwrap().contains("\"mars\""), "{refused}");
        app.quick_agent("mars", 1).await;
        let made = app.create("k").json(&body).send().await.expect(201);
        app.sql("UPDATE agents SET region = 'venus' WHERE region = 'mars'", &[]).await;
        assert_eq!(app.create("k").json(&body).send().await.expect(200)["id"], made["id"]);
        app.create("l").json(&body).send().await.problem(422, "unknown-region");
    }
}
