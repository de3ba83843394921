//! `ventus join-token`: what agents join with.

use std::time::Duration;

use ::control_plane::{
    db::Db,
    join_tokens::{operator, store::JoinTokenRow},
};
use clap::{Args, Subcommand};
use proto::{id::JoinTokenId, region::Region};
use serde_json::{Value, json};

use super::{OptionsWithJson, Told, time};
use crate::client::table;

/// Longest label, in characters.
const LABEL_MAX: usize = 128;

/// Flags of `ventus join-token`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a token for the agents of a region, and print it this once
    ///
    /// Give it to agents in VENTUS_JOIN_TOKEN or with --join-token-file.
    Create {
        /// The region that its agents serve
        #[arg(long, value_name = "NAME")]
        region: Region,
        /// A name for people
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = label)]
        label: String,
        /// How long it is good, such as 90d, 12h or 30m [default: until it is revoked]
        #[arg(long, value_name = "TIME", value_parser = span)]
        expires_in: Option<Duration>,
        #[command(flatten)]
        options: OptionsWithJson,
    },
    /// List all tokens, those that are no longer good included
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        options: OptionsWithJson,
    },
    /// Revoke a token: agents that joined with it lose their streams and sessions within seconds
    Revoke {
        /// The token's id: what is between `vj_` and the dot
        id: JoinTokenId,
        #[command(flatten)]
        options: OptionsWithJson,
    },
}

/// Runs one of them.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let action = arguments.action;
    let options = action.options();
    let db = options.server.open().await?;
    let outcome = action.act(&db).await;
    db.close().await;
    outcome?.say(options.json);
    Ok(())
}

impl Action {
    fn options(&self) -> &OptionsWithJson {
        match self {
            Self::Create { options, .. }
            | Self::List { options }
            | Self::Revoke { options, .. } => options,
        }
    }

    async fn act(&self, db: &Db) -> anyhow::Result<Told> {
        match self {
            Self::Create { region, label, expires_in, .. } => {
                let (row, token) = operator::create(db, region, label, *expires_in).await?;
                let mut json = shown(&row, row.created_us);
                json["token"] = token.as_str().into();
                Ok(Told { people: token, json })
            }
            Self::List { .. } => {
                let (rows, now_us) = operator::list(db).await?;
                let items: Vec<_> = rows.iter().map(|row| shown(row, now_us)).collect();
                Ok(Told { people: list(&rows, now_us), json: json!({ "items": items }) })
            }
            Self::Revoke { id, .. } => {
                let row = operator::revoke(db, *id).await?;
                let people = format!("{id} of region {} is revoked", row.region);
                Ok(Told { people, json: shown(&row, row.created_us) })
            }
        }
    }
}

fn status(row: &JoinTokenRow, now_us: i64) -> &'static str {
    use ::control_plane::join_tokens::Refusal;
    match row.refusal(now_us) {
        None => "GOOD",
        Some(Refusal::Expired) => "EXPIRED",
        Some(_) => "REVOKED",
    }
}

fn shown(row: &JoinTokenRow, now_us: i64) -> Value {
    json!({
        "id": row.id,
        "region": row.region,
        "label": row.label,
        "status": status(row, now_us),
        "created_at": time(row.created_us),
        "expires_at": row.expires_us.map(time),
        "revoked_at": row.revoked_us.map(time),
        "last_used_at": row.last_used_us.map(time),
    })
}

fn list(rows: &[JoinTokenRow], now_us: i64) -> String {
    let people = |us: Option<i64>| us.map(super::for_people).unwrap_or_default();
    let rows = rows.iter().map(|row| {
        [
            row.id.to_string(),
            row.region.to_string(),
            row.label.clone(),
            status(row, now_us).to_owned(),
            people(Some(row.created_us)),
            people(row.expires_us),
            people(row.last_used_us),
        ]
    });
    table(["ID", "REGION", "LABEL", "STATUS", "CREATED", "EXPIRES", "LAST USED"], rows)
}

fn label(text: &str) -> Result<String, String> {
    let good = text.chars().count() <= LABEL_MAX && !text.chars().any(char::is_control);
    good.then(|| text.to_owned())
        .ok_or_else(|| format!("one line of at most {LABEL_MAX} characters"))
}

/// Reads `90d`, `12h`, `30m` or `45s`.
fn span(text: &str) -> Result<Duration, &'static str> {
    const WANTED: &str = "a time like 90d, 12h, 30m or 45s";
    let unit = text.chars().last().ok_or(WANTED)?;
    let seconds = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return Err(WANTED),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| WANTED)?;
    if number == 0 { Err(WANTED) } else { Ok(Duration::from_secs(u64::from(number) * seconds)) }
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
        let words = ["join-token"].into_iter().chain(line.split_whitespace());
        Ok(Line::try_parse_from(words)?.arguments.action)
    }

    #[tokio::test]
    async fn a_token_is_made_listed_and_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&format!("sqlite://{}/ventus.db", dir.path().display())).await.unwrap();
        let line = "create --region eu --label rack --expires-in 2h";
        let made = parse(line).unwrap().act(&db).await.unwrap();
        let id = made.json["id"].as_str().unwrap().to_owned();
        assert!(made.people.starts_with(&format!("vj_{id}.")), "{}", made.people);
        assert_eq!(made.json["token"], made.people);
        let listed = parse("list").unwrap().act(&db).await.unwrap();
        let row = listed.people.lines().nth(1).unwrap();
        assert!(row.starts_with(&format!("{id}  eu      rack   GOOD    20")), "{}", listed.people);
        let secret = made.people.split_once('.').unwrap().1;
        assert!(!listed.json.to_string().contains(secret));
        let revoked = parse(&format!("revoke {id}")).unwrap().act(&db).await.unwrap();
        assert_eq!(revoked.people, format!("{id} of region eu is revoked"));
        let listed = parse("list").unwrap().act(&db).await.unwrap();
        assert_eq!(listed.json["items"][0]["status"], "REVOKED");
        db.close().await;
    }

    #[test]
    fn spans_and_regions_are_read_strictly() {
        assert_eq!(span("90d"), Ok(Duration::from_secs(90 * 86_400)));
        for bad in ["", "d", "90", "0h", "-1h", "1.5h", "99999999999d", "1é"] {
            assert!(span(bad).is_err(), "{bad}");
        }
        for bad in
            ["create", "create --region EU", "create --region eu --expires-in soon", "revoke x"]
        {
            assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
