//! `POST /v1/dashboard/workspaces`

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use proto::problem::Problem;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{NAME_MAX, SLUG_MAX, is_slug, object::Workspace, store};
use crate::{
    api::{BodyFailure, Conflicting, PersonFailure},
    app::App,
    audit::{self, Deed},
    error::Error,
    members,
    people::{Person, Role},
    request::{Body, Query},
    sessions::validate::{Faults, Object},
};

/// The workspace wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described, for the OpenAPI document; `read` reads it")]
pub struct CreateWorkspace {
    /// Its name in paths: lower-case letters, digits and hyphens, a letter or digit first and
    /// last. It can never be changed.
    #[schema(example = "search-team", min_length = 1, max_length = 63)]
    slug: String,
    /// Its name for people.
    #[schema(example = "Search team", min_length = 1, max_length = 128)]
    name: String,
}

/// Create a workspace
///
/// You become its owner. The slug of a deleted workspace is free again once that is purged.
#[utoipa::path(post, path = "/v1/dashboard/workspaces", tag = "workspaces",
    operation_id = "createWorkspace",
    request_body(content = CreateWorkspace, example = json!({"slug": "search-team", "name": "Search team"})),
    security(("access_token" = []), ("access_cookie" = [])),
    responses(
        (status = 201, description = "The new workspace", body = Workspace,
            headers(("Location" = String, description = "The workspace's path"))),
        Conflicting,
        PersonFailure,
        BodyFailure,
    ))]
pub async fn handler(
    State(app): State<App>,
    person: Person,
    query: Query,
    Body(body): Body,
) -> Result<Response, Problem> {
    query.allow_none()?;
    let (slug, name) = read(&body)?;
    let workspace = create(&app, &person, &slug, &name).await?;
    let location = [(header::LOCATION, format!("/v1/dashboard/ws/{slug}"))];
    Ok((StatusCode::CREATED, location, Json(workspace)).into_response())
}

fn read(body: &Value) -> Result<(String, String), Problem> {
    let mut faults = Faults::default();
    let mut body = Object::read(body, "", &mut faults);
    let slug = body.line("slug", SLUG_MAX);
    if !slug.is_empty() && !is_slug(&slug) {
        let rule = "must have lower-case letters, digits and hyphens only, a letter or digit \
                    first and last";
        body.invalid("slug", rule);
    }
    let name = body.line("name", NAME_MAX);
    body.close();
    faults.settle((slug, name))
}

async fn create(app: &App, person: &Person, slug: &str, name: &str) -> Result<Workspace, Error> {
    let mut tx = app.db.begin().await?;
    let made = store::insert_new(&mut tx, slug, name).await?;
    let made = made.ok_or_else(|| {
        Error::Conflict(format!("a workspace with the slug {slug:?} is there already"))
    })?;
    members::store::set(&mut tx, made.id, person.id, Role::Owner).await?;
    let deed = Deed {
        action: "workspace.create",
        target_kind: "workspace",
        target_id: &made.id.to_string(),
        detail: &[("slug", slug.into()), ("name", name.into())],
    };
    audit::record(&mut tx, made.id, &person.actor, deed).await?;
    tx.commit().await?;
    Ok(Workspace::of(made, Role::Owner))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_slug_fits_into_a_path_and_a_host_name() {
        for slug in ["a", "7", "search-team", "a--b", &"x".repeat(63)] {
            assert!(read(&json!({"slug": slug, "name": "N"})).is_ok(), "{slug}");
        }
        for slug in ["", "A", "-a", "a-", "a_b", "a.b", "a b", "ä", &"x".repeat(64)] {
            let problem = read(&json!({"slug": slug, "name": "N"})).unwrap_err();
            assert_eq!(problem.status(), 422, "{slug}");
            assert!(problem.detail().contains("/slug"), "{slug}");
        }
    }

    #[test]
    fn a_name_is_one_line() {
        for name in ["N", "Ü b", &"ü".repeat(128)] {
            assert!(read(&json!({"slug": "a", "name": name})).is_ok(), "{name}");
        }
        for name in ["", " ", "a\nb", "a\0b", &"x".repeat(129)] {
            assert_eq!(read(&json!({"slug": "a", "name": name})).unwrap_err().status(), 422);
        }
        let both = read(&json!({})).unwrap_err();
        assert!(both.detail().contains("/slug, /name"), "{}", both.detail());
        assert_eq!(read(&json!({"slug": "a", "name": "b", "x": 1})).unwrap_err().status(), 400);
    }
}
