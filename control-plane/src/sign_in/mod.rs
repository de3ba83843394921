//! Signing in: by a link that was mailed, never by a password.
//!
//! ```text
//! magic link vm_ ─┐               ┌─▶ access token vd_, 1 h
//!                 ├─ used once ─▶ │
//! invitation vi_ ─┘               └─▶ refresh token vr_, 30 days ─ used once ─▶ the next pair
//! ```
//!
//! All pairs that come from one sign-in are a family. A refresh token that is used a second
//! time was stolen, or its thief was faster: nobody can tell, so the whole family is revoked.
//! Only within the first seconds a repetition is taken for what it mostly is, an answer that
//! was lost, and gets the very same tokens again; these can be told again without being
//! stored, as they are derived from the old one with a key that only servers have.

pub mod cookies;
pub mod exchange;
pub mod link;
pub mod page;
pub mod refresh;
pub mod sign_out;
pub mod store;

#[cfg(test)]
mod tests;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use proto::id::{SignInId, UserId};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    app::App,
    credential,
    credential::Credential,
    db::Tx,
    people::store::UserRow,
    sessions::{object::rfc3339, validate::Object},
};

/// What an access token begins with.
pub const ACCESS: &str = "vd";
/// What a refresh token begins with.
pub const REFRESH: &str = "vr";
/// What the token in a magic link begins with.
pub const LINK: &str = "vm";

const SECOND_US: i64 = 1_000_000;
/// How long an access token is good, in microseconds: 1 h.
const ACCESS_US: i64 = 3_600 * SECOND_US;
/// How long a refresh token is good, in microseconds: 30 days.
const REFRESH_US: i64 = 30 * 24 * 3_600 * SECOND_US;

/// Longest text that is looked at for a token, in characters: none is as long.
const TOKEN_MAX: usize = 256;

/// A token in a body. Whether it is one is not for the body's reader to say.
fn token(body: &mut Object<'_, '_>, name: &str, required: bool) -> Option<String> {
    let rule = format!("must be a text of at most {TOKEN_MAX} characters");
    let fits = |value: &Value| value.as_str().is_some_and(|text| text.len() <= TOKEN_MAX);
    body.checked(name, required, &rule, fits)?.as_str().map(str::to_owned)
}

/// The address of the sign-in page with a token. It is behind the `#`: what is there reaches
/// no server, so no log, and a scanner that opens the link uses nothing up.
pub fn link_to(app: &App, token: &str) -> String {
    format!("{}/sign-in#token={token}", app.config.public_url)
}

/// A pair of tokens. Has no `Debug`: they are secrets.
struct Pair {
    access: Credential,
    refresh: Credential,
    access_expires_us: i64,
    refresh_expires_us: i64,
}

/// Records a pair of new tokens for a person who has just proved who they are.
async fn begin(tx: &mut Tx, user: UserId) -> anyhow::Result<Pair> {
    let (id, now) = (SignInId::generate(), tx.now_us().await?);
    let pair = Pair {
        access: credential::mint(ACCESS, id)?,
        refresh: credential::mint(REFRESH, id)?,
        access_expires_us: now + ACCESS_US,
        refresh_expires_us: now + REFRESH_US,
    };
    store::insert(tx, id, id, user, &pair).await?;
    Ok(pair)
}

/// Tokens, and whose they are.
#[derive(Serialize, ToSchema)]
pub struct Tokens {
    /// For `Authorization: Bearer` on the dashboard's routes; also set as a cookie.
    #[schema(example = "vd_01KAW47Y3G9B1T5K8N2D6P0SXC.aZ3kP9xQ2mR7tB5wN8cV1dL6fH4jS0gY")]
    access_token: String,
    #[schema(format = DateTime, example = "2026-11-22T13:00:00.000Z")]
    access_expires_at: String,
    /// Gets the next pair of tokens, once; also set as a cookie.
    #[schema(example = "vr_01KAW47Y3G9B1T5K8N2D6P0SXC.aZ3kP9xQ2mR7tB5wN8cV1dL6fH4jS0gY")]
    refresh_token: String,
    #[schema(format = DateTime, example = "2026-12-22T12:00:00.000Z")]
    refresh_expires_at: String,
    user: User,
    /// The workspace that an invitation led to; null otherwise.
    workspace: Option<Joined>,
}

/// A person.
#[derive(Debug, Serialize, ToSchema)]
pub struct User {
    /// A ULID.
    #[schema(example = "01KAW40Q2V8D6M3T7B9N5R1XKE")]
    id: String,
    #[schema(example = "ada@example.org")]
    email: String,
}

/// A workspace that was joined.
#[derive(Debug, Serialize, ToSchema)]
pub struct Joined {
    #[schema(example = "search-team")]
    slug: String,
    #[schema(example = "Search team")]
    name: String,
}

/// The answer that hands tokens out, in its body and as cookies.
fn answer(app: &App, pair: Pair, user: UserRow, workspace: Option<Joined>) -> Response {
    let cookies = cookies::set(&app.config.public_url, &pair.access.text, &pair.refresh.text);
    let tokens = Tokens {
        access_token: pair.access.text,
        access_expires_at: rfc3339(pair.access_expires_us),
        refresh_token: pair.refresh.text,
        refresh_expires_at: rfc3339(pair.refresh_expires_us),
        user: User { id: user.id.to_string(), email: user.email },
        workspace,
    };
    (cookies, Json(tokens)).into_response()
}
