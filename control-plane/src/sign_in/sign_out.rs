//! `DELETE /v1/dashboard/auth/tokens`

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use proto::problem::Problem;

use super::{cookies, store};
use crate::{api::PersonFailure, app::App, audit, error::Error, people::Person, request::Query};

/// Sign out
///
/// Revokes the access token with every other token that came from the same sign-in, and
/// forgets the cookies. Other sign-ins of yours are left alone.
#[utoipa::path(delete, path = "/v1/dashboard/auth/tokens", tag = "sign-in",
    operation_id = "signOut",
    security(("access_token" = []), ("access_cookie" = [])),
    responses((status = 204, description = "Signed out"), PersonFailure))]
pub async fn handler(
    State(app): State<App>,
    person: Person,
    query: Query,
) -> Result<Response, Problem> {
    query.allow_none()?;
    sign_out(&app, &person).await?;
    Ok((StatusCode::NO_CONTENT, cookies::clear(&app.config.public_url)).into_response())
}

async fn sign_out(app: &App, person: &Person) -> Result<(), Error> {
    let mut tx = app.db.begin().await?;
    store::revoke(&mut tx, person.family).await?;
    audit::record_everywhere(&mut tx, person.id, &person.actor, "user.sign_out").await?;
    tx.commit().await?;
    Ok(())
}
