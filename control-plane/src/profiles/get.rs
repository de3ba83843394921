//! `GET /v1/profiles/{id}` and `GET /v1/profiles/{id}/storage-state`

use axum::{
    Json,
    extract::{Path, State},
    response::IntoResponse,
};
use http::header;
use proto::{id::ProfileId, problem::Problem};

use super::{content, object::Profile, store};
use crate::{
    api::{Failure, NoSuchProfile},
    app::App,
    error::Error,
    keys::{Caller, Read, Write},
    request::Query,
    storage_state::schema::SavedState,
};

/// Get a profile
///
/// What is known of it; what it holds is at `getProfileStorageState`.
#[utoipa::path(get, path = "/v1/profiles/{id}", tag = "profiles", operation_id = "getProfile",
    params(("id" = String, Path, description = "The profile's id")),
    security(("api_key" = ["sessions:read"])),
    responses(
        (status = 200, description = "The profile", body = Profile),
        NoSuchProfile,
        Failure,
    ))]
pub async fn handler(
    State(app): State<App>,
    caller: Caller<Read>,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<Profile>, Problem> {
    query.allow_none()?;
    let id = named(&id)?;
    let mut tx = app.db.read().await.map_err(Error::from)?;
    let row = store::get(&mut tx, caller.workspace, id).await.map_err(Error::from)?;
    Ok(Json(row.ok_or(Error::NoSuchProfile)?.into()))
}

/// Get what a profile holds
///
/// Its storage state in Playwright's shape: `newContext({ storageState })` takes it. It needs
/// `sessions:write`, since it may log its reader in, as a session with the profile would.
#[utoipa::path(get, path = "/v1/profiles/{id}/storage-state", tag = "profiles",
    operation_id = "getProfileStorageState",
    params(("id" = String, Path, description = "The profile's id")),
    security(("api_key" = ["sessions:write"])),
    responses(
        (status = 200, description = "The storage state", body = SavedState,
            example = json!({"cookies": [], "origins": []})),
        NoSuchProfile,
        Failure,
    ))]
pub async fn storage_state(
    State(app): State<App>,
    caller: Caller<Write>,
    Path(id): Path<String>,
    query: Query,
) -> Result<impl IntoResponse, Problem> {
    query.allow_none()?;
    let state = content::read(&app, caller.workspace, named(&id)?).await?;
    let state = state.ok_or(Error::NoSuchProfile)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], state))
}

/// The id in a path. What is no id names no profile.
pub fn named(id: &str) -> Result<ProfileId, Error> {
    id.parse().map_err(|_| Error::NoSuchProfile)
}
