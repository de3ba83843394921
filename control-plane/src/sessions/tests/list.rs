use std::collections::HashSet;

use http::Method;
use serde_json::{Value, json};

use crate::{
    sessions::object::rfc3339,
    testing::{TestApp, id_of, on_both_databases},
};

/// Creates sessions one after the other; their ids, newest first, by the ids' own order.
async fn sessions(app: &TestApp, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        let create = app.create(&format!("{}-{n}", ulid::Ulid::generate()));
        let body = json!({"labels": {
            "parity": (n % 2).to_string(), "n": n.to_string(), "a.b/c-d_e": "x", "123": "y",
        }});
        ids.push(id_of(&create.json(&body).send().await.expect(201)).to_string());
    }
    ids.sort();
    ids.reverse();
    ids
}

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| id_of(item).to_string()).collect()
}

async fn list(app: &TestApp, query: &str) -> Value {
    app.get(&format!("/v1/sessions?{query}")).send().await.expect(200)
}

on_both_databases! {
    async fn pages_show_everything_once_while_sessions_come(app: TestApp) {
        app.quick_agent("local", 100).await;
        let all = sessions(&app, 7).await;
        let mut seen = Vec::new();
        let mut query = "limit=3".to_owned();
        loop {
            let page = list(&app, &query).await;
            seen.extend(ids(&page));
            let rows = page["items"].as_array().unwrap().len();
            assert!(rows <= 3);
            // Younger sessions do not move what is still to come.
            sessions(&app, 2).await;
            let Some(cursor) = page["next_cursor"].as_str() else {
                assert_eq!(page["has_more"], false);
                break;
            };
            assert_eq!(page["has_more"], true);
            query = format!("limit=3&cursor={cursor}");
        }
        assert_eq!(seen, all);
        let page = list(&app, "limit=100").await;
        assert_eq!(ids(&page).len(), 13);
        assert_eq!(page["next_cursor"], json!(null));
    }

    async fn pages_are_stable_under_concurrent_inserts(app: TestApp) {
        app.quick_agent("local", 500).await;
        let before: HashSet<_> = sessions(&app, 30).await.into_iter().collect();
        let writers: Vec<_> = (0..4).map(|_| {
            let app = app.clone();
            tokio::spawn(async move { sessions(&app, 15).await })
        }).collect();
        let (mut seen, mut query) = (Vec::new(), "limit=5".to_owned());
        loop {
            let page = list(&app, &query).await;
            seen.extend(ids(&page));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            query = format!("limit=5&cursor={cursor}");
        }
        let distinct: HashSet<_> = seen.iter().cloned().collect();
        assert_eq!(distinct.len(), seen.len(), "a row twice");
        assert!(before.is_subset(&distinct), "a row missed");
        assert!(seen.is_sorted_by(|a, b| a > b));
        for writer in writers {
            writer.await.unwrap();
        }
    }

    async fn a_changed_cursor_is_refused(app: TestApp) {
        app.quick_agent("local", 10).await;
        sessions(&app, 3).await;
        let page = list(&app, "limit=1").await;
        let cursor = page["next_cursor"].as_str().unwrap();
        let mut changed = cursor.to_owned();
        let last = if changed.pop() == Some('A') { 'Q' } else { 'A' };
        changed.push(last);
        let other_end = format!("{}{}", if cursor.starts_with('M') { 'N' } else { 'M' }, &cursor[1..]);
        for query in [
            format!("cursor={changed}"),
            format!("cursor={other_end}"),
            "cursor=".to_owned(),
            "cursor=x".to_owned(),
            format!("cursor={cursor}&status=RUNNING"),
            format!("cursor={cursor}&label.n=1"),
        ] {
            let answer = app.get(&format!("/v1/sessions?{query}")).send().await;
            let problem = answer.problem(400, "validation-error");
            assert_eq!(problem["errors"][0]["pointer"], "?cursor", "{query}");
        }
        // Another limit is the same list.
        assert_eq!(ids(&list(&app, &format!("limit=2&cursor={cursor}")).await).len(), 2);
        let mut tx = app.tx().await;
        let other = crate::workspaces::insert(&mut tx, "other", "Other").await.unwrap();
        tx.commit().await.unwrap();
        let key = app.key_for(other, &["sessions:read"]).await;
        let stolen = app.get(&format!("/v1/sessions?limit=1&cursor={cursor}")).key(&key);
        stolen.send().await.problem(400, "validation-error");
    }

    async fn filters_choose(app: TestApp) {
        app.quick_agent("local", 10).await;
        app.quick_agent("eu", 10).await;
        let all = sessions(&app, 4).await;
        let in_eu = app.create("eu").json(&json!({"region": "eu"})).send().await.expect(201);
        let gone = &all[0];
        app.call(Method::DELETE, &format!("/v1/sessions/{gone}")).send().await.expect(204);
        let count = async |query: &str| ids(&list(&app, query).await).len();
        assert_eq!(count("").await, 5);
        assert_eq!(count("status=RUNNING").await, 4);
        assert_eq!(ids(&list(&app, "status=COMPLETED").await), all[..1]);
        assert_eq!(count("status=COMPLETED&status=RUNNING&status=ERRORED").await, 5);
        assert_eq!(count("status=QUEUED").await, 0);
        assert_eq!(ids(&list(&app, "region=eu").await), [id_of(&in_eu).to_string()]);
        assert_eq!(count("region=mars").await, 0);
        assert_eq!(count("label.parity=0").await, 2);
        assert_eq!(count("label.parity=0&label.n=2").await, 1);
        assert_eq!(count("label.parity=1&label.n=2").await, 0);
        assert_eq!(count("label.a.b/c-d_e=x").await, 4);
        assert_eq!(count("label.123=y").await, 4);
        assert_eq!(count("label.parity=").await, 0);
        let at = in_eu["created_at"].as_str().unwrap();
        let row = app.session(id_of(&in_eu)).await;
        assert_eq!(count(&format!("region=eu&created_after={at}")).await, 0);
        assert_eq!(count(&format!("region=eu&created_before={at}")).await, 0);
        let around = [row.created_us - 1000, row.created_us + 1000].map(rfc3339);
        let query = format!("region=eu&created_after={}&created_before={}", around[0], around[1]);
        assert_eq!(count(&query).await, 1);
        app.get("/v1/sessions?limit=0&nope=1").send().await.problem(400, "validation-error");
    }
}
