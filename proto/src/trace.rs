//! Traces (W3C Trace Context, OpenTelemetry): how a session's spans come to be in the trace of
//! the request that made it, whichever process they are from.
//!
//! Spans that are exported have the target [`TARGET`], and no other span has it. Without an
//! exporter nobody listens to that target: such a span is then never made, and costs nothing.

use http::HeaderMap;
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The target of spans that are exported.
pub const TARGET: &str = "ventus::trace";

/// The `traceparent` of a request, if it has a valid one.
pub fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    parse(text).map(|_| text)
}

/// The current span as a `traceparent`, for those who are to continue its trace. `None` when
/// nothing is exported.
pub fn current() -> Option<String> {
    let (trace_id, span_id, flags) = Context::map_current(|context| {
        let span = context.span().span_context().clone();
        span.is_valid().then(|| (span.trace_id(), span.span_id(), span.trace_flags()))
    })?;
    Some(format!("00-{trace_id}-{span_id}-{flags:02x}"))
}

/// Makes a span that is exported the child of a `traceparent`. One that is not valid, such as
/// an empty one, changes nothing. To be called before the span is entered.
pub fn continues(span: &Span, traceparent: &str) {
    if span.is_disabled() {
        return;
    }
    if let Some(parent) = parse(traceparent) {
        // Refused only by a span that is not exported.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

/// Ends a span whose work has failed, with the kind of failure.
pub fn failed(span: Span, kind: &str) {
    span.record("otel.status_code", "ERROR").record("error.type", kind);
}

/// The ids of a trace and of a span in it, as 32 and 16 lower-case hexadecimal digits.
pub fn ids(traceparent: &str) -> Option<(&str, &str)> {
    parse(traceparent)?;
    Some((traceparent.get(3..35)?, traceparent.get(36..52)?))
}

/// Version 00 of the header, and that exactly.
fn parse(text: &str) -> Option<SpanContext> {
    let parts: Vec<_> = text.split('-').collect();
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    };
    let ["00", trace, span, flags] = parts[..] else { return None };
    if !hex(trace, 32) || !hex(span, 16) || !hex(flags, 2) {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_traceparent_is_carried_on() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut headers = HeaderMap::new();
        assert_eq!(traceparent(&headers), None);
        headers.insert("traceparent", good.parse().unwrap());
        assert_eq!(traceparent(&headers), Some(good));
        assert_eq!(ids(good), Some(("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")));
        for bad in [
            "",
            "00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        ] {
            headers.insert("traceparent", bad.parse().unwrap());
            assert_eq!(traceparent(&headers), None, "{bad}");
            assert_eq!(ids(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_traceparent_is_read_and_written_alike() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        assert_eq!(current(), None);
        let context = Context::new().with_remote_span_context(parse(good).unwrap());
        let _inside = context.attach();
        assert_eq!(current().as_deref(), Some(good));
    }
}
