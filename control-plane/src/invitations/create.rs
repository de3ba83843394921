//! `POST /v1/dashboard/ws/{slug}/invitations`

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use proto::{id::InvitationId, problem::Problem};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{DAYS, Invitation, PREFIX, store};
use crate::{
    api::{BodyFailure, Conflicting, MemberFailure, PersonFailure},
    app::App,
    audit::{self, Deed},
    credential,
    error::Error,
    keys::Admin,
    mail::Mail,
    members,
    people::{Email, Member, Role},
    request::{Body, Query},
    sessions::validate::{Faults, Object},
    sign_in::link_to,
};

/// The invitation wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described, for the OpenAPI document; `read` reads it")]
pub struct CreateInvitation {
    /// Where the link is sent.
    #[schema(example = "grace@example.org", format = "email", max_length = 254)]
    email: String,
    /// What they will be.
    #[schema(value_type = Role, example = "member")]
    role: String,
}

/// Invite somebody
///
/// Sends a link that makes its holder a member, once, within 7 days. Admins invite viewers and
/// members, owners anybody. A new invitation for the same address takes the place of the old
/// one, whose link stops working.
#[utoipa::path(post, path = "/v1/dashboard/ws/{slug}/invitations", tag = "members",
    operation_id = "createInvitation",
    params(("slug" = String, Path, description = "The workspace's slug", example = "search-team")),
    request_body(content = CreateInvitation, example = json!({"email": "grace@example.org", "role": "member"})),
    security(("access_token" = ["admin"]), ("access_cookie" = ["admin"])),
    responses(
        (status = 201, description = "The invitation; its link is on its way", body = Invitation),
        Conflicting,
        MemberFailure,
        PersonFailure,
        BodyFailure,
    ))]
pub async fn handler(
    State(app): State<App>,
    member: Member<Admin>,
    query: Query,
    Body(body): Body,
) -> Result<Response, Problem> {
    query.allow_none()?;
    let (email, role) = read(&body)?;
    let invitation = invite(&app, &member, &email, role).await?;
    Ok((StatusCode::CREATED, Json(invitation)).into_response())
}

fn read(body: &Value) -> Result<(Email, Role), Problem> {
    let mut faults = Faults::default();
    let mut body = Object::read(body, "", &mut faults);
    let email = body.parsed("email", "must be an e-mail address");
    let role = body.parsed("role", Role::RULE);
    body.close();
    let wanted = faults.settle(email.zip(role))?;
    wanted.ok_or_else(|| Problem::malformed("email and role are required"))
}

async fn invite(
    app: &App,
    member: &Member<Admin>,
    email: &Email,
    role: Role,
) -> Result<Invitation, Error> {
    let workspace = &member.workspace;
    let mut tx = app.db.begin().await?;
    let own = member.lock(&mut tx).await?;
    if !own.governs(role) {
        return Err(Error::Forbidden(format!("the role {own} cannot invite an {role}")));
    }
    if members::store::by_email(&mut tx, workspace.id, email).await?.is_some() {
        return Err(Error::Conflict("this address belongs to a member already".to_owned()));
    }
    let id = InvitationId::generate();
    let link = credential::mint(PREFIX, id)?;
    let lasts_us = DAYS * 24 * 3_600 * 1_000_000;
    let new = store::New { id, email, role, secret_hash: &link.hash, lasts_us };
    let row = store::put(&mut tx, workspace.id, &new).await?;
    let deed = Deed {
        action: "invitation.create",
        target_kind: "invitation",
        target_id: &id.to_string(),
        detail: &[("email", email.as_str().into()), ("role", role.as_str().into())],
    };
    audit::record(&mut tx, workspace.id, &member.person.actor, deed).await?;
    tx.commit().await?;
    app.mailer.send(
        app,
        Mail {
            to: email.clone(),
            subject: format!("Join {} on Ventus", workspace.name),
            before: format!(
                "{} invites you to the workspace {} on the Ventus server {}, as {role}.",
                member.person.email, workspace.name, app.config.public_url,
            ),
            link: link_to(app, &link.text),
            after: format!(
                "The link works once, within {DAYS} days. If you do not know what this is about, \
             you need not do anything.",
            ),
        },
    );
    Ok(row.into())
}
