use crate::{sessions, testing::{TestApp, id_of, on_both_databases}};
use std::time::Instant;
on_both_databases! {
    async fn perf(app: TestApp) {
        let agent = app.agent("local", 100000).await;
        // answers at once through the changes of the row: polls quickly
        let mut async_us = Vec::new(); let mut start_us = Vec::new(); let mut get_us = Vec::new();
        for n in 0..300 {
            let t = Instant::now();
            let s = app.create(&format!("k{n}")).header("prefer", "respond-async").send().await.expect(201);
            async_us.push(t.elapsed().as_micros());
            let id = id_of(&s);
            let t = Instant::now();
            sessions::started(&app.app, agent, id).await.unwrap();
            start_us.push(t.elapsed().as_micros());
            let t = Instant::now();
            app.get(&format!("/v1/sessions/{id}")).send().await.expect(200);
            get_us.push(t.elapsed().as_micros());
        }
        for (name, v) in [("create async", &mut async_us), ("started", &mut start_us), ("get", &mut get_us)] {
            v.sort(); println!("{name}: p50 {} p95 {}", v[150], v[285]);
        }
        let t = Instant::now();
        let tasks: Vec<_> = (0..500).map(|n| tokio::spawn(app.create(&format!("c{n}")).header("prefer","respond-async").send())).collect();
        for t in tasks { t.await.unwrap().expect(201); }
        println!("500 concurrent: {} ms", t.elapsed().as_millis());
    }
}
