//! `GET /v1/sessions/{id}/events`

use axum::{
    Json,
    extract::{Path, State},
};
use proto::problem::Problem;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    get::named,
    object::{Status, StatusReason, rfc3339},
    store,
};
use crate::{
    api::{Failure, NoSuchSession},
    app::App,
    error::Error,
    keys::{Caller, Read},
    request::Query,
};

/// One transition of a session.
#[derive(Debug, Serialize, ToSchema)]
pub struct Event {
    /// The state that it led to.
    #[schema(value_type = Status)]
    status: &'static str,
    /// When.
    #[schema(format = DateTime, example = "2026-11-22T12:00:00.000Z")]
    at: String,
    /// Why: for final states, and for `PROVISIONING` once more, with another agent, because the
    /// former could not start the browser. Null otherwise.
    reason: Option<StatusReason>,
}

/// All transitions of a session, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Events {
    items: Vec<Event>,
}

/// List a session's events
///
/// Every transition that the session has made, oldest first. Events never change. A launch
/// that fails on one agent is tried on up to two others: each has a `PROVISIONING` of its own.
#[utoipa::path(get, path = "/v1/sessions/{id}/events", tag = "sessions",
    operation_id = "listSessionEvents",
    params(("id" = String, Path, description = "The session's id")),
    security(("api_key" = ["sessions:read"])),
    responses(
        (status = 200, description = "The transitions", body = Events),
        NoSuchSession,
        Failure,
    ))]
pub async fn handler(
    State(app): State<App>,
    caller: Caller<Read>,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<Events>, Problem> {
    query.allow_none()?;
    let id = named(&id)?;
    let mut tx = app.db.read().await.map_err(Error::from)?;
    let session = store::get_in(&mut tx, caller.workspace, id).await.map_err(Error::from)?;
    session.ok_or(Error::NoSuchSession)?;
    let events = store::events(&mut tx, id).await.map_err(Error::from)?;
    let items = events.into_iter().map(|event| Event {
        status: event.status.as_str(),
        at: rfc3339(event.at_us),
        reason: event.reason.map(StatusReason::from),
    });
    Ok(Json(Events { items: items.collect() }))
}
