//! `GET /v1/dashboard/me`

use axum::{Json, extract::State};
use proto::problem::Problem;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Person, Role};
use crate::{
    api::PersonFailure,
    app::App,
    error::Error,
    request::Query,
    workspaces::{self, Status},
};

/// The person who asks.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    /// A ULID.
    #[schema(example = "01KAW40Q2V8D6M3T7B9N5R1XKE")]
    id: String,
    #[schema(example = "ada@example.org")]
    email: String,
    /// In alphabetical order of their slugs. Deleted ones are shown to their owners alone.
    workspaces: Vec<Belonging>,
}

/// A workspace, and what the person is in it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Belonging {
    #[schema(example = "default")]
    slug: String,
    #[schema(example = "Default")]
    name: String,
    role: Role,
    status: Status,
}

/// Say who I am
///
/// The person whose token it is, and the workspaces that they belong to.
#[utoipa::path(get, path = "/v1/dashboard/me", tag = "people", operation_id = "getMe",
    security(("access_token" = []), ("access_cookie" = [])),
    responses((status = 200, description = "You", body = Me), PersonFailure))]
pub async fn handler(
    State(app): State<App>,
    person: Person,
    query: Query,
) -> Result<Json<Me>, Problem> {
    query.allow_none()?;
    let mut tx = app.db.read().await.map_err(Error::from)?;
    let all = workspaces::store::all_of(&mut tx, person.id).await.map_err(Error::from)?;
    let shown = all
        .into_iter()
        .filter(|(workspace, role)| workspace.status() != Status::Deleted || *role == Role::Owner)
        .map(|(workspace, role)| {
            let status = workspace.status();
            Belonging { slug: workspace.slug, name: workspace.name, role, status }
        });
    Ok(Json(Me { id: person.id.to_string(), email: person.email, workspaces: shown.collect() }))
}
