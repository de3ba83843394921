//! What the process tells of itself: a log to stderr, for people or as JSON lines, and traces.
//!
//! The log shows no span that is exported, and nothing but those is: neither can tell what only
//! the other one is to.

mod export;
mod json;

use std::io::{IsTerminal, stderr};

use anyhow::Context;
use clap::{Args, ValueEnum};
use proto::trace;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, Targets},
    fmt::format::JsonFields,
    layer::{Filter, SubscriberExt},
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use self::export::Exporter;

/// How the log looks and what it holds.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Options {
    /// What to log: a level, or a list like `info,agent=debug`
    #[arg(
        long,
        global = true,
        env = "VENTUS_LOG",
        default_value = "info",
        value_name = "FILTER",
        help_heading = "Log"
    )]
    log: String,
    /// How log lines look
    #[arg(
        long,
        global = true,
        env = "VENTUS_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT",
        help_heading = "Log"
    )]
    log_format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Below `info` these would log requests as they are, tokens included.
const DISCREET: [&str; 6] =
    ["tungstenite", "tokio_tungstenite", "hyper", "hyper_util", "h2", "reqwest"];

/// What is to be ended with the process.
pub struct Telemetry(Option<Exporter>);

impl Telemetry {
    /// Sends the traces that are left. Blocks for a bounded time; the runtime must still be there.
    pub fn finish(self) {
        if let Some(exporter) = self.0 {
            exporter.finish();
        }
    }
}

/// Starts the log of this process, and the traces of a `service` if a collector is named. Needs
/// a runtime to be entered.
///
/// # Errors
///
/// When the filter or the variables for traces cannot be read.
pub fn start(options: &Options, service: Option<&'static str>) -> anyhow::Result<Telemetry> {
    let filter = filter(&options.log)?;
    let exporter = service.map(Exporter::start).transpose()?.flatten();
    let log = tracing_subscriber::fmt::layer().with_writer(stderr);
    let log = match options.log_format {
        Format::Text => {
            let colour = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            log.with_ansi(colour).with_target(false).with_filter(filter).boxed()
        }
        Format::Json => {
            let log = log.fmt_fields(JsonFields::new()).event_format(json::Lines);
            log.with_filter(filter).boxed()
        }
    };
    let traces = exporter.as_ref().map(|exporter| {
        tracing_opentelemetry::layer()
            .with_tracer(exporter.tracer())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target(trace::TARGET, LevelFilter::INFO))
            .boxed()
    });
    subscriber(log, traces).init();
    Ok(Telemetry(exporter))
}

type AnyLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Without traces there must be no layer for them, not even a `None`: that one wants all
/// spans, the log refuses them, and tracing-subscriber 0.3.23 then drops the next event of the
/// thread as if the refusal had been meant for it.
fn subscriber(log: AnyLayer, traces: Option<AnyLayer>) -> impl Subscriber + Send + Sync {
    let mut layers = vec![log];
    layers.extend(traces);
    tracing_subscriber::registry().with(layers)
}

/// What was asked for, but for what nobody may have: a filter of its own, as in the same one a
/// directive for a part of a library, like `h2::codec`, would win.
fn filter<S>(wanted: &str) -> anyhow::Result<impl Filter<S> + use<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let wanted = EnvFilter::builder()
        .parse(wanted)
        .with_context(|| format!("cannot read the log filter {wanted:?}"))?;
    let discreet = DISCREET.map(|library| (library, LevelFilter::INFO));
    let allowed = Targets::new().with_default(LevelFilter::TRACE).with_targets(discreet);
    let allowed = allowed.with_target(trace::TARGET, LevelFilter::OFF);
    Ok(wanted.and(allowed))
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use tracing::{Level, enabled, info, info_span, trace};

    use super::*;

    #[test]
    fn a_span_that_is_not_exported_takes_no_line_of_the_log_along() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let writer = Arc::new(log.reopen().unwrap());
        let layer = tracing_subscriber::fmt::layer().with_writer(writer);
        let subscriber = subscriber(layer.with_filter(filter("info").unwrap()).boxed(), None);
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..3 {
                let span = info_span!(target: trace::TARGET, "exported");
                assert!(!enabled!(target: trace::TARGET, Level::INFO));
                span.in_scope(|| info!(number, "a line"));
            }
        });
        let log = fs::read_to_string(log.path()).unwrap();
        assert_eq!(log.lines().count(), 3, "{log}");
    }

    #[test]
    fn no_filter_makes_libraries_tell_of_requests_as_they_are() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let writer = Arc::new(log.reopen().unwrap());
        let layer = tracing_subscriber::fmt::layer().with_writer(writer);
        let wanted = filter("trace,h2=trace,h2::codec=trace,hyper::proto=trace").unwrap();
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(wanted));
        tracing::subscriber::with_default(subscriber, || {
            trace!(target: "h2::codec::framed_read", "a token");
            trace!(target: "hyper::proto::h1", "a token");
            trace!("what is ours");
        });
        let log = fs::read_to_string(log.path()).unwrap();
        assert!(log.contains("what is ours") && !log.contains("a token"), "{log}");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_shown() {
        let Err(error) = filter::<tracing_subscriber::Registry>("=, =") else {
            panic!("this is no filter");
        };
        assert!(error.to_string().contains("\"=, =\""), "{error}");
    }
}
