//! `ventus workspace audit`

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::{
    super::{Paging, page},
    Chosen, Person, Request, Result, Said, table, when,
};

/// Which entries are wanted.
#[derive(Debug, Default, Args)]
pub struct Wanted {
    /// Only this action, for instance api_key.create
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only what this person or key did: an id, or a person's e-mail address
    #[arg(long, value_name = "WHO")]
    actor: Option<String>,
    /// Only younger ones (RFC 3339, for instance 2026-11-22T12:00:00Z)
    #[arg(long, value_name = "TIME")]
    after: Option<String>,
    /// Only older ones
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

/// Something that somebody did.
#[derive(Debug, Deserialize)]
struct Entry {
    at: String,
    actor_kind: String,
    actor_id: Option<String>,
    actor_email: Option<String>,
    action: String,
    target_kind: Option<String>,
    target_id: Option<String>,
    #[serde(default)]
    detail: Value,
    ip: Option<String>,
}

impl Wanted {
    pub async fn run(self, person: &Person, chosen: &Chosen) -> Result<Said> {
        let mut request = Request::get(person.path(chosen, "/audit").await?);
        let filters = [
            ("action", &self.action),
            ("actor", &self.actor),
            ("after", &self.after),
            ("before", &self.before),
        ];
        for (name, value) in filters {
            if let Some(value) = value {
                request = request.query(name, value);
            }
        }
        let send = |request| person.send(request);
        let listed = page::<Entry, _>(&self.paging, request, send).await?;
        Ok(listed.said("entries", |entries| {
            let head = ["TIME", "WHO", "ACTION", "ON", "DETAIL", "FROM"];
            table(head, entries.into_iter().map(Entry::row))
        }))
    }
}

impl Entry {
    fn row(self) -> [String; 6] {
        let who = match (self.actor_email, self.actor_id) {
            (Some(email), _) => email,
            (None, Some(id)) => format!("{} {id}", self.actor_kind),
            (None, None) => self.actor_kind,
        };
        let target = [self.target_kind, self.target_id].into_iter().flatten();
        let detail = self.detail.as_object().into_iter().flatten();
        let detail = detail.map(|(name, value)| match value.as_str() {
            Some(text) => format!("{name}={text}"),
            None => format!("{name}={value}"),
        });
        [
            when(&self.at),
            who,
            self.action,
            target.collect::<Vec<_>>().join(" "),
            detail.collect::<Vec<_>>().join(", "),
            self.ip.unwrap_or_default(),
        ]
    }
}
