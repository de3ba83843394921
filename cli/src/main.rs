//! The `ventus` command: one file a subcommand, and what they share.

mod admin;
mod agent;
mod browser;
mod capacity;
mod client;
mod cluster;
mod completion;
mod control_plane;
mod data_dir;
mod doctor;
mod forwarded;
mod hub;
mod layers;
mod listen;
mod operator;
mod people;
mod ready;
mod serve;
mod session_limits;
mod shutdown;
mod style;
mod telemetry;
mod r#try;
mod unrepeated;
mod up;

use std::{process::ExitCode, time::Duration};

use clap::{CommandFactory, Parser, Subcommand};
use tokio::runtime::Builder;

/// Browsers on demand: an API that starts Chromium and hands out a CDP URL.
#[derive(Debug, Parser)]
#[command(name = "ventus", version, max_term_width = 100, after_help = client::EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    telemetry: telemetry::Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything in one process: the API, the browsers and a SQLite store.
    Up(up::Options),
    /// Run a first session against a running server and print code to paste.
    Try(r#try::Options),
    /// Say what this machine lacks and how to mend it.
    Doctor(doctor::Options),
    /// Create, list, use and end sessions.
    Session(client::session::Arguments),
    /// Keep cookies and storage for later sessions.
    Profile(client::profile::Arguments),
    /// See the agents of a server, and take them out of service.
    Agents(client::agents::Arguments),
    /// Sign in, to manage keys and workspaces.
    Login(client::login::Login),
    /// Sign out.
    Logout(client::login::Logout),
    /// Make, list and revoke API keys.
    Key(client::key::Arguments),
    /// Manage workspaces and who is in them.
    Workspace(client::workspace::Arguments),
    /// Print a script that completes command lines in your shell.
    Completion(completion::Options),
    /// Run only the control plane: the API and the hub that agents dial.
    ControlPlane(control_plane::Options),
    /// Run only an agent: browsers and the data plane of one region.
    Agent(agent::Options),
    /// Make, list and revoke the tokens that agents join with, on the machine of a server's data.
    JoinToken(operator::join_token::Arguments),
    /// List a server's regions, on the machine of its data.
    Region(operator::region::Arguments),
    /// Rotate the keys that a server signs and encrypts with, on the machine of its data.
    Keys(operator::keys::Arguments),
    /// Run a server: what needs nobody to be signed in, on the machine of its data.
    Operator(operator::Arguments),
}

/// How long the runtime may take to let go of what is left when a command is done.
const RUNTIME_SHUTDOWN: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut runtime = Builder::new_multi_thread();
    // A thread may be started by one that carries a crowd.
    runtime.enable_all().on_thread_start(::agent::crowd::none_on_this_thread);
    let runtime = match runtime.build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: could not start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let started = {
        let _inside = runtime.enter();
        telemetry::start(&cli.telemetry, cli.command.service())
    };
    let telemetry = match started {
        Ok(telemetry) => telemetry,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(2);
        }
    };
    shutdown::raise_descriptor_limit();
    let outcome = runtime.block_on(run(cli.command));
    telemetry.finish();
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN);
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
    })
}

impl Command {
    /// What it is called in traces, if it makes any.
    fn service(&self) -> Option<&'static str> {
        match self {
            Self::Up(_) => Some("ventus"),
            Self::ControlPlane(_) => Some("ventus-control-plane"),
            Self::Agent(_) => Some("ventus-agent"),
            _ => None,
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(options) => up::run(options).await?,
        Command::Try(options) => r#try::run(options).await?,
        Command::Doctor(options) => return doctor::run(options).await,
        Command::Session(arguments) => return Ok(client::session::run(arguments).await),
        Command::Profile(arguments) => return Ok(client::profile::run(arguments).await),
        Command::Agents(arguments) => return Ok(client::agents::run(arguments).await),
        Command::Login(login) => return Ok(client::login::login(login).await),
        Command::Logout(logout) => return Ok(client::login::logout(logout).await),
        Command::Key(arguments) => return Ok(client::key::run(arguments).await),
        Command::Workspace(arguments) => return Ok(client::workspace::run(arguments).await),
        Command::Completion(options) => completion::run(&options, Cli::command()),
        Command::ControlPlane(options) => control_plane::run(options).await?,
        Command::Agent(options) => agent::run(options).await?,
        Command::JoinToken(arguments) => operator::join_token::run(arguments).await?,
        Command::Region(arguments) => operator::region::run(arguments).await?,
        Command::Keys(arguments) => operator::keys::run(arguments).await?,
        Command::Operator(arguments) => operator::run(arguments).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A fault of the command line that only shows after parsing: exit code 2, as clap's own.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error for a command line that makes no sense.
fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_a_server_has_an_environment_variable() {
        let servers = ["up", "control-plane", "agent", "try", "doctor"];
        let command = Cli::command();
        for command in servers.map(|name| command.find_subcommand(name).unwrap()) {
            for flag in command.get_arguments().filter(|flag| flag.get_long().is_some()) {
                let env = flag.get_env().map(|name| name.to_string_lossy().into_owned());
                assert!(
                    env.as_deref().is_some_and(|name| name.starts_with("VENTUS_")),
                    "{} {flag}",
                    command.get_name()
                );
            }
        }
    }
}
