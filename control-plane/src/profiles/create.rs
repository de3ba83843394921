//! `POST /v1/profiles`

use axum::{Json, extract::State, response::IntoResponse};
use http::{StatusCode, header};
use proto::problem::Problem;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Writer, name, object::Profile};
use crate::{
    api::{BodyFailure, Failure},
    app::App,
    keys::{Caller, Write},
    request::{CREATE_LIMIT, Query, WrittenBody},
    sessions::validate::{Faults, Object},
    storage_state::{self, StorageState, schema},
};

/// The profile wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described, for the OpenAPI document; `create` reads it")]
pub struct CreateProfile {
    /// Your own name for it.
    #[schema(min_length = 1, max_length = 128, example = "shop login")]
    name: String,
    /// What it holds, in Playwright's shape, of at most 5 MiB.
    storage_state: schema::StorageState,
}

/// Create a profile
///
/// From a storage state as Playwright's `context.storageState()` writes it. To make one of what
/// a session's browser holds, see `saveProfile`.
#[utoipa::path(post, path = "/v1/profiles", tag = "profiles", operation_id = "createProfile",
    request_body(content = CreateProfile, example = json!({"name": "shop login", "storage_state": {"cookies": [{"name": "sid", "value": "…", "domain": "shop.example", "path": "/"}], "origins": []}})),
    security(("api_key" = ["sessions:write"])),
    responses(
        (status = 201, description = "The new profile", body = Profile,
            headers(("Location" = String, description = "The profile's path"))),
        BodyFailure,
        Failure,
    ))]
pub async fn handler(
    State(app): State<App>,
    caller: Caller<Write>,
    query: Query,
    body: WrittenBody<CREATE_LIMIT>,
) -> Result<impl IntoResponse, Problem> {
    query.allow_none()?;
    let (name, state) = read(&body)?;
    let writer = Writer { actor: &caller.actor, session: None };
    let row = super::create(&app, caller.workspace, &writer, &name, &state.to_json()).await?;
    let location = [(header::LOCATION, format!("/v1/profiles/{}", row.id))];
    Ok((StatusCode::CREATED, location, Json(Profile::from(row))))
}

fn read(body: &WrittenBody<CREATE_LIMIT>) -> Result<(String, StorageState), Problem> {
    let mut faults = Faults::default();
    let mut object = Object::read(&body.value, "", &mut faults);
    let name = name(&mut object);
    if object.is_object && !object.has(storage_state::MEMBER) {
        object.invalid(storage_state::MEMBER, "is required");
    }
    let state = storage_state::take(&mut object, &body.text);
    object.close();
    faults.settle((name, state)).map(|(name, state)| (name, state.unwrap_or_default()))
}
