//! `POST /v1/sessions/{id}/save-profile`

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use proto::{
    id::{ProfileId, SessionId, WorkspaceId},
    problem::Problem,
    session::SessionStatus,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{SessionRow, captures, get::named, store, validate};
use crate::{
    api::{BodyFailure, Failure, NoSuchSession, NotCaptured, WrongState},
    app::App,
    error::Error,
    keys::{Caller, Write},
    profiles::{self, Writer, object::Profile},
    request::{Body, Query},
};

/// Exactly one of the two.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub enum SaveProfile {
    /// Makes a profile.
    New(SaveNewProfile),
    /// Replaces what a profile holds.
    Known(SaveKnownProfile),
}

/// Makes a profile.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described, for the OpenAPI document; `validate` reads it")]
pub struct SaveNewProfile {
    /// The name of the new profile.
    #[schema(min_length = 1, max_length = 128, example = "shop login")]
    name: String,
}

/// Replaces what a profile holds.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described, for the OpenAPI document; `validate` reads it")]
pub struct SaveKnownProfile {
    /// The profile.
    #[schema(example = "01KAW4D2T7R9V3X5Z8B6C1F4GH")]
    profile_id: String,
}

/// Where a session's storage state is to go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Into a profile of this name.
    New(String),
    /// Into this profile, in place of what it holds.
    Known(ProfileId),
}

/// Save a session's browser as a profile
///
/// Cookies, local storage and IndexedDB of all origins that the browser has seen, as they are
/// now; the session goes on. `{"name"}` makes a profile, `{"profile_id"}` replaces what one
/// holds.
#[utoipa::path(post, path = "/v1/sessions/{id}/save-profile", tag = "sessions",
    operation_id = "saveProfile",
    params(("id" = String, Path, description = "The session's id")),
    request_body(content = SaveProfile, example = json!({"name": "shop login"})),
    security(("api_key" = ["sessions:write"])),
    responses(
        (status = 200, description = "The profile with what it now holds", body = Profile),
        (status = 201, description = "The new profile", body = Profile,
            headers(("Location" = String, description = "The profile's path"))),
        NoSuchSession,
        WrongState,
        BodyFailure,
        Failure,
        NotCaptured,
    ))]
pub async fn handler(
    State(app): State<App>,
    caller: Caller<Write>,
    Path(id): Path<String>,
    query: Query,
    Body(body): Body,
) -> Result<Response, Problem> {
    query.allow_none()?;
    let id = named(&id)?;
    let target = validate::save_profile(&body)?;
    // In a task of its own: what has been asked of the browser is done, whoever still listens.
    let saving = app.tasks.spawn({
        let app = app.clone();
        async move { save(&app, &caller, id, &target).await }
    });
    let (status, profile) =
        saving.await.map_err(|error| Error::from(anyhow::Error::from(error)))??;
    let location = format!("/v1/profiles/{}", profile.id);
    let mut response = (status, Json(Profile::from(profile))).into_response();
    if status == StatusCode::CREATED
        && let Ok(location) = location.try_into()
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn save(
    app: &App,
    caller: &Caller<Write>,
    id: SessionId,
    target: &Target,
) -> Result<(StatusCode, profiles::ProfileRow), Error> {
    let session = ready(app, caller.workspace, id, target).await?;
    let state = captures::capture(app, &session).await?;
    let writer = Writer { actor: &caller.actor, session: Some(id) };
    match target {
        Target::New(name) => {
            let row = profiles::create(app, caller.workspace, &writer, name, &state).await?;
            Ok((StatusCode::CREATED, row))
        }
        Target::Known(profile) => {
            let row = profiles::replace(app, caller.workspace, &writer, *profile, &state).await?;
            Ok((StatusCode::OK, row.ok_or(Error::UnknownProfile)?))
        }
    }
}

/// The session, if it runs and there is a place for its state.
async fn ready(
    app: &App,
    workspace: WorkspaceId,
    id: SessionId,
    target: &Target,
) -> Result<SessionRow, Error> {
    let mut tx = app.db.read().await?;
    let session = store::get_in(&mut tx, workspace, id).await?.ok_or(Error::NoSuchSession)?;
    if let Target::Known(profile) = target
        && profiles::store::get(&mut tx, workspace, *profile).await?.is_none()
    {
        return Err(Error::UnknownProfile);
    }
    if session.status != SessionStatus::Running {
        return Err(Error::Conflict(format!("the session is {}, not RUNNING", session.status)));
    }
    Ok(session)
}
