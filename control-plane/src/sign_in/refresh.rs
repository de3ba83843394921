//! `POST /v1/dashboard/auth/refresh`: the next pair of tokens.

use axum::{extract::State, response::Response};
use hmac::Mac;
use http::{HeaderMap, Method};
use proto::{id::SignInId, problem::Problem};
use serde::Deserialize;
use serde_json::Value;
use tracing::warn;
use utoipa::ToSchema;

use super::{
    ACCESS, ACCESS_US, Pair, REFRESH, REFRESH_US, SECOND_US, Tokens, answer, cookies,
    store::{self, PairRow},
    token,
};
use crate::{
    api::{BadToken, BodyFailure, Busy, OtherOrigin},
    app::App,
    audit::{self, Actor, Peer},
    credential,
    db::Tx,
    error::Error,
    people::{access::check_origin, store::UserRow},
    request::{Body, Query},
    secrets::Hmac256,
    sessions::validate::{Faults, Object},
};

/// How long a repetition is taken for an answer that was lost, in microseconds: 10 s.
const LOST_ANSWER_US: i64 = 10 * SECOND_US;
/// A refresh token, unless it comes as a cookie.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described, for the OpenAPI document; `read` reads it")]
pub struct UseRefreshToken {
    #[schema(
        example = "vr_01KAW47Y3G9B1T5K8N2D6P0SXC.aZ3kP9xQ2mR7tB5wN8cV1dL6fH4jS0gY",
        pattern = "^vr_[0-7][0-9A-HJKMNP-TV-Z]{25}[.][0-9A-Za-z]{32}$"
    )]
    refresh_token: Option<String>,
}

/// Refresh the tokens
///
/// Exchanges a refresh token, from the body or from its cookie, for a new pair of tokens. Each
/// works once: one that is used again revokes every token that came from the same sign-in.
/// Only a repetition within 10 seconds answers with the same new pair, since the first answer
/// may have been lost.
#[utoipa::path(post, path = "/v1/dashboard/auth/refresh", tag = "sign-in",
    operation_id = "refreshTokens",
    request_body(content = UseRefreshToken, example = json!({"refresh_token": "vr_01KAW47Y3G9B1T5K8N2D6P0SXC.aZ3kP9xQ2mR7tB5wN8cV1dL6fH4jS0gY"})),
    security(()),
    responses(
        (status = 200, description = "The new pair", body = Tokens,
            headers(("Set-Cookie" = String, description = "`ventus_access` and `ventus_refresh`"))),
        BadToken,
        OtherOrigin,
        BodyFailure,
        Busy,
    ))]
pub async fn handler(
    State(app): State<App>,
    peer: Peer,
    query: Query,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    query.allow_none()?;
    let token = match read(&body)? {
        Some(token) => token,
        None => {
            let token = cookies::refresh(&headers).ok_or_else(unknown)?;
            check_origin(&Method::POST, &headers, &app.config.public_url)?;
            token
        }
    };
    let (pair, user) = refresh(&app, peer, &token).await?;
    Ok(answer(&app, pair, user, None))
}

fn read(body: &Value) -> Result<Option<String>, Problem> {
    let mut faults = Faults::default();
    let mut body = Object::read(body, "", &mut faults);
    let token = token(&mut body, "refresh_token", false);
    body.close();
    faults.settle(token)
}

async fn refresh(app: &App, peer: Peer, token: &str) -> Result<(Pair, UserRow), Error> {
    let (id, secret) = credential::parse(REFRESH, token).ok_or_else(unknown)?;
    let mut tx = app.db.begin().await?;
    let old = store::lock(&mut tx, id).await?;
    let known = old.as_ref().map(|old| old.refresh_hash.as_slice());
    let matches = credential::matches(secret, known);
    let old = old.filter(|_| matches).ok_or_else(unknown)?;
    let now = tx.now_us().await?;
    if old.refresh_expires_us <= now {
        return Err(unknown());
    }
    let pair = match (old.exchanged_us, old.successor) {
        (Some(at), Some(successor)) if now - at <= LOST_ANSWER_US => {
            again(app, &mut tx, &old, secret, successor).await?
        }
        (None, _) => exchange(app, &mut tx, &old, secret).await?,
        _ => {
            store::revoke(&mut tx, old.family).await?;
            let actor = Actor::user(old.user_id, &old.email, peer);
            let action = "user.tokens_revoked";
            audit::record_everywhere(&mut tx, old.user_id, &actor, action).await?;
            tx.commit().await?;
            warn!(user = %old.user_id, "a refresh token was used twice: its family is revoked");
            return Err(unknown());
        }
    };
    tx.commit().await?;
    Ok((pair, UserRow { id: old.user_id, email: old.email }))
}

async fn exchange(app: &App, tx: &mut Tx, old: &PairRow, secret: &str) -> Result<Pair, Error> {
    let (successor, now) = (SignInId::generate(), tx.now_us().await?);
    let mac = app.secrets.exchange_mac();
    let pair = derived(mac, secret, successor, now + ACCESS_US, now + REFRESH_US);
    store::insert(tx, successor, old.family, old.user_id, &pair).await?;
    store::exchanged(tx, old.id, successor).await?;
    Ok(pair)
}

/// The pair that this token was exchanged for a moment ago.
async fn again(
    app: &App,
    tx: &mut Tx,
    old: &PairRow,
    secret: &str,
    successor: SignInId,
) -> Result<Pair, Error> {
    let known = store::find(tx, successor).await?.filter(|known| known.family == old.family);
    let known = known.ok_or_else(unknown)?;
    let (access_us, refresh_us) = (known.access_expires_us, known.refresh_expires_us);
    // The master key may have been changed in between.
    let macs = app.secrets.exchange_macs().into_iter();
    let mut pairs = macs.map(|mac| derived(mac, secret, successor, access_us, refresh_us));
    pairs.find(|pair| pair.refresh.hash == known.refresh_hash).ok_or_else(unknown)
}

/// The tokens that follow from a refresh token: nobody without the server's key can tell them.
fn derived(
    mac: Hmac256,
    secret: &str,
    successor: SignInId,
    access_expires_us: i64,
    refresh_expires_us: i64,
) -> Pair {
    let token = |prefix: &str| {
        let mut mac = mac.clone();
        // Prefix and id have fixed lengths, so no two inputs read the same.
        mac.update(prefix.as_bytes());
        mac.update(successor.to_string().as_bytes());
        mac.update(secret.as_bytes());
        credential::derive(prefix, successor, &mac)
    };
    let (access, refresh) = (token(ACCESS), token(REFRESH));
    Pair { access, refresh, access_expires_us, refresh_expires_us }
}

fn unknown() -> Error {
    Error::Unauthorized("the refresh token is missing, unknown, expired or revoked: sign in again")
}
