//! A stand-in for an OpenTelemetry collector: takes traces by OTLP over gRPC, and keeps them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{span::SpanKind, status::StatusCode},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    metadata::MetadataMap,
    transport::{Identity, Server, ServerTlsConfig},
};

use crate::{authority::Signed, server::Plan};

/// A collector on a port of loopback. Dropped, it is gone.
#[derive(Debug)]
pub struct StandInCollector {
    url: String,
    kept: Arc<Mutex<Kept>>,
    task: JoinHandle<()>,
}

/// What was sent.
#[derive(Debug, Default)]
struct Kept {
    spans: Vec<Span>,
    metadata: Vec<MetadataMap>,
}

/// One span as it arrived.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// `service.name` of who sent it.
    pub service: String,
    /// Client, server, and so on.
    pub kind: SpanKind,
    /// In hexadecimal.
    pub trace_id: String,
    /// In hexadecimal.
    pub id: String,
    /// The id of its parent; empty: it has none.
    pub parent: String,
    /// As texts, whatever they are.
    pub attributes: BTreeMap<String, String>,
    /// Whether its status says that it failed.
    pub is_failed: bool,
    /// Unix nanoseconds.
    pub start_ns: u64,
    /// Unix nanoseconds.
    pub end_ns: u64,
    /// All of it, for who looks for something that must not be there.
    pub whole: String,
}

impl StandInCollector {
    /// Starts one on a free port.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn start() -> Self {
        Self::start_on(0).await
    }

    /// Starts one on this port.
    ///
    /// # Panics
    ///
    /// When the port is taken.
    pub async fn start_on(port: u16) -> Self {
        Self::serve("http", port, Server::builder()).await
    }

    /// Starts one on a free port that speaks TLS.
    ///
    /// # Panics
    ///
    /// When the certificate cannot be used.
    pub async fn start_tls(with: &Signed) -> Self {
        let read = |path| std::fs::read(path).expect("a file of the authority");
        let identity = Identity::from_pem(read(&with.certificate), read(&with.key));
        let tls = ServerTlsConfig::new().identity(identity);
        let server = Server::builder().tls_config(tls).expect("a certificate");
        Self::serve("https", 0, server).await
    }

    async fn serve(scheme: &str, port: u16, mut server: Server) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
        let port = listener.local_addr().expect("it listens").port();
        let kept = Arc::<Mutex<Kept>>::default();
        let server = server.add_service(TraceServiceServer::new(Taker(kept.clone())));
        let task = tokio::spawn(async move {
            let served = server.serve_with_incoming(TcpListenerStream::new(listener)).await;
            served.expect("a server");
        });
        Self { url: format!("{scheme}://localhost:{port}"), kept, task }
    }

    /// Has a server send its traces here, and soon.
    pub fn of(&self, plan: Plan) -> Plan {
        sending_to(&self.url, plan)
    }

    /// What has arrived so far.
    pub fn spans(&self) -> Vec<Span> {
        self.kept().spans.clone()
    }

    /// The same of one trace.
    pub fn trace(&self, trace_id: &str) -> Vec<Span> {
        self.kept().spans.iter().filter(|span| span.trace_id == trace_id).cloned().collect()
    }

    /// Whether all requests had this header.
    pub fn was_told(&self, name: &str, value: &str) -> bool {
        let kept = self.kept();
        let has = |metadata: &MetadataMap| metadata.get(name).is_some_and(|held| held == value);
        !kept.metadata.is_empty() && kept.metadata.iter().all(has)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a server send its traces to this URL, ten times a second.
pub fn sending_to(url: &str, plan: Plan) -> Plan {
    plan.env("OTEL_EXPORTER_OTLP_ENDPOINT", url).env("OTEL_BSP_SCHEDULE_DELAY", 100)
}

impl Drop for StandInCollector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Taker(Arc<Mutex<Kept>>);

#[tonic::async_trait]
impl TraceService for Taker {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, sent) = request.into_parts();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.metadata.push(metadata);
        for of_service in sent.resource_spans {
            let resource = of_service.resource.unwrap_or_default();
            let resource = texts(&resource.attributes);
            let service = resource.get("service.name").cloned().unwrap_or_default();
            let spans = of_service.scope_spans.into_iter().flat_map(|scope| scope.spans);
            kept.spans.extend(spans.map(|span| read(&service, &span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn read(service: &str, span: &opentelemetry_proto::tonic::trace::v1::Span) -> Span {
    let status = span.status.clone().unwrap_or_default();
    Span {
        name: span.name.clone(),
        service: service.to_owned(),
        kind: span.kind(),
        trace_id: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        attributes: texts(&span.attributes),
        is_failed: status.code() == StatusCode::Error,
        start_ns: span.start_time_unix_nano,
        end_ns: span.end_time_unix_nano,
        whole: format!("{span:?}"),
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(yes) => yes.to_string(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let text_of = |attribute: &KeyValue| {
        let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
        (attribute.key.clone(), value.map(text).unwrap_or_default())
    };
    attributes.iter().map(text_of).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
