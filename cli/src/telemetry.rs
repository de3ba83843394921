//! The log: to stderr, for people or as JSON lines.

use std::io::{IsTerminal, stderr};

use anyhow::Context;
use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

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

/// Below these levels the libraries would log requests as they are, tokens included.
const NEVER_BELOW: [&str; 6] = [
    "tungstenite=info",
    "tokio_tungstenite=info",
    "hyper=info",
    "hyper_util=info",
    "h2=info",
    "reqwest=info",
];

/// Starts the log of this process.
///
/// # Errors
///
/// When the filter cannot be read.
pub fn start(options: &Options) -> anyhow::Result<()> {
    let mut filter = EnvFilter::builder()
        .parse(&options.log)
        .with_context(|| format!("cannot read the log filter {:?}", options.log))?;
    for directive in NEVER_BELOW {
        filter = filter.add_directive(directive.parse()?);
    }
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match options.log_format {
        Format::Human => {
            let colour = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            log.with_ansi(colour).with_target(false).init();
        }
        Format::Json => log.json().flatten_event(true).with_current_span(true).init(),
    }
    Ok(())
}
