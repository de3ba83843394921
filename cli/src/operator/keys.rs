//! `ventus keys`: the keys that the server itself signs and encrypts with.

use ::control_plane::{Rotated, rotate_master, secrets::Secrets, signing};
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
    /// Encrypt what is stored with a new master key
    ///
    /// Servers that run take it over by themselves. A rotation that was cut short is completed
    /// by running this again.
    ///
    /// Where VENTUS_MASTER_KEY gives the key, you change it: first give every server the old key,
    /// a comma and the new key, then every server the new key, a comma and the old key; then run
    /// this with the latter, and take the old key away.
    RotateMaster(Options),
}

/// Runs one of them.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.action {
        Action::Rotate(options) => rotate(&options).await,
        Action::RotateMaster(options) => rotate_master_key(&options).await,
    }
}

async fn rotate(options: &Options) -> anyhow::Result<()> {
    let secrets = Secrets::open(&options.with_master_key()?)?;
    let db = options.open().await?;
    let rotated = signing::rotate(&db, &secrets).await;
    db.close().await;
    rotated?;
    say("a new key signs connect tokens within a minute; the one before it is still good");
    Ok(())
}

async fn rotate_master_key(options: &Options) -> anyhow::Result<()> {
    let dir = options.with_master_key()?;
    let db = options.open().await?;
    let rotated = rotate_master(&db, &dir).await;
    db.close().await;
    say(&told(&rotated?));
    Ok(())
}

/// What people read of a rotation.
fn told(rotated: &Rotated) -> String {
    let Rotated {
        signing_keys,
        session_inputs,
        profiles,
        captures,
        files,
        resumed,
        from_environment,
    } = *rotated;
    let begun = if resumed {
        "completed the rotation that was cut short"
    } else {
        "a new master key is in use"
    };
    let mut told = format!(
        "{begun}; encrypted anew: {signing_keys} signing keys, {profiles} profiles, \
         {session_inputs} sessions' inputs, {captures} captures, \
         {files} files"
    );
    if from_environment {
        told.push_str("\nnothing needs the old one any more: take it out of VENTUS_MASTER_KEY");
    }
    told
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

    #[tokio::test]
    async fn a_directory_without_a_server_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        for action in ["rotate", "rotate-master"] {
            let line = ["keys", action, "--data-dir", dir.path().to_str().unwrap()];
            let error = run(Line::try_parse_from(line).unwrap().arguments).await.unwrap_err();
            assert!(error.is::<crate::Usage>(), "{error}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_rotation_is_told_in_numbers() {
        let rotated = Rotated { signing_keys: 2, profiles: 3, ..Rotated::default() };
        assert_eq!(
            told(&rotated),
            "a new master key is in use; encrypted anew: 2 signing keys, 3 profiles, 0 sessions' \
             inputs, 0 captures, 0 files"
        );
        let rotated = Rotated { resumed: true, ..rotated };
        assert!(told(&rotated).starts_with("completed "));
        let rotated = Rotated { from_environment: true, ..rotated };
        assert!(told(&rotated).ends_with("take it out of VENTUS_MASTER_KEY"));
    }
}
