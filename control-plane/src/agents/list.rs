//! `GET /v1/agents` and `GET /v1/agents/{id}`

use axum::{
    Json,
    extract::{Path, State},
};
use proto::{id::AgentId, problem::Problem};
use serde::Serialize;
use utoipa::ToSchema;

use super::object::{self, Agent, AgentStatus, STATUSES, Wanted as Filters};
use crate::{
    api::{Failure, NoSuchAgent},
    app::App,
    error::Error,
    keys::{Caller, Operator},
    paging::{self, UNKNOWN, Wanted},
    request::Query,
};

/// One page of agents.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentPage {
    items: Vec<Agent>,
    /// Give it as `cursor`, with the same filters, for the next page. Null on the last one.
    next_cursor: Option<String>,
    /// Whether there is a next page.
    has_more: bool,
}

impl paging::Filters for Filters {
    const LIST: &'static str = "agents";
    const REPEATED: &'static [&'static str] = &["status"];

    fn take(&mut self, name: &str, value: String) -> Result<(), &'static str> {
        match name {
            "region" => self.region = Some(value.parse().map_err(|_| "is not a region's name")?),
            "status" => {
                let status = STATUSES.into_iter().find(|status| *status == value);
                self.statuses.push(status.ok_or("is no status of an agent")?);
            }
            _ => return Err(UNKNOWN),
        }
        Ok(())
    }

    fn settle(&mut self) {
        self.statuses.sort_unstable();
        self.statuses.dedup();
    }
}

/// List agents
///
/// All that have ever joined, those that first joined last first. Agents belong to the server:
/// only keys of its operator's workspace see them.
#[utoipa::path(get, path = "/v1/agents", tag = "agents", operation_id = "listAgents",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Most items of a page; 50 if not given"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before, with the same filters"),
        ("region" = Option<String>, Query, description = "Only this region"),
        ("status" = Option<Vec<AgentStatus>>, Query, description = "Only these; may be repeated"),
    ),
    security(("api_key" = ["admin"])),
    responses((status = 200, description = "A page", body = AgentPage), Failure))]
pub async fn list(
    State(app): State<App>,
    caller: Caller<Operator>,
    query: Query,
) -> Result<Json<AgentPage>, Problem> {
    let wanted = Wanted::<Filters>::read(query)?;
    let after = wanted.after(&app.secrets, caller.workspace)?;
    let mut tx = app.db.read().await.map_err(Error::from)?;
    let rows = object::page(&mut tx, &wanted.filters, after, wanted.rows()).await;
    let mut rows = rows.map_err(Error::from)?;
    let next_cursor = wanted.cut(&mut rows, &app.secrets, caller.workspace, |row| row.id);
    let items = rows.into_iter().map(Agent::from).collect();
    Ok(Json(AgentPage { items, has_more: next_cursor.is_some(), next_cursor }))
}

/// Get an agent
///
/// Only keys of the operator's workspace see it.
#[utoipa::path(get, path = "/v1/agents/{id}", tag = "agents", operation_id = "getAgent",
    params(("id" = String, Path, description = "The agent's id")),
    security(("api_key" = ["admin"])),
    responses((status = 200, description = "The agent", body = Agent), NoSuchAgent, Failure))]
pub async fn get(
    State(app): State<App>,
    _caller: Caller<Operator>,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<Agent>, Problem> {
    query.allow_none()?;
    let id = named(&id)?;
    let mut tx = app.db.read().await.map_err(Error::from)?;
    let agent = object::get(&mut tx, id).await.map_err(Error::from)?;
    Ok(Json(agent.ok_or_else(no_such_agent)?.into()))
}

/// The agent that a path names.
pub(super) fn named(id: &str) -> Result<AgentId, Error> {
    id.parse().map_err(|_| no_such_agent())
}

pub(super) fn no_such_agent() -> Error {
    Error::NoSuch("no agent has this id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_whatever_its_order() {
        let read = |pairs: &[_]| paging::read::<Filters>(pairs).unwrap().filters;
        let one = read(&[("status", "ready"), ("region", "eu"), ("status", "draining")]);
        assert_eq!(one.statuses, ["draining", "ready"]);
        let statuses = [("status", "draining"), ("status", "ready"), ("status", "ready")];
        assert_eq!(one, read(&[&statuses[..], &[("region", "eu")]].concat()));
        for bad in [("status", "READY"), ("status", ""), ("region", "No Region"), ("nope", "1")] {
            assert!(paging::refuses::<Filters>(bad), "{bad:?}");
        }
    }
}
