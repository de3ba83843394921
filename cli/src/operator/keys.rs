//! `ventus keys`: the keys that the server itself signs with.

use ::control_plane::signing;
use clap::{Args, Subcommand};

use super::Options;
use crate::style::say;

/// Flags of `ventus keys`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Sign connect tokens with a new key
    ///
    /// Servers that run take it over by themselves, within a minute. Tokens that are out stay
    /// good until the next rotation.
    Rotate(Options),
}

/// Runs one of them.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.action {
        Action::Rotate(options) => rotate(&options).await,
    }
}

async fn rotate(options: &Options) -> anyhow::Result<()> {
    let (db, secrets) = options.open().await?;
    let rotated = signing::rotate(&db, &secrets).await;
    db.close().await;
    rotated?;
    say("a new key signs connect tokens within a minute; the one before it is still good");
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn rotate_in(dir: &std::path::Path) -> Arguments {
        let dir = dir.to_str().unwrap();
        Line::try_parse_from(["keys", "rotate", "--data-dir", dir]).unwrap().arguments
    }

    #[tokio::test]
    async fn a_directory_without_a_server_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let error = run(rotate_in(dir.path())).await.unwrap_err();
        assert!(error.is::<crate::Usage>(), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
