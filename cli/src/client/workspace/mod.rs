//! `ventus workspace`: workspaces and the people in them.

mod audit;
mod members;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;

use super::{
    EXIT_CODES, Error, Options, Person, Request, Said, card,
    error::Result,
    person::{Chosen, slug},
    report,
    sign_ins::SignIn,
    table, when,
};

/// Flags of `ventus workspace`.
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
    /// List the workspaces that you are a member of
    #[command(visible_alias = "ls")]
    List,
    /// Choose the workspace of commands that name none
    Use {
        /// The workspace
        #[arg(value_parser = slug)]
        slug: String,
    },
    /// Make a workspace; you become its owner
    Create {
        /// Names it in URLs, for good: lowercase letters, digits and hyphens
        #[arg(value_parser = slug)]
        slug: String,
        /// Names it for people [default: the slug]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Show a workspace
    Get,
    /// Give a workspace another name; its slug stays
    Rename {
        /// The new name
        name: String,
    },
    /// Delete a workspace: its keys and sessions end now, and it can be restored for 30 days
    Delete {
        /// The workspace, named once more
        #[arg(value_parser = slug)]
        slug: String,
    },
    /// Take a deletion back
    Restore {
        /// The workspace
        #[arg(value_parser = slug)]
        slug: String,
    },
    /// List members
    Members,
    /// Change what a member may do
    Role(members::Move),
    /// Take someone out of the workspace
    Remove(members::Remove),
    /// Ask someone in, by e-mail
    Invite(members::Invite),
    /// List invitations that nobody has taken up yet
    Invitations,
    /// Take an invitation back
    Uninvite(members::Uninvite),
    /// List who did what, newest first
    Audit(audit::Wanted),
}

/// A workspace.
#[derive(Debug, Deserialize)]
struct Workspace {
    slug: String,
    name: String,
    role: String,
    plan: String,
    status: String,
    created_at: String,
    deleted_at: Option<String>,
}

impl Workspace {
    fn card(&self) -> String {
        card(&[
            ("Workspace", self.slug.clone()),
            ("Name", self.name.clone()),
            ("Status", self.status.clone()),
            ("Plan", self.plan.clone()),
            ("Your role", self.role.clone()),
            ("Created", when(&self.created_at)),
            ("Deleted", self.deleted_at.as_deref().map(when).unwrap_or_default()),
        ])
    }
}

/// Runs one of them.
pub async fn run(arguments: Arguments) -> ExitCode {
    let Arguments { options, workspace, action } = arguments;
    report(options.json, async { action.run(&Person::find(&options)?, &workspace).await }).await
}

impl Action {
    async fn run(self, person: &Person, chosen: &Chosen) -> Result<Said> {
        match self {
            Self::List => list(person).await,
            Self::Use { slug } => choose(person, slug).await,
            Self::Create { slug, name } => {
                let name = name.unwrap_or_else(|| slug.clone());
                let body = json!({ "slug": slug, "name": name });
                shown(person, Request::post("/v1/dashboard/workspaces").json(&body)?).await
            }
            Self::Get => shown(person, Request::get(person.path(chosen, "").await?)).await,
            Self::Rename { name } => {
                let request = Request::patch(person.path(chosen, "").await?);
                shown(person, request.json(&json!({ "name": name }))?).await
            }
            Self::Delete { slug } => delete(person, slug).await,
            Self::Restore { slug } => restore(person, slug).await,
            Self::Members => members::list(person, chosen).await,
            Self::Role(role) => role.run(person, chosen).await,
            Self::Remove(remove) => remove.run(person, chosen).await,
            Self::Invite(invite) => invite.run(person, chosen).await,
            Self::Invitations => members::invitations(person, chosen).await,
            Self::Uninvite(uninvite) => uninvite.run(person, chosen).await,
            Self::Audit(wanted) => wanted.run(person, chosen).await,
        }
    }
}

async fn shown(person: &Person, request: Request) -> Result<Said> {
    let answer = person.send(request).await?;
    let workspace: Workspace = answer.read()?;
    Ok(Said::new(answer, workspace.card()))
}

/// All of theirs, with a mark at the one that commands are about.
async fn list(person: &Person) -> Result<Said> {
    let (me, answer) = person.me().await?;
    let chosen = person.kept()?.and_then(|sign_in| sign_in.workspace);
    let chosen = chosen.or_else(|| super::person::only(&me).map(str::to_owned));
    let none = if me.workspaces.is_empty() { "no workspaces" } else { "" };
    let rows = me.workspaces.into_iter().map(|workspace| {
        let mark = if chosen.as_ref() == Some(&workspace.slug) { "*" } else { "" };
        [mark.to_owned(), workspace.slug, workspace.name, workspace.role, workspace.status]
    });
    let table = table(["", "SLUG", "NAME", "YOUR ROLE", "STATUS"], rows);
    Ok(Said::new(answer, table).note(none))
}

async fn choose(person: &Person, slug: String) -> Result<Said> {
    // Whether there is such a one is better heard now than later.
    let answer = person.send(Request::get(format!("/v1/dashboard/ws/{slug}"))).await?;
    let said = format!("commands are about {slug} from now on");
    person.keep(|before| before.map(|sign_in| SignIn { workspace: Some(slug), ..sign_in })).await?;
    Ok(Said::new(answer, said))
}

async fn delete(person: &Person, slug: String) -> Result<Said> {
    person.send(Request::delete(format!("/v1/dashboard/ws/{slug}"))).await?;
    let note = format!("to take it back, for 30 days: ventus workspace restore {slug}");
    Ok(Said::done(format!("deleted {slug}")).note(note))
}

async fn restore(person: &Person, slug: String) -> Result<Said> {
    let path = format!("/v1/dashboard/ws/{slug}/restore");
    let answer = person.send(Request::post(path)).await?;
    if answer.text.is_empty() {
        return Ok(Said::done(format!("restored {slug}")));
    }
    let workspace: Workspace = answer.read()?;
    Ok(Said::new(answer, workspace.card()))
}

#[cfg(test)]
mod tests;
