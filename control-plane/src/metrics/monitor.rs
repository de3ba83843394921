//! A replica seen from outside.

use std::time::Duration;

use exposition::Page;
use tokio::time::timeout;

use crate::{app::App, db};

/// How long the database may take to answer a probe: as long as Kubernetes waits for one.
const ANSWER_LIMIT: Duration = Duration::from_millis(900);

/// A replica seen from outside. Cheap to clone.
#[derive(Clone)]
pub struct Monitor(pub(crate) App);

impl Monitor {
    /// Whether requests are to be sent here: the database answers, and the replica is not about
    /// to stop.
    ///
    /// # Errors
    ///
    /// Why not.
    pub async fn ready(&self) -> Result<(), &'static str> {
        if self.0.closing.is_cancelled() {
            return Err("the control plane is stopping");
        }
        match timeout(ANSWER_LIMIT, self.0.db.ping()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err("the database does not answer"),
        }
    }

    /// Writes its metrics.
    pub fn show(&self, page: &mut Page) {
        let app = &self.0;
        app.metrics.show(page);
        let lengths = app.queue.lengths();
        let mut regions = app.metrics.seen.names();
        regions.extend(lengths.keys().cloned());
        regions.push(app.config.default_region.clone());
        regions.sort();
        regions.dedup();
        let help = "Requests that wait at this replica for a slot.";
        let mut series = page.gauge("ventus_queue_length", help);
        for region in &regions {
            let length = lengths.get(region).copied().unwrap_or_default();
            series.value(&[("region", region.as_str())], length);
        }
        let help = "Connections of this replica to the database.";
        let mut series = page.gauge("ventus_db_connections", help);
        let (idle, used) = app.db.connections();
        series.value(&[("state", "idle")], idle);
        series.value(&[("state", "used")], used);
        let help = "What this replica wanted of the database and did not get.";
        page.counter("ventus_db_statement_failures_total", help).value(&[], db::failures());
        let help = "Agents whose streams end at this replica.";
        page.gauge("ventus_agent_streams", help).value(&[], app.hub.streams());
    }
}
