//! `PATCH /v1/dashboard/ws/{slug}`: another name.

use axum::{Json, extract::State};
use proto::problem::Problem;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{NAME_MAX, object::Workspace, store};
use crate::{
    api::{BodyFailure, MemberFailure, PersonFailure},
    app::App,
    audit::{self, Deed},
    error::Error,
    keys::Owner,
    people::Member,
    request::{Body, Query},
    sessions::validate::{Faults, Object},
};

/// What can be changed of a workspace.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described, for the OpenAPI document; `read` reads it")]
pub struct ChangeWorkspace {
    /// Its name for people.
    #[schema(example = "Search and ranking", min_length = 1, max_length = 128)]
    name: String,
}

/// Rename a workspace
///
/// Its slug stays what it is.
#[utoipa::path(patch, path = "/v1/dashboard/ws/{slug}", tag = "workspaces",
    operation_id = "changeWorkspace",
    params(("slug" = String, Path, description = "The workspace's slug", example = "search-team")),
    request_body(content = ChangeWorkspace, example = json!({"name": "Search and ranking"})),
    security(("access_token" = ["workspace:owner"]), ("access_cookie" = ["workspace:owner"])),
    responses(
        (status = 200, description = "The workspace with its new name", body = Workspace),
        MemberFailure,
        PersonFailure,
        BodyFailure,
    ))]
pub async fn handler(
    State(app): State<App>,
    member: Member<Owner>,
    query: Query,
    Body(body): Body,
) -> Result<Json<Workspace>, Problem> {
    query.allow_none()?;
    let name = read(&body)?;
    Ok(Json(rename(&app, &member, &name).await?))
}

fn read(body: &Value) -> Result<String, Problem> {
    let mut faults = Faults::default();
    let mut body = Object::read(body, "", &mut faults);
    let name = body.line("name", NAME_MAX);
    body.close();
    faults.settle(name)
}

async fn rename(app: &App, member: &Member<Owner>, name: &str) -> Result<Workspace, Error> {
    let mut tx = app.db.begin().await?;
    let role = member.lock(&mut tx).await?;
    let row = store::rename(&mut tx, member.workspace.id, name).await?;
    let deed = Deed {
        action: "workspace.rename",
        target_kind: "workspace",
        target_id: &row.id.to_string(),
        detail: &[("name", name.into())],
    };
    audit::record(&mut tx, row.id, &member.person.actor, deed).await?;
    tx.commit().await?;
    Ok(Workspace::of(row, role))
}
