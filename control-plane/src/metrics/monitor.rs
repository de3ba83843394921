//! A replica seen from outside.

use std::{fmt, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::MetricType,
};
use tokio::time::timeout;

use crate::{app::App, db};

/// How long the database may take to answer a probe: as long as Kubernetes waits for one.
const ANSWER_LIMIT: Duration = Duration::from_millis(900);

/// A replica seen from outside. Cheap to clone. It collects its metrics.
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
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}

impl Collector for Monitor {
    fn encode(&self, mut page: DescriptorEncoder<'_>) -> fmt::Result {
        let app = &self.0;
        app.metrics.encode(&mut page)?;
        let lengths = app.queue.lengths();
        let mut regions = app.metrics.seen.names();
        regions.extend(lengths.keys().cloned());
        regions.push(app.config.default_region.clone());
        regions.sort();
        regions.dedup();
        let help = "Requests that wait at this replica for a slot.";
        let mut series =
            page.encode_descriptor("ventus_queue_length", help, None, MetricType::Gauge)?;
        for region in &regions {
            let length = lengths.get(region).copied().unwrap_or_default() as u64;
            series.encode_family(&[("region", region.as_str())])?.encode_gauge(&length)?;
        }
        let help = "Connections of this replica to the database.";
        let mut series =
            page.encode_descriptor("ventus_db_connections", help, None, MetricType::Gauge)?;
        let (idle, used) = app.db.connections();
        for (state, count) in [("idle", idle), ("used", used)] {
            series.encode_family(&[("state", state)])?.encode_gauge(&count)?;
        }
        db::failures().encode(page.encode_descriptor(
            "ventus_db_statement_failures",
            "What this replica wanted of the database and did not get.",
            None,
            MetricType::Counter,
        )?)?;
        let help = "Agents whose streams end at this replica.";
        page.encode_descriptor("ventus_agent_streams", help, None, MetricType::Gauge)?
            .encode_gauge(&(app.hub.streams() as u64))
    }
}
