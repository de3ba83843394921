//! The log as JSON lines: one flat object each.
//!
//! Every line has `timestamp` (RFC 3339), `level`, `target` and `message`; where there is one,
//! `trace_id`, `span_id`, `request_id` and `session_id`; and the fields of the event and of what
//! it happened in. What is logged as `session` is `session_id` here.

use std::fmt;

use opentelemetry::{Context, trace::TraceContextExt};
use proto::trace;
use serde_json::{Map, Value, json};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormattedFields,
        format::{FormatEvent, FormatFields, JsonFields, Writer},
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// Formats an event whose spans' fields are [`JsonFields`].
pub struct Lines;

impl<S> FormatEvent<S, JsonFields> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Map::new();
        // The innermost counts, and the event most of all.
        for span in context.event_scope().into_iter().flatten().collect::<Vec<_>>().iter().rev() {
            if let Some(written) = span.extensions().get::<FormattedFields<JsonFields>>() {
                add(&mut fields, &written.fields);
            }
        }
        let mut own = String::new();
        context.format_fields(Writer::new(&mut own), event)?;
        add(&mut fields, &own);
        name_ids(&mut fields);

        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let metadata = event.metadata();
        let message = fields.remove("message").unwrap_or_default();
        let always: [(&str, Value); 4] = [
            ("timestamp", timestamp.into()),
            ("level", metadata.level().as_str().into()),
            ("target", metadata.target().into()),
            ("message", message),
        ];
        out.write_char('{')?;
        for (index, (name, value)) in always.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(out, "{comma}\"{name}\":{value}")?;
            fields.remove(*name);
        }
        for (name, value) in &fields {
            write!(out, ",{}:{value}", json!(name))?;
        }
        writeln!(out, "}}")
    }
}

fn add(fields: &mut Map<String, Value>, written: &str) {
    // A span without fields has written nothing.
    if let Ok(Value::Object(written)) = serde_json::from_str(written) {
        fields.extend(written);
    }
}

/// The ids of the span that is exported; if none is, those that the caller sent.
fn name_ids(fields: &mut Map<String, Value>) {
    if let Some(session) = fields.remove("session") {
        fields.insert("session_id".into(), session);
    }
    let sent = fields.remove("traceparent");
    let exported = Context::map_current(|context| {
        let span = context.span().span_context().clone();
        span.is_valid().then(|| (span.trace_id().to_string(), Some(span.span_id().to_string())))
    });
    let sent = || {
        let (trace_id, _) = trace::ids(sent.as_ref()?.as_str()?)?;
        Some((trace_id.to_owned(), None))
    };
    if let Some((trace_id, span_id)) = exported.or_else(sent) {
        fields.insert("trace_id".into(), trace_id.into());
        fields.extend(span_id.map(|span_id| ("span_id".into(), span_id.into())));
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use opentelemetry::{
        Context,
        trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
    };
    use tracing::{error_span, info, warn};
    use tracing_subscriber::{fmt, layer::SubscriberExt};

    use super::*;

    fn logged(log: impl FnOnce()) -> Vec<Map<String, Value>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = Arc::new(file.reopen().unwrap());
        let layer = fmt::layer().fmt_fields(JsonFields::new()).event_format(Lines);
        let subscriber = tracing_subscriber::registry().with(layer.with_writer(writer));
        tracing::subscriber::with_default(subscriber, log);
        let text = fs::read_to_string(file.path()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_line_has_what_happened_and_in_what() {
        let lines = logged(|| {
            let request = error_span!("request", request_id = "r", traceparent = SENT, path = "/x");
            let _request = request.enter();
            let session = error_span!("session", session = 7, empty = tracing::field::Empty);
            let _session = session.enter();
            warn!(count = 3, path = "of the event", "\"quoted\" and\nbroken");
        });
        let line = Value::Object(lines[0].clone());
        for (name, value) in [
            ("level", json!("WARN")),
            ("target", json!("ventus::telemetry::json::tests")),
            ("message", json!("\"quoted\" and\nbroken")),
            ("count", json!(3)),
            ("path", json!("of the event")),
            ("request_id", json!("r")),
            ("session_id", json!(7)),
            ("trace_id", json!("4bf92f3577b34da6a3ce929d0e0e4736")),
        ] {
            assert_eq!(line[name], value, "{name}");
        }
        let format = time::format_description::well_known::Rfc3339;
        let timestamp = line["timestamp"].as_str().unwrap();
        assert!(time::OffsetDateTime::parse(timestamp, &format).is_ok(), "{timestamp}");
        assert_eq!(lines[0].len(), 9, "and nothing else: {line}");
    }

    #[test]
    fn a_line_of_a_span_that_is_exported_has_its_ids_and_not_what_was_sent() {
        let lines = logged(|| {
            let span = SpanContext::new(
                TraceId::from(0xa1),
                SpanId::from(0xb2),
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            );
            let _exported = Context::new().with_remote_span_context(span).attach();
            info!(traceparent = SENT);
        });
        assert_eq!(lines[0]["trace_id"], format!("{:032x}", 0xa1));
        assert_eq!(lines[0]["span_id"], format!("{:016x}", 0xb2));
    }

    #[test]
    fn what_is_always_there_is_there_once() {
        let lines = logged(|| info!(level = "mine", timestamp = 1, "text"));
        assert_eq!(lines[0]["level"], "INFO");
        assert_eq!(lines[0].len(), 4);
    }
}
