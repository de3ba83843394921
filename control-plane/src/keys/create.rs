//! `POST /v1/dashboard/ws/{slug}/api-keys`

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use proto::problem::Problem;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{ADMIN, ApiKey, READ, WRITE, Write, make, store};
use crate::{
    api::{BodyFailure, MemberFailure, PersonFailure},
    app::App,
    audit::{self, Deed},
    error::Error,
    people::Member,
    request::{Body, Query},
    sessions::validate::{Faults, Object},
};

/// Longest label, in characters.
const LABEL_MAX: usize = 128;
/// What a key can be made for.
const KNOWN: [&str; 3] = [READ, WRITE, ADMIN];

/// The key wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described, for the OpenAPI document; `read` reads it")]
pub struct CreateApiKey {
    /// Its name for people.
    #[schema(example = "ci", min_length = 1, max_length = 128)]
    label: String,
    /// What it is to allow: `sessions:read`, `sessions:write`, and `admin` if you are one. The
    /// first two if not given.
    #[schema(example = json!(["sessions:read"]), min_items = 1)]
    scopes: Option<Vec<Scope>>,
}

/// What a key can allow.
#[derive(Deserialize, ToSchema)]
enum Scope {
    #[serde(rename = "sessions:read")]
    Read,
    #[serde(rename = "sessions:write")]
    Write,
    #[serde(rename = "admin")]
    Admin,
}

/// A new key, with its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewApiKey {
    /// A ULID, and a part of the key itself.
    #[schema(example = "01KAW3ZJ8E5T7M1V9C4X2N6R0S")]
    id: String,
    #[schema(example = "ci")]
    label: String,
    /// What it allows now: what it was made for, within its maker's role.
    #[schema(example = json!(["sessions:read", "sessions:write"]))]
    scopes: Vec<String>,
    #[schema(format = DateTime, example = "2026-11-22T12:00:00.000Z")]
    created_at: String,
    /// The id of the person who made it: yours.
    #[schema(example = "01KAW40Q2V8D6M3T7B9N5R1XKE")]
    created_by: Option<String>,
    /// Null: it is new.
    #[schema(format = DateTime)]
    revoked_at: Option<String>,
    /// The key itself, for `Authorization: Bearer`. It is shown this once.
    #[schema(example = "vs_01KAW3ZJ8E5T7M1V9C4X2N6R0S.aZ3kP9xQ2mR7tB5wN8cV1dL6fH4jS0gY")]
    secret: String,
}

/// Create an API key
///
/// Answers with the key itself, this once. It works until it is revoked or you leave the
/// workspace, and never allows more than your role does.
#[utoipa::path(post, path = "/v1/dashboard/ws/{slug}/api-keys", tag = "api-keys",
    operation_id = "createApiKey",
    params(("slug" = String, Path, description = "The workspace's slug", example = "search-team")),
    request_body(content = CreateApiKey, example = json!({"label": "ci"})),
    security(("access_token" = ["sessions:write"]), ("access_cookie" = ["sessions:write"])),
    responses(
        (status = 201, description = "The key with its secret", body = NewApiKey),
        MemberFailure,
        PersonFailure,
        BodyFailure,
    ))]
pub async fn handler(
    State(app): State<App>,
    member: Member<Write>,
    query: Query,
    Body(body): Body,
) -> Result<Response, Problem> {
    query.allow_none()?;
    let (label, scopes) = read(&body)?;
    let new = create(&app, &member, &label, &scopes).await?;
    Ok((StatusCode::CREATED, Json(new)).into_response())
}

fn read(body: &Value) -> Result<(String, Vec<&'static str>), Problem> {
    let mut faults = Faults::default();
    let mut body = Object::read(body, "", &mut faults);
    let label = body.line("label", LABEL_MAX);
    let scopes = scopes(&mut body);
    body.close();
    faults.settle((label, scopes))
}

/// Each once, in the order of [`KNOWN`].
fn scopes(body: &mut Object<'_, '_>) -> Vec<&'static str> {
    let Some(given) = body.take("scopes") else { return vec![READ, WRITE] };
    let names: Option<Vec<_>> =
        given.as_array().and_then(|given| given.iter().map(Value::as_str).collect());
    let names = names.unwrap_or_default();
    if names.is_empty() || names.iter().any(|name| !KNOWN.contains(name)) {
        body.invalid("scopes", format!("must be a list of at least one of {}", KNOWN.join(", ")));
    }
    KNOWN.into_iter().filter(|scope| names.contains(scope)).collect()
}

async fn create(
    app: &App,
    member: &Member<Write>,
    label: &str,
    scopes: &[&str],
) -> Result<NewApiKey, Error> {
    let workspace = member.workspace.id;
    let mut tx = app.db.begin().await?;
    let role = member.lock(&mut tx).await?;
    if let Some(scope) = scopes.iter().find(|scope| !role.allows(scope)) {
        let detail = format!("the role {role} cannot make a key with the scope {scope}");
        return Err(Error::Forbidden(detail));
    }
    let (id, secret) = make(&mut tx, workspace, Some(member.person.id), label, scopes).await?;
    let deed = Deed {
        action: "api_key.create",
        target_kind: "api_key",
        target_id: &id.to_string(),
        detail: &[("label", label.into()), ("scopes", scopes.into())],
    };
    audit::record(&mut tx, workspace, &member.person.actor, deed).await?;
    let made = store::find(&mut tx, id).await?;
    tx.commit().await?;
    let made = made.ok_or_else(|| anyhow::anyhow!("a key that was just made is not there"))?;
    let ApiKey { id, label, scopes, created_at, created_by, revoked_at } = made.into();
    Ok(NewApiKey { id, label, scopes, created_at, created_by, revoked_at, secret })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scopes_are_read_in_any_order_and_default_to_those_for_sessions() {
        let of = |body: Value| read(&body).map(|(_, scopes)| scopes);
        assert_eq!(of(json!({"label": "x"})).unwrap(), [READ, WRITE]);
        assert_eq!(of(json!({"label": "x", "scopes": null})).unwrap(), [READ, WRITE]);
        let all = json!({"label": "x", "scopes": [ADMIN, READ, ADMIN, WRITE]});
        assert_eq!(of(all).unwrap(), [READ, WRITE, ADMIN]);
        for bad in [json!([]), json!(["workspace:owner"]), json!([7]), json!("admin"), json!({})] {
            let problem = of(json!({"label": "x", "scopes": bad})).unwrap_err();
            assert_eq!(problem.status(), 422);
            assert!(problem.detail().contains("/scopes"));
        }
        assert!(of(json!({"label": "x".repeat(128)})).is_ok());
        for label in ["", "a\nb", &"x".repeat(129)] {
            assert_eq!(of(json!({"label": label})).unwrap_err().status(), 422);
        }
    }
}
