//! `ventus key`: a workspace's API keys.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;

use super::{
    EXIT_CODES, Options, Person, Request, Said, error::Result, person::Chosen, report, table, ulid,
    when, whole,
};

/// Flags of `ventus key`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    workspace: Chosen,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key, and print it this once
    ///
    /// For the commands that follow: export VENTUS_API_KEY=$(ventus key create LABEL)
    Create {
        /// What it is for
        label: String,
        /// What it allows: sessions:read, sessions:write, admin; may be given several times
        /// [default: the first two]
        #[arg(long, value_name = "SCOPE")]
        scope: Vec<String>,
    },
    /// List keys, revoked ones of the last 90 days included
    #[command(visible_alias = "ls")]
    List,
    /// Put an end to keys, at once
    Revoke {
        /// The keys' ids
        #[arg(required = true, value_parser = ulid)]
        id: Vec<String>,
    },
}

/// A key, without its secret.
#[derive(Debug, Deserialize)]
struct Key {
    id: String,
    label: String,
    scopes: Vec<String>,
    created_at: String,
    revoked_at: Option<String>,
}

/// A key that was just made.
#[derive(Deserialize)]
struct Made {
    secret: String,
    #[serde(flatten)]
    key: Key,
}

/// Runs one of them.
pub async fn run(arguments: Arguments) -> ExitCode {
    let Arguments { options, workspace, action } = arguments;
    report(options.json, async { action.run(&Person::find(&options)?, &workspace).await }).await
}

impl Action {
    async fn run(self, person: &Person, workspace: &Chosen) -> Result<Said> {
        let keys = person.path(workspace, "/api-keys").await?;
        match self {
            Self::Create { label, scope } => {
                let mut body = json!({ "label": label });
                if !scope.is_empty() {
                    body["scopes"] = json!(scope);
                }
                let answer = person.send(Request::post(keys).json(&body)?).await?;
                let Made { secret, key } = answer.read()?;
                let note = format!(
                    "key {} for {}, with {}: shown this once",
                    key.id,
                    super::said::plain(&key.label),
                    key.scopes.join(" ")
                );
                Ok(Said::new(answer, secret).note(note))
            }
            Self::List => list(person, keys).await,
            Self::Revoke { id } => Ok(Said::each(id, async |id| {
                person.send(Request::delete(format!("{keys}/{id}"))).await?;
                Ok(format!("revoked {id}"))
            })
            .await),
        }
    }
}

async fn list(person: &Person, keys: String) -> Result<Said> {
    let listed = whole::<Key>(person.send(Request::get(keys)).await?)?;
    Ok(listed.said("keys", |keys| {
        let rows = keys.into_iter().map(|key| {
            let revoked = key.revoked_at.as_deref().map(when).unwrap_or_default();
            [key.id, key.label, key.scopes.join(" "), when(&key.created_at), revoked]
        });
        table(["ID", "LABEL", "SCOPES", "CREATED", "REVOKED"], rows)
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::client::{person::tests::signed_in, stand_in::StandIn};

    const ID: &str = "01KAW3Y0R5M8T2N6Q4P1C7D9EF";
    const KEYS: &str = "/v1/dashboard/ws/team/api-keys";

    fn key() -> Value {
        json!({"id": ID, "label": "ci", "scopes": ["sessions:read", "sessions:write"],
            "created_at": "2026-11-22T12:00:00.000Z", "created_by": "01U", "revoked_at": null})
    }

    /// What a command says and asks, with a server that answers so.
    async fn run(action: Action, status: u16, body: Value) -> (Said, StandIn) {
        let dir = tempfile::tempdir().unwrap();
        let server = StandIn::start(move |_| (status, body.clone())).await;
        let person = signed_in(&server.url, dir.path(), 600).await;
        let said = action.run(&person, &Chosen { workspace: None }).await.unwrap();
        (said, server)
    }

    #[tokio::test]
    async fn a_new_keys_secret_is_all_that_stdout_has() {
        let mut made = key();
        made["secret"] = json!("vs_secret");
        let create = Action::Create { label: "ci".into(), scope: vec!["admin".into()] };
        let (said, server) = run(create, 201, made.clone()).await;
        let asked = server.only();
        assert_eq!(asked.line(), format!("POST {KEYS}"));
        assert_eq!(asked.body, json!({"label": "ci", "scopes": ["admin"]}));
        assert_eq!(said.people(), "vs_secret");
        assert_eq!(said.for_programs(), made.to_string());
        assert!(said.noted().contains(ID) && !said.noted().contains("vs_"), "{}", said.noted());
    }

    #[tokio::test]
    async fn scopes_are_the_servers_choice_unless_named() {
        let mut made = key();
        made["secret"] = json!("vs_secret");
        let (_, server) =
            run(Action::Create { label: "ci".into(), scope: vec![] }, 201, made).await;
        assert_eq!(server.only().body, json!({"label": "ci"}));
    }

    #[tokio::test]
    async fn keys_are_listed_with_their_end() {
        let mut revoked = key();
        revoked["revoked_at"] = json!("2026-11-23T12:00:00.000Z");
        let page = json!({"items": [key(), revoked]});
        let (said, server) = run(Action::List, 200, page).await;
        assert_eq!(server.lines(), [format!("GET {KEYS}")]);
        let lines: Vec<_> = said.people().lines().collect();
        let row = format!("{ID}  ci     sessions:read sessions:write  2026-11-22 12:00:00Z");
        assert_eq!(lines[1], row);
        assert_eq!(lines[2], format!("{row}  2026-11-23 12:00:00Z"));
    }

    #[tokio::test]
    async fn keys_are_revoked_by_their_ids() {
        let (said, server) = run(Action::Revoke { id: vec![ID.into()] }, 204, Value::Null).await;
        assert_eq!(server.lines(), [format!("DELETE {KEYS}/{ID}")]);
        assert_eq!(said.people(), format!("revoked {ID}"));
    }
}
