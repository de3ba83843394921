//! The log: to stderr, for people or as JSON lines.

use std::io::{IsTerminal, stderr};

use anyhow::Context;
use clap::{Args, ValueEnum};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, Targets},
    layer::{Filter, SubscriberExt},
    registry::LookupSpan,
    util::SubscriberInitExt,
};

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
        default_value = "human",
        value_name = "FORMAT",
        help_heading = "Log"
    )]
    log_format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Human,
    Json,
}

/// Below `info` these would log requests as they are, tokens included.
const DISCREET: [&str; 6] =
    ["tungstenite", "tokio_tungstenite", "hyper", "hyper_util", "h2", "reqwest"];

/// Starts the log of this process.
///
/// # Errors
///
/// When the filter cannot be read.
pub fn start(options: &Options) -> anyhow::Result<()> {
    let filter = filter(&options.log)?;
    let log = tracing_subscriber::fmt::layer().with_writer(stderr);
    let registry = tracing_subscriber::registry();
    match options.log_format {
        Format::Human => {
            let colour = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            registry.with(log.with_ansi(colour).with_target(false).with_filter(filter)).init();
        }
        Format::Json => {
            let log = log.json().flatten_event(true).with_current_span(true);
            registry.with(log.with_filter(filter)).init();
        }
    }
    Ok(())
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
    Ok(wanted.and(allowed))
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use tracing::trace;

    use super::*;

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
