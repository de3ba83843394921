//! `GET /v1/sessions/{id}`

use axum::{
    Json,
    extract::{Path, State},
};
use proto::{id::SessionId, problem::Problem};

use super::{object::Session, store};
use crate::{
    api::{Failure, NoSuchSession},
    app::App,
    error::Error,
    keys::{Caller, Read},
    request::{Query, Reached},
};

/// Get a session
///
/// The session as it is now, with a fresh `connect_url` while it is not over.
#[utoipa::path(get, path = "/v1/sessions/{id}", tag = "sessions", operation_id = "getSession",
    params(("id" = String, Path, description = "The session's id")),
    security(("api_key" = ["sessions:read"])),
    responses(
        (status = 200, description = "The session", body = Session),
        NoSuchSession,
        Failure,
    ))]
pub async fn handler(
    State(app): State<App>,
    caller: Caller<Read>,
    reached: Reached,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<Session>, Problem> {
    query.allow_none()?;
    let id = named(&id)?;
    let mut tx = app.db.read().await.map_err(Error::from)?;
    let row = store::get_in(&mut tx, caller.workspace, id).await.map_err(Error::from)?;
    let row = row.ok_or(Error::NoSuchSession)?;
    let now_us = tx.now_us().await.map_err(Error::from)?;
    Ok(Json(Session::of(&app, row, now_us).reached(&app, &reached)))
}

/// The id in a path. What is no id names no session.
pub fn named(id: &str) -> Result<SessionId, Error> {
    id.parse().map_err(|_| Error::NoSuchSession)
}
