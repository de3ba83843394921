//! `PATCH` and `DELETE /v1/profiles/{id}`: rename a profile, or delete it.

use axum::{
    Json,
    extract::{Path, State},
};
use http::StatusCode;
use proto::{
    id::{ProfileId, WorkspaceId},
    problem::Problem,
};
use serde::Deserialize;
use tracing::info;
use utoipa::ToSchema;

use super::{ProfileRow, content, get::named, name, object::Profile, store};
use crate::{
    api::{BodyFailure, Failure, NoSuchProfile},
    app::App,
    audit::{self, Actor, Deed},
    error::Error,
    keys::{Caller, Write},
    request::{Body, Query},
    sessions::validate::{Faults, Object},
};

/// What is to change.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described, for the OpenAPI document; `patch` reads it")]
pub struct ChangeProfile {
    /// Its new name.
    #[schema(min_length = 1, max_length = 128, example = "shop login")]
    name: String,
}

/// Rename a profile
///
/// What it holds is replaced by `saveProfile` alone.
#[utoipa::path(patch, path = "/v1/profiles/{id}", tag = "profiles",
    operation_id = "changeProfile",
    params(("id" = String, Path, description = "The profile's id")),
    request_body(content = ChangeProfile, example = json!({"name": "shop login"})),
    security(("api_key" = ["sessions:write"])),
    responses(
        (status = 200, description = "The profile with its new name", body = Profile),
        NoSuchProfile,
        BodyFailure,
        Failure,
    ))]
pub async fn patch(
    State(app): State<App>,
    caller: Caller<Write>,
    Path(id): Path<String>,
    query: Query,
    Body(body): Body,
) -> Result<Json<Profile>, Problem> {
    query.allow_none()?;
    let id = named(&id)?;
    let mut faults = Faults::default();
    let mut object = Object::read(&body, "", &mut faults);
    let name = name(&mut object);
    object.close();
    let name = faults.settle(name)?;
    let row = rename(&app, caller.workspace, &caller.actor, id, &name).await?;
    Ok(Json(row.into()))
}

async fn rename(
    app: &App,
    workspace: WorkspaceId,
    actor: &Actor,
    id: ProfileId,
    name: &str,
) -> Result<ProfileRow, Error> {
    let mut tx = app.db.begin().await?;
    let row = store::rename(&mut tx, workspace, id, name).await?;
    let row = row.ok_or(Error::NoSuchProfile)?;
    let deed = Deed {
        action: "profile.update",
        target_kind: "profile",
        target_id: &id.to_string(),
        detail: &[("name", name.into())],
    };
    audit::record(&mut tx, workspace, actor, deed).await?;
    tx.commit().await?;
    Ok(row)
}

/// Delete a profile
///
/// What it holds is overwritten, then deleted. Sessions that began with it go on.
#[utoipa::path(delete, path = "/v1/profiles/{id}", tag = "profiles",
    operation_id = "deleteProfile",
    params(("id" = String, Path, description = "The profile's id")),
    security(("api_key" = ["sessions:write"])),
    responses(
        (status = 204, description = "Deleted"),
        NoSuchProfile,
        Failure,
    ))]
pub async fn delete(
    State(app): State<App>,
    caller: Caller<Write>,
    Path(id): Path<String>,
    query: Query,
) -> Result<StatusCode, Problem> {
    query.allow_none()?;
    remove(&app, caller.workspace, &caller.actor, named(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(
    app: &App,
    workspace: WorkspaceId,
    actor: &Actor,
    id: ProfileId,
) -> Result<(), Error> {
    let mut tx = app.db.begin().await?;
    let held = store::lock(&mut tx, workspace, id).await?.ok_or(Error::NoSuchProfile)?;
    store::delete(&mut tx, id, &held).await?;
    let deed = Deed {
        action: "profile.delete",
        target_kind: "profile",
        target_id: &id.to_string(),
        detail: &[],
    };
    audit::record(&mut tx, workspace, actor, deed).await?;
    tx.commit().await?;
    content::forget(app, id, &held).await;
    info!(profile = %id, "deleted a profile");
    Ok(())
}
