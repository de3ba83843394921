//! `ventus agents`: the agents of a server, for its operator.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use proto::region::Region;
use serde::Deserialize;
use serde_json::json;

use super::{
    Api, EXIT_CODES, Options, Paging, Request, Said, error::Result, page, report, table, ulid, when,
};

/// Flags of `ventus agents`.
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
    /// List agents
    #[command(visible_alias = "ls")]
    List {
        /// Only this region
        #[arg(long, value_name = "NAME")]
        region: Option<Region>,
        /// Only these: ready, draining, disconnected, lost; may be given several times
        #[arg(long, value_name = "STATUS", value_parser = ["ready", "draining", "disconnected", "lost"])]
        status: Vec<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Give agents no new session, and end those that are left when the time is over
    Drain {
        /// The agents' ids
        #[arg(required = true, value_parser = ulid)]
        id: Vec<String>,
        /// How long their sessions may go on, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 1_800, value_parser = clap::value_parser!(u32).range(..=86_400))]
        deadline: u32,
    },
    /// Let drained agents take sessions again
    Undrain {
        /// The agents' ids
        #[arg(required = true, value_parser = ulid)]
        id: Vec<String>,
    },
}

#[derive(Debug, Deserialize)]
struct Agent {
    id: String,
    region: String,
    status: String,
    capacity: u32,
    in_use: u32,
    warm: u32,
    browser_version: String,
    draining_since: Option<String>,
    drain_deadline_at: Option<String>,
}

/// Runs one of them.
pub async fn run(arguments: Arguments) -> ExitCode {
    let Arguments { options, action } = arguments;
    report(options.json, async { action.run(&options.with_key()?).await }).await
}

impl Action {
    async fn run(self, api: &Api) -> Result<Said> {
        match self {
            Self::List { region, status, paging } => {
                let mut request = Request::get("/v1/agents");
                if let Some(region) = region {
                    request = request.query("region", region.as_str());
                }
                for status in status {
                    request = request.query("status", status);
                }
                let send = |request| api.send(request);
                let listed = page::<Agent, _>(&paging, request, send).await?;
                Ok(listed.said("agents", |agents| rows(&agents)))
            }
            Self::Drain { id, deadline } => {
                let body = json!({ "deadline_seconds": deadline });
                Ok(Said::each(id, async |id| {
                    // The same drain twice is one.
                    let drain = Request::post(format!("/v1/agents/{id}/drain")).repeatable();
                    let agent: Agent = api.send(drain.json(&body)?).await?.read()?;
                    let until = agent.drain_deadline_at.as_deref().map(when).unwrap_or_default();
                    let left = sessions(agent.in_use);
                    Ok(format!("draining {id}: {left} left, until {until}"))
                })
                .await)
            }
            Self::Undrain { id } => Ok(Said::each(id, async |id| {
                let undo = Request::delete(format!("/v1/agents/{id}/drain"));
                let agent: Agent = api.send(undo).await?.read()?;
                Ok(format!("{id} is {}", agent.status))
            })
            .await),
        }
    }
}

/// So many sessions, in words.
fn sessions(count: u32) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} session{plural}")
}

fn rows(agents: &[Agent]) -> String {
    let rows = agents.iter().map(|agent| {
        [
            agent.id.clone(),
            agent.region.clone(),
            agent.status.clone(),
            format!("{}/{}", agent.in_use, agent.capacity),
            agent.warm.to_string(),
            agent.browser_version.clone(),
            agent.draining_since.as_deref().map(when).unwrap_or_default(),
        ]
    });
    table(["ID", "REGION", "STATUS", "IN USE", "WARM", "BROWSER", "DRAINING SINCE"], rows)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::Value;

    use super::*;
    use crate::client::stand_in::StandIn;

    const ID: &str = "01KAW3Y0R5M8T2N6Q4P1C7D9EF";

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn agent(status: &str) -> Value {
        json!({"id": ID, "region": "eu", "status": status, "capacity": 8, "in_use": 1, "warm": 2,
            "browser_version": "Chrome/156", "draining_since": "2026-11-22T12:00:00.000Z",
            "drain_deadline_at": "2026-11-22T12:30:00.000Z"})
    }

    /// What a command says and asks, with a server that answers so.
    async fn run(line: &str, body: Value) -> (Said, StandIn) {
        let words = ["agents"].into_iter().chain(line.split_whitespace());
        let action = Line::try_parse_from(words).unwrap().arguments.action;
        let server = StandIn::start(move |_| (200, body.clone())).await;
        let api = Api::new(server.url.clone()).unwrap().with("vs_key".to_owned());
        (action.run(&api).await.unwrap(), server)
    }

    #[tokio::test]
    async fn agents_are_listed_by_what_is_wanted_of_them() {
        let page = json!({"items": [agent("draining")], "next_cursor": null, "has_more": false});
        let line = "list --region eu --status ready --status draining";
        let (said, server) = run(line, page).await;
        let asked = server.lines();
        assert!(asked[0].starts_with("GET /v1/agents?"), "{asked:?}");
        for part in ["region=eu", "status=ready", "status=draining"] {
            assert!(asked[0].contains(part), "{asked:?}");
        }
        let row = said.people().lines().nth(1).unwrap().to_owned();
        for part in [ID, "eu", "draining", "1/8", "Chrome/156", "2026-11-22 12:00:00Z"] {
            assert!(row.contains(part), "{row}");
        }
    }

    #[tokio::test]
    async fn an_agent_is_drained_and_taken_back() {
        let (said, server) = run(&format!("drain {ID} --deadline 60"), agent("draining")).await;
        let asked = server.only();
        assert_eq!(asked.line(), format!("POST /v1/agents/{ID}/drain"));
        assert_eq!(asked.body, json!({"deadline_seconds": 60}));
        let told = format!("draining {ID}: 1 session left, until 2026-11-22 12:30:00Z");
        assert_eq!(said.people(), told);
        let (said, server) = run(&format!("undrain {ID}"), agent("ready")).await;
        assert_eq!(server.lines(), [format!("DELETE /v1/agents/{ID}/drain")]);
        assert_eq!(said.people(), format!("{ID} is ready"));
    }
}
