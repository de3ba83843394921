//! `POST /v1/dashboard/auth/tokens`: a link's token for tokens to work with.

use axum::{extract::State, response::Response};
use proto::{
    id::{InvitationId, SignInId},
    problem::Problem,
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Joined, LINK, Pair, Tokens, answer, begin, store, token};
use crate::{
    api::{BadToken, BodyFailure, Busy},
    app::App,
    audit::{self, Actor, Deed, Peer},
    credential,
    db::Tx,
    error::Error,
    invitations, members,
    people::{self, store::UserRow},
    request::{Body, Query},
    sessions::validate::{Faults, Object},
    workspaces::{self, Status},
};

/// A token out of a link.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described, for the OpenAPI document; `read` reads it")]
pub struct UseLink {
    /// What is behind `#token=` in a link: `vm_…` signs in, `vi_…` accepts an invitation and
    /// signs in.
    #[schema(
        example = "vm_01KAW46P9D2S7J4M8V1B5Z3XQN.aZ3kP9xQ2mR7tB5wN8cV1dL6fH4jS0gY",
        pattern = "^v[mi]_[0-7][0-9A-HJKMNP-TV-Z]{25}[.][0-9A-Za-z]{32}$"
    )]
    token: String,
}

/// Sign in
///
/// Uses the token of a link up and answers with an access token, good for an hour, and a
/// refresh token, good for 30 days. Both are also set as cookies.
#[utoipa::path(post, path = "/v1/dashboard/auth/tokens", tag = "sign-in",
    operation_id = "signIn",
    request_body(content = UseLink, example = json!({"token": "vm_01KAW46P9D2S7J4M8V1B5Z3XQN.aZ3kP9xQ2mR7tB5wN8cV1dL6fH4jS0gY"})),
    security(()),
    responses(
        (status = 200, description = "Signed in", body = Tokens,
            headers(("Set-Cookie" = String, description = "`ventus_access` and `ventus_refresh`"))),
        BadToken,
        BodyFailure,
        Busy,
    ))]
pub async fn handler(
    State(app): State<App>,
    peer: Peer,
    query: Query,
    Body(body): Body,
) -> Result<Response, Problem> {
    query.allow_none()?;
    let token = read(&body)?;
    let (pair, user, joined) = exchange(&app, peer, &token).await?;
    Ok(answer(&app, pair, user, joined))
}

fn read(body: &Value) -> Result<String, Problem> {
    let mut faults = Faults::default();
    let mut body = Object::read(body, "", &mut faults);
    let token = token(&mut body, "token", true);
    body.close();
    Ok(faults.settle(token)?.unwrap_or_default())
}

async fn exchange(
    app: &App,
    peer: Peer,
    token: &str,
) -> Result<(Pair, UserRow, Option<Joined>), Error> {
    let mut tx = app.db.begin().await?;
    let (user, joined) = if let Some((id, secret)) = credential::parse(LINK, token) {
        (by_link(&mut tx, id, secret).await?, None)
    } else if let Some((id, secret)) = credential::parse(invitations::PREFIX, token) {
        let (user, joined) = by_invitation(&mut tx, id, secret, &peer).await?;
        (user, Some(joined))
    } else {
        return Err(spent());
    };
    let pair = begin(&mut tx, user.id).await?;
    let actor = Actor::user(user.id, &user.email, peer);
    audit::record_everywhere(&mut tx, user.id, &actor, "user.sign_in").await?;
    tx.commit().await?;
    Ok((pair, user, joined))
}

async fn by_link(tx: &mut Tx, id: SignInId, secret: &str) -> Result<UserRow, Error> {
    let link = store::find_link(tx, id).await?;
    let known = link.as_ref().map(|link| link.secret_hash.as_slice());
    let matches = credential::matches(secret, known);
    let link = link.filter(|_| matches).ok_or_else(spent)?;
    if !store::use_link(tx, id).await? {
        return Err(spent());
    }
    people::store::get(tx, link.user_id).await?.ok_or_else(spent)
}

async fn by_invitation(
    tx: &mut Tx,
    id: InvitationId,
    secret: &str,
    peer: &Peer,
) -> Result<(UserRow, Joined), Error> {
    let found = invitations::store::get(tx, id).await?;
    let known = found.as_ref().map(|found| found.secret_hash.as_slice());
    let matches = credential::matches(secret, known);
    let now = tx.now_us().await?;
    let found = found.filter(|found| matches && found.expires_us > now).ok_or_else(spent)?;
    let workspace = workspaces::store::lock(tx, found.workspace_id).await?.ok_or_else(spent)?;
    match workspace.status() {
        Status::Active => (),
        Status::Suspended => {
            let detail = "the workspace is suspended: try again once it is resumed";
            return Err(Error::Forbidden(detail.to_owned()));
        }
        Status::Deleted => return Err(spent()),
    }
    if !invitations::store::take(tx, id).await? {
        return Err(spent());
    }
    let email = found.email.parse().map_err(anyhow::Error::from)?;
    let user = people::store::ensure(tx, &email).await?;
    // Who was made a member meanwhile stays what they are.
    if members::store::role(tx, workspace.id, user.id).await?.is_none() {
        members::store::set(tx, workspace.id, user.id, found.role).await?;
    }
    let deed = Deed {
        action: "member.join",
        target_kind: "user",
        target_id: &user.id.to_string(),
        detail: &[("email", user.email.as_str().into()), ("role", found.role.as_str().into())],
    };
    let actor = Actor::user(user.id, &user.email, peer.clone());
    audit::record(tx, workspace.id, &actor, deed).await?;
    Ok((user, Joined { slug: workspace.slug, name: workspace.name }))
}

fn spent() -> Error {
    Error::Unauthorized("the link is unknown, expired, or was used already: ask for a new one")
}
