//! `PATCH /v1/dashboard/ws/{slug}/members/{user_id}`: another role.

use axum::{
    Json,
    extract::{Path, State},
};
use proto::{id::UserId, problem::Problem};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{MemberObject, keep_an_owner, named, no_such_member, store};
use crate::{
    api::{BodyFailure, LastOwner, MemberFailure, PersonFailure},
    app::App,
    audit::{self, Deed},
    error::Error,
    keys::Admin,
    people::{Member, Role},
    request::{Body, Query},
    sessions::validate::{Faults, Object},
};

/// What can be changed of a member.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described, for the OpenAPI document; `read` reads it")]
pub struct ChangeMember {
    /// What they are to be.
    #[schema(value_type = Role, example = "member")]
    role: String,
}

/// Change a member's role
///
/// Admins move people between viewer and member; owners give any role to anybody, but the
/// last owner stays one. A member who becomes a viewer keeps their API keys, which from then
/// on can only read: a key never allows more than its maker's role does now.
#[utoipa::path(patch, path = "/v1/dashboard/ws/{slug}/members/{user_id}", tag = "members",
    operation_id = "changeMember",
    params(
        ("slug" = String, Path, description = "The workspace's slug", example = "search-team"),
        ("user_id" = String, Path, description = "The person's id", example = "01KAW40Q2V8D6M3T7B9N5R1XKE"),
    ),
    request_body(content = ChangeMember, example = json!({"role": "member"})),
    security(("access_token" = ["admin"]), ("access_cookie" = ["admin"])),
    responses(
        (status = 200, description = "The member with the new role", body = MemberObject),
        LastOwner,
        MemberFailure,
        PersonFailure,
        BodyFailure,
    ))]
pub async fn handler(
    State(app): State<App>,
    member: Member<Admin>,
    path: Path<(String, String)>,
    query: Query,
    Body(body): Body,
) -> Result<Json<MemberObject>, Problem> {
    query.allow_none()?;
    let Path((_, user)) = path;
    let user = named(&user)?;
    let role = read(&body)?;
    Ok(Json(change(&app, &member, user, role).await?))
}

fn read(body: &Value) -> Result<Role, Problem> {
    let mut faults = Faults::default();
    let mut body = Object::read(body, "", &mut faults);
    let role = body.parsed("role", Role::RULE);
    body.close();
    faults.settle(role.unwrap_or(Role::Viewer))
}

async fn change(
    app: &App,
    member: &Member<Admin>,
    user: UserId,
    role: Role,
) -> Result<MemberObject, Error> {
    let workspace = member.workspace.id;
    let mut tx = app.db.begin().await?;
    let own = member.lock(&mut tx).await?;
    let mut other = store::get(&mut tx, workspace, user).await?.ok_or_else(no_such_member)?;
    if !own.governs(other.role) || !own.governs(role) {
        let detail = format!("the role {own} cannot make a {} a {role}", other.role);
        return Err(Error::Forbidden(detail));
    }
    if other.role != role {
        keep_an_owner(&mut tx, workspace, other.role).await?;
        store::set(&mut tx, workspace, user, role).await?;
        let deed = Deed {
            action: "member.role",
            target_kind: "user",
            target_id: &user.to_string(),
            detail: &[
                ("email", other.email.as_str().into()),
                ("from", other.role.as_str().into()),
                ("to", role.as_str().into()),
            ],
        };
        audit::record(&mut tx, workspace, &member.person.actor, deed).await?;
    }
    tx.commit().await?;
    other.role = role;
    Ok(other.into())
}
