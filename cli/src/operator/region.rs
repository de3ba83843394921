//! `ventus region`: where the agents of a server are.

use ::control_plane::regions::{self, RegionRow};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{OptionsWithJson, Told};
use crate::client::table;

/// Flags of `ventus region`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the regions with their agents, their room and their join tokens
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        options: OptionsWithJson,
    },
}

/// Runs it.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Action::List { options } = arguments.action;
    let db = options.server.open().await?;
    let rows = regions::for_operator(&db).await;
    db.close().await;
    told(&rows?).say(options.json);
    Ok(())
}

fn told(rows: &[(RegionRow, u64)]) -> Told {
    let items = rows.iter().map(|(row, tokens)| {
        json!({
            "region": row.region,
            "agents": row.agents,
            "capacity": row.capacity,
            "in_use": row.in_use,
            "warm": row.warm,
            "join_tokens": tokens,
        })
    });
    let cells = rows.iter().map(|(row, tokens)| {
        let numbers = [row.agents, row.capacity, row.in_use, row.warm, *tokens];
        let [agents, capacity, in_use, warm, tokens] = numbers.map(|number| number.to_string());
        [row.region.to_string(), agents, capacity, in_use, warm, tokens]
    });
    let head = ["REGION", "AGENTS", "CAPACITY", "IN USE", "WARM", "JOIN TOKENS"];
    Told { people: table(head, cells), json: json!({ "items": items.collect::<Vec<_>>() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_a_line() {
        let region = "eu".parse().unwrap();
        let row = RegionRow { region, agents: 2, capacity: 8, in_use: 3, warm: 1 };
        let told = told(&[(row, 1)]);
        let line = told.people.lines().nth(1).unwrap();
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["eu", "2", "8", "3", "1", "1"]);
        assert_eq!(told.json["items"][0]["join_tokens"], 1);
    }
}
