//! `ventus completion`: what a shell needs to complete command lines.

use clap::{Args, Command};
use clap_complete::{Shell, generate};

use crate::style::say;

/// Flags of `ventus completion`.
#[derive(Debug, Args)]
pub struct Options {
    /// The shell
    shell: Shell,
}

/// Prints the script. `command` is the whole command line.
pub fn run(options: &Options, mut command: Command) {
    let mut script = Vec::new();
    generate(options.shell, &mut command, "ventus", &mut script);
    say(String::from_utf8_lossy(&script).trim_end());
}
