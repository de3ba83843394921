//! `ventus profile`: cookies and storage, kept for sessions to begin with.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use proto::id::ProfileId;
use serde::Deserialize;
use serde_json::json;

use super::{
    Api, EXIT_CODES, Options, Paging, Request, Said, card,
    error::Result,
    page, report,
    session::{bytes, storage_state},
    table, when,
};
use crate::data_dir::write_secret;

/// Flags of `ventus profile`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List profiles, newest first
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Make a profile from a storage state
    Create {
        /// Its name
        #[arg(long, value_name = "NAME")]
        name: String,
        /// Cookies and storage, as Playwright saves them; - reads standard input
        #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
        storage_state: PathBuf,
    },
    /// Show one profile
    Get {
        /// The profile
        id: ProfileId,
    },
    /// Give a profile another name
    Rename {
        /// The profile
        id: ProfileId,
        /// Its new name
        name: String,
    },
    /// Remove profiles, and what they hold
    Delete {
        /// The profiles
        #[arg(required = true)]
        id: Vec<ProfileId>,
    },
    /// Print what a profile holds, as Playwright loads it: logins, as good as passwords
    Export {
        /// The profile
        id: ProfileId,
        /// Write it to a file that only you can read
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// A profile, without what it holds.
#[derive(Debug, Deserialize)]
pub struct Profile {
    id: String,
    name: String,
    size_bytes: u64,
    created_at: String,
    updated_at: String,
}

impl Profile {
    /// One profile, all of it.
    pub fn card(&self) -> String {
        card(&[
            ("Profile", self.id.clone()),
            ("Name", self.name.clone()),
            ("Size", bytes(self.size_bytes)),
            ("Created", when(&self.created_at)),
            ("Updated", when(&self.updated_at)),
        ])
    }
}

/// Runs one of them.
pub async fn run(arguments: Arguments) -> ExitCode {
    let Arguments { options, action } = arguments;
    report(options.json, async { action.run(&options.with_key()?).await }).await
}

/// The path of a profile.
fn path(id: ProfileId) -> String {
    format!("/v1/profiles/{id}")
}

impl Action {
    async fn run(self, api: &Api) -> Result<Said> {
        match self {
            Self::List { paging } => list(api, &paging).await,
            Self::Create { name, storage_state: file } => {
                let body = json!({ "name": name, "storage_state": storage_state(file)? });
                shown(api, Request::post("/v1/profiles").json(&body)?).await
            }
            Self::Get { id } => shown(api, Request::get(path(id))).await,
            Self::Rename { id, name } => {
                shown(api, Request::patch(path(id)).json(&json!({ "name": name }))?).await
            }
            Self::Delete { id } => Ok(delete(api, id).await),
            Self::Export { id, output } => export(api, id, output).await,
        }
    }
}

async fn shown(api: &Api, request: Request) -> Result<Said> {
    let answer = api.send(request).await?;
    let profile: Profile = answer.read()?;
    Ok(Said::new(answer, profile.card()))
}

async fn list(api: &Api, paging: &Paging) -> Result<Said> {
    let request = Request::get("/v1/profiles");
    let listed = page::<Profile, _>(paging, request, |request| api.send(request)).await?;
    Ok(listed.said("profiles", |profiles| {
        let rows = profiles.iter().map(|profile| {
            [
                profile.id.clone(),
                profile.name.clone(),
                bytes(profile.size_bytes),
                when(&profile.updated_at),
            ]
        });
        table(["ID", "NAME", "SIZE", "UPDATED"], rows)
    }))
}

async fn delete(api: &Api, ids: Vec<ProfileId>) -> Said {
    Said::each(ids, |id| async move {
        api.send(Request::delete(path(id))).await?;
        Ok(format!("deleted {id}"))
    })
    .await
}

async fn export(api: &Api, id: ProfileId, output: Option<PathBuf>) -> Result<Said> {
    let answer = api.send(Request::get(format!("{}/storage-state", path(id)))).await?;
    match output {
        Some(file) => {
            write_secret(&file, &answer.text)?;
            Ok(Said::done("").note(format!("{} written", file.display())))
        }
        None => {
            let text = answer.text.clone();
            Ok(Said::new(answer, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::{Value, json};

    use super::*;
    use crate::client::stand_in::StandIn;

    const ID: &str = "01KAW3Y0R5M8T2N6Q4P1C7D9EF";

    fn profile() -> Value {
        json!({"id": ID, "name": "shop", "size_bytes": 2048,
            "created_at": "2026-11-22T12:00:00.000Z", "updated_at": "2026-11-23T12:00:00.000Z"})
    }

    fn id() -> ProfileId {
        ID.parse().unwrap()
    }

    /// What a command says and asks, with a server that answers so.
    async fn run(action: Action, status: u16, body: Value) -> (Said, StandIn) {
        let server = StandIn::start(move |_| (status, body.clone())).await;
        let api = Api::new(server.url.clone()).unwrap().with("vs_x");
        (action.run(&api).await.unwrap(), server)
    }

    #[tokio::test]
    async fn profiles_are_listed() {
        let page = json!({"items": [profile()], "next_cursor": null, "has_more": false});
        let list = Action::List { paging: Paging::default() };
        let (said, server) = run(list, 200, page.clone()).await;
        assert_eq!(server.lines(), ["GET /v1/profiles"]);
        let table = format!(
            "ID                          NAME  SIZE     UPDATED\n\
             {ID}  shop  2.0 KiB  2026-11-23 12:00:00Z"
        );
        assert_eq!(said.people(), table);
        assert_eq!(said.for_programs(), page.to_string());
    }

    #[tokio::test]
    async fn a_profile_is_made_of_a_storage_state() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state.json");
        std::fs::write(&file, r#"{"cookies": [], "origins": []}"#).unwrap();
        let create = Action::Create { name: "shop".into(), storage_state: file };
        let (said, server) = run(create, 201, profile()).await;
        let asked = server.only();
        assert_eq!(asked.line(), "POST /v1/profiles");
        let state = json!({"cookies": [], "origins": []});
        assert_eq!(asked.body, json!({"name": "shop", "storage_state": state}));
        assert!(said.people().starts_with(&format!("Profile  {ID}\nName     shop\n")));
    }

    #[tokio::test]
    async fn a_profile_is_renamed_and_deleted() {
        let (_, server) =
            run(Action::Rename { id: id(), name: "new".into() }, 200, profile()).await;
        assert_eq!(server.lines(), [format!("PATCH /v1/profiles/{ID}")]);
        assert_eq!(server.only().body, json!({"name": "new"}));
        let (said, server) = run(Action::Delete { id: vec![id()] }, 204, Value::Null).await;
        assert_eq!(server.lines(), [format!("DELETE /v1/profiles/{ID}")]);
        assert_eq!((said.people(), said.for_programs()), (format!("deleted {ID}").as_str(), ""));
    }

    #[tokio::test]
    async fn what_a_profile_holds_is_written_for_its_owner_alone() {
        let state = json!({"cookies": [], "origins": []});
        let (said, server) =
            run(Action::Export { id: id(), output: None }, 200, state.clone()).await;
        assert_eq!(server.lines(), [format!("GET /v1/profiles/{ID}/storage-state")]);
        assert_eq!(said.people(), state.to_string());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state.json");
        let export = Action::Export { id: id(), output: Some(file.clone()) };
        let (said, _) = run(export, 200, state.clone()).await;
        assert_eq!((said.people(), said.for_programs()), ("", ""));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), state.to_string());
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
