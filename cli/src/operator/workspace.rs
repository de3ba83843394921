//! `ventus operator workspace`: what the operator of a server does to workspaces.

use ::control_plane::{
    db::Db,
    people::Email,
    workspaces::{Plan, WorkspaceRow, operator},
};
use clap::{Args, Subcommand};

use super::{Options, for_people};
use crate::{client::table, style::say};

/// Flags of `ventus operator workspace`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all workspaces, deleted ones within their grace included
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        options: Options,
    },
    /// Close a workspace: its keys stop working, its sessions end, its people may only look
    Suspend {
        /// The workspace's slug
        slug: String,
        #[command(flatten)]
        options: Options,
    },
    /// Open a suspended workspace again: its keys work as before, its sessions stay over
    Resume {
        /// The workspace's slug
        slug: String,
        #[command(flatten)]
        options: Options,
    },
    /// Give a workspace another plan
    Plan {
        /// The workspace's slug
        slug: String,
        /// starter, pro or enterprise
        plan: Plan,
        #[command(flatten)]
        options: Options,
    },
    /// Make a workspace the operator's: keys of its administrators see and drain agents, and
    /// no others do
    SetOperator {
        /// The workspace's slug
        slug: String,
        #[command(flatten)]
        options: Options,
    },
    /// Say how many sessions a workspace may have at once
    Limit {
        /// The workspace's slug
        slug: String,
        /// A number, or plan for what its plan says
        #[arg(value_parser = limit, value_name = "N|plan")]
        sessions: Limit,
        #[command(flatten)]
        options: Options,
    },
    /// Make someone an owner of a workspace, whether they are in it yet or not
    AddOwner {
        /// The workspace's slug
        slug: String,
        /// Their e-mail address
        email: Email,
        #[command(flatten)]
        options: Options,
    },
}

/// Sessions at once; `None`: as the plan says.
#[derive(Clone, Copy, Debug)]
struct Limit(Option<u32>);

fn limit(text: &str) -> Result<Limit, &'static str> {
    match text {
        "plan" => Ok(Limit(None)),
        number => number.parse().map(|n| Limit(Some(n))).map_err(|_| "not a number, nor plan"),
    }
}

/// Runs one of them.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let action = arguments.action;
    let db = action.options().open().await?;
    let outcome = action.act(&db).await;
    db.close().await;
    say(&outcome?);
    Ok(())
}

impl Action {
    fn options(&self) -> &Options {
        match self {
            Self::List { options }
            | Self::Suspend { options, .. }
            | Self::Resume { options, .. }
            | Self::Plan { options, .. }
            | Self::SetOperator { options, .. }
            | Self::Limit { options, .. }
            | Self::AddOwner { options, .. } => options,
        }
    }

    /// Does it, and answers what people read.
    async fn act(&self, db: &Db) -> anyhow::Result<String> {
        let row = match self {
            Self::List { .. } => return Ok(list(&operator::list(db).await?)),
            Self::Suspend { slug, .. } => operator::suspend(db, slug).await?,
            Self::Resume { slug, .. } => operator::resume(db, slug).await?,
            Self::Plan { slug, plan, .. } => operator::set_plan(db, slug, *plan).await?,
            Self::SetOperator { slug, .. } => {
                operator::set_operator(db, slug).await?;
                return Ok(format!("{slug} is the operator's workspace"));
            }
            Self::Limit { slug, sessions: Limit(limit), .. } => {
                let row = operator::set_session_limit(db, slug, *limit).await?;
                return Ok(match row.sessions_at_once() {
                    Some(limit) => format!("{slug} may have {limit} sessions at once"),
                    None => format!("{slug} may have as many sessions as there is room for"),
                });
            }
            Self::AddOwner { slug, email, .. } => {
                operator::add_owner(db, slug, email).await?;
                return Ok(format!("{email} is an owner of {slug}"));
            }
        };
        Ok(format!("{} is {}, with the plan {}", row.slug, row.status().as_str(), row.plan))
    }
}

fn list(rows: &[WorkspaceRow]) -> String {
    let rows = rows.iter().map(|row| {
        [
            row.slug.clone(),
            row.name.clone(),
            row.status().as_str().to_owned(),
            row.plan.to_string(),
            if row.is_operator { "yes" } else { "" }.to_owned(),
            for_people(row.created_us),
        ]
    });
    table(["SLUG", "NAME", "STATUS", "PLAN", "OPERATOR", "CREATED"], rows)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(line: &str) -> Result<Action, clap::Error> {
        let words = ["workspace"].into_iter().chain(line.split_whitespace());
        Ok(Line::try_parse_from(words)?.arguments.action)
    }

    #[tokio::test]
    async fn what_an_operator_does_is_told_in_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&format!("sqlite://{}/ventus.db", dir.path().display())).await.unwrap();
        ::control_plane::workspaces::bootstrap(&db, &"a@x.test".parse().unwrap(), None)
            .await
            .unwrap();
        for (line, told) in [
            ("suspend default", "default is SUSPENDED, with the plan enterprise"),
            ("resume default", "default is ACTIVE, with the plan enterprise"),
            ("plan default pro", "default is ACTIVE, with the plan pro"),
            ("set-operator default", "default is the operator's workspace"),
            ("limit default plan", "default may have 100 sessions at once"),
            ("limit default 7", "default may have 7 sessions at once"),
            ("add-owner default b@x.test", "b@x.test is an owner of default"),
        ] {
            assert_eq!(parse(line).unwrap().act(&db).await.unwrap(), told, "{line}");
        }
        let error = parse("suspend nope").unwrap().act(&db).await.unwrap_err();
        assert_eq!(error.to_string(), "no workspace has the slug \"nope\"");
        let listed = parse("list").unwrap().act(&db).await.unwrap();
        let lines: Vec<_> = listed.lines().collect();
        assert_eq!(lines[0], "SLUG     NAME     STATUS  PLAN  OPERATOR  CREATED");
        assert!(lines[1].starts_with("default  Default  ACTIVE  pro   yes       20"), "{listed}");
        db.close().await;
    }

    #[test]
    fn plans_and_addresses_are_read_strictly() {
        for bad in [
            "plan default gold",
            "add-owner default nobody",
            "suspend",
            "plan default",
            "limit default many",
        ] {
            assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
        assert_eq!(for_people(1_763_812_800_123_456), "2025-11-22 12:00:00Z");
    }
}
