//! `POST /v1/dashboard/auth/magic-links`
//!
//! Whether an address is known shows nowhere: the answer is the same, and comes before anybody
//! has looked.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use proto::{
    id::SignInId,
    problem::{Problem, Slug},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;
use tracing::error;
use utoipa::ToSchema;

use super::{LINK, SECOND_US, link_to, store};
use crate::{
    api::{BodyFailure, Busy},
    app::App,
    credential,
    mail::Mail,
    people::{self, Email},
    request::{Body, Query},
    sessions::validate::{Faults, Object},
};

/// How long a link is good, in minutes.
const MINUTES: i64 = 15;
/// Most links that one address is sent within an hour.
const PER_HOUR: i64 = 5;
/// Requests that may wait to be looked at.
const WAITING: usize = 256;

/// Room for requests that nobody has looked at yet.
#[derive(Clone)]
pub struct Desk(Arc<Semaphore>);

impl Default for Desk {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WAITING)))
    }
}

/// Where the link is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described, for the OpenAPI document; `read` reads it")]
pub struct RequestLink {
    #[schema(example = "ada@example.org", format = "email", max_length = 254)]
    email: String,
}

/// An empty object.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted {}

/// Ask for a link to sign in with
///
/// If the address belongs to somebody, a link is mailed to it that signs in once, within 15
/// minutes; at most 5 an hour. The answer never tells whether it does.
#[utoipa::path(post, path = "/v1/dashboard/auth/magic-links", tag = "sign-in",
    operation_id = "requestMagicLink",
    request_body(content = RequestLink, example = json!({"email": "ada@example.org"})),
    security(()),
    responses(
        (status = 202, description = "Whoever has this address will have a link soon", body = Accepted, example = json!({})),
        BodyFailure,
        Busy,
    ))]
pub async fn handler(
    State(app): State<App>,
    query: Query,
    Body(body): Body,
) -> Result<Response, Problem> {
    query.allow_none()?;
    let email = read(&body)?;
    let Ok(room) = Arc::clone(&app.desk.0).try_acquire_owned() else {
        let detail = "too many people ask for links at once";
        return Err(Problem::new(Slug::InsufficientCapacity, detail).with_retry_after(2));
    };
    app.tasks.spawn({
        let app = app.clone();
        async move {
            if let Err(error) = send(&app, &email).await {
                error!(?error, "could not make a link to sign in with");
            }
            drop(room);
        }
    });
    Ok((StatusCode::ACCEPTED, Json(Accepted {})).into_response())
}

fn read(body: &Value) -> Result<Email, Problem> {
    let mut faults = Faults::default();
    let mut body = Object::read(body, "", &mut faults);
    let email = body.parsed("email", "must be an e-mail address");
    body.close();
    let email = faults.settle(email)?;
    email.ok_or_else(|| Problem::malformed("email is required"))
}

/// Mails a link, if there is somebody with this address who has not had enough of them.
async fn send(app: &App, email: &Email) -> anyhow::Result<()> {
    let mut tx = app.db.begin().await?;
    let Some(user) = people::store::lock_by_email(&mut tx, email).await? else { return Ok(()) };
    if store::links_of(&mut tx, user.id).await? >= PER_HOUR {
        return Ok(());
    }
    let id = SignInId::generate();
    let link = credential::mint(LINK, id)?;
    store::add_link(&mut tx, id, user.id, &link, MINUTES * 60 * SECOND_US).await?;
    tx.commit().await?;
    app.mailer.send(app, Mail {
        // As it was first given: the one that is known to be theirs.
        to: user.email.parse()?,
        subject: "Sign in to Ventus".to_owned(),
        before: format!("Sign in to the Ventus server {}:", app.config.public_url),
        link: link_to(app, &link.text),
        after: format!(
            "The link works once, within {MINUTES} minutes. If you did not ask for it, you need \
             not do anything.",
        ),
    });
    Ok(())
}
