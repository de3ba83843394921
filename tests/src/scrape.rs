//! What a server's admin listener says, as a collector and the kubelet ask for it.

use std::time::Duration;

use crate::{eventually, fleet::free_port, server::Plan};

/// The admin listener of one server.
#[derive(Clone, Copy, Debug)]
pub struct Admin(u16);

/// Metrics as they were once.
#[derive(Clone, Debug)]
pub struct Scrape(pub String);

impl Admin {
    /// Gives a server one.
    pub fn of(plan: Plan) -> (Self, Plan) {
        let port = free_port();
        (Self(port), plan.flag("admin-listen", format!("127.0.0.1:{port}")))
    }

    /// Where a path of it is.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.0)
    }

    /// The status and the text of an answer. `None` when there is none.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        let http = reqwest::Client::builder().no_proxy().build().ok()?;
        let answer = http.get(self.url(path)).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// The statuses of `/livez`, `/startupz` and `/readyz`; 0 where no answer came.
    pub async fn probes(&self) -> [u16; 3] {
        let mut found = [0; 3];
        for (status, path) in found.iter_mut().zip(["/livez", "/startupz", "/readyz"]) {
            *status = self.get(path).await.map_or(0, |(status, _)| status);
        }
        found
    }

    /// Waits until the probes answer so.
    ///
    /// # Panics
    ///
    /// When they do not in time.
    pub async fn until_probes(&self, wanted: [u16; 3], within: Duration) {
        eventually(&format!("probes {wanted:?}"), within, || async {
            (self.probes().await == wanted).then_some(())
        })
        .await;
    }

    /// The metrics now.
    ///
    /// # Panics
    ///
    /// When there are none.
    pub async fn scrape(&self) -> Scrape {
        let (status, text) = self.get("/metrics").await.expect("an answer to a scrape");
        assert_eq!(status, 200, "{text}");
        Scrape(text)
    }

    /// Waits until the metrics are as they should be, and answers them.
    ///
    /// # Panics
    ///
    /// When they are not in time.
    pub async fn until(
        &self,
        what: &str,
        within: Duration,
        holds: impl Fn(&Scrape) -> bool,
    ) -> Scrape {
        eventually(what, within, || async {
            // A server that has just been started may not listen yet.
            let (status, text) = self.get("/metrics").await?;
            assert_eq!(status, 200, "{text}");
            Some(Scrape(text)).filter(&holds)
        })
        .await
    }
}

impl Scrape {
    /// The value of a series, written as in the text: `name{label="value"}`. `None`: it is not
    /// there.
    pub fn get(&self, series: &str) -> Option<f64> {
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        self.0.lines().find_map(value)
    }

    /// The sum of all series of a name.
    pub fn sum(&self, name: &str) -> f64 {
        let values = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let is_whole = rest.starts_with(['{', ' ']);
            is_whole.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        values.sum()
    }
}
