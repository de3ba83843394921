//! Traces, sent to a collector by OTLP over gRPC, if the standard environment variables name one.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, bail};
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
    trace::{SdkTracer, SdkTracerProvider, SpanData},
};
use tonic::transport::{Certificate, ClientTlsConfig};
use tracing::{info, warn};

use crate::control_plane::VERSION;

/// How long the last spans may take to be sent when the process ends.
const FLUSH: Duration = Duration::from_secs(2);

/// Sends spans in the background until it is [finished](Exporter::finish).
pub struct Exporter {
    provider: SdkTracerProvider,
}

impl Exporter {
    /// Starts one for this service, if a collector is named. Needs a runtime to be entered.
    ///
    /// # Errors
    ///
    /// When the variables make no sense, or ask for what this build cannot do.
    pub fn start(service: &'static str) -> anyhow::Result<Option<Self>> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if !is_wanted(variable)? {
            return Ok(None);
        }
        let mut tls = ClientTlsConfig::new().with_enabled_roots();
        if let Some(path) = either(variable, "CERTIFICATE").map(PathBuf::from) {
            let pem = std::fs::read(&path);
            let pem = pem.with_context(|| format!("cannot read {}", path.display()))?;
            tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        }
        let exporter = SpanExporter::builder().with_tonic().with_tls_config(tls).build();
        let exporter = exporter.context("cannot send traces")?;
        let exporter = Telling { exporter, is_away: AtomicBool::new(false) };
        let provider = SdkTracerProvider::builder()
            .with_resource(resource(service, variable("OTEL_SERVICE_NAME")))
            .with_batch_exporter(exporter)
            .build();
        Ok(Some(Self { provider }))
    }

    /// What makes spans.
    pub fn tracer(&self) -> SdkTracer {
        self.provider.tracer("ventus")
    }

    /// Sends what is left, or gives it up. Blocks; the runtime must still be there.
    pub fn finish(self) {
        if self.provider.shutdown_with_timeout(FLUSH).is_err() {
            warn!("the last traces could not be sent in time");
        }
    }
}

/// Whether a collector is named.
fn is_wanted(variable: impl Fn(&str) -> Option<String> + Copy) -> anyhow::Result<bool> {
    let is =
        |name: &str, value: &str| variable(name).is_some_and(|is| is.eq_ignore_ascii_case(value));
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return Ok(false);
    }
    if either(variable, "ENDPOINT").is_none() {
        return Ok(false);
    }
    if let Some(exporter) = variable("OTEL_TRACES_EXPORTER").filter(|exporter| exporter != "otlp") {
        bail!("OTEL_TRACES_EXPORTER is {exporter:?}; there are `otlp` and `none`");
    }
    if let Some(protocol) = either(variable, "PROTOCOL").filter(|protocol| protocol != "grpc") {
        bail!("OTEL_EXPORTER_OTLP_PROTOCOL is {protocol:?}; there is only `grpc`");
    }
    Ok(true)
}

/// A setting of the exporter: for traces, or for all signals.
fn either(variable: impl Fn(&str) -> Option<String>, what: &str) -> Option<String> {
    variable(&format!("OTEL_EXPORTER_OTLP_TRACES_{what}"))
        .or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{what}")))
}

/// Who sends: this service and version, unless `OTEL_RESOURCE_ATTRIBUTES` says something else.
fn resource(service: &'static str, named: Option<String>) -> Resource {
    let resource = Resource::builder_empty()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", VERSION))
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()));
    match named {
        Some(name) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}

/// An exporter that says once that spans cannot be sent, and once that they can again.
#[derive(Debug)]
struct Telling {
    exporter: SpanExporter,
    is_away: AtomicBool,
}

impl opentelemetry_sdk::trace::SpanExporter for Telling {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        match (&sent, self.is_away.swap(sent.is_err(), Relaxed)) {
            (Err(error), false) => {
                warn!(%error, spans, "traces cannot be sent; until they can, they are dropped");
            }
            (Ok(()), true) => info!("traces are sent again"),
            _ => (),
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(set: &[(&str, &str)]) -> Result<bool, String> {
        let value = |name: &str| set.iter().find(|(of, _)| *of == name).map(|(_, value)| *value);
        is_wanted(|name| value(name).map(str::to_owned)).map_err(|error| error.to_string())
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");

    #[test]
    fn traces_are_sent_only_where_a_collector_is_named() {
        assert_eq!(wanted(&[]), Ok(false));
        assert_eq!(wanted(&[ENDPOINT]), Ok(true));
        let for_traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4317");
        assert_eq!(wanted(&[for_traces]), Ok(true));
        assert_eq!(wanted(&[ENDPOINT, ("OTEL_SDK_DISABLED", "True")]), Ok(false));
        assert_eq!(wanted(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]), Ok(false));
        assert_eq!(wanted(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "otlp")]), Ok(true));
        assert_eq!(wanted(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]), Ok(true));
    }

    #[test]
    fn what_this_build_cannot_do_is_refused() {
        let refused = wanted(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "zipkin")]).unwrap_err();
        assert!(refused.contains("zipkin"), "{refused}");
        let http = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf");
        assert!(wanted(&[ENDPOINT, http]).unwrap_err().contains("http/protobuf"));
    }

    #[test]
    fn a_service_has_its_own_name_unless_it_is_given_another() {
        let name = |named: Option<&str>| {
            let resource = resource("ventus", named.map(str::to_owned));
            resource.get(&"service.name".into()).unwrap().to_string()
        };
        assert_eq!(name(None), "ventus");
        assert_eq!(name(Some("mine")), "mine");
    }
}
