//! What the server says of itself, to everybody.

use axum::{
    Json,
    extract::{Path, State},
    response::{Html, IntoResponse},
};
use http::header;
use proto::problem::{Problem, Slug, page};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{api::NoCapacity, app::App, error::Error, regions};

/// The server is there.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    #[schema(example = "ok")]
    status: &'static str,
    #[schema(example = "0.1.0")]
    version: &'static str,
}

impl Health {
    const OK: Self = Self { status: "ok", version: env!("CARGO_PKG_VERSION") };
}

/// Say hello
///
/// Answers with the server's version as long as it runs.
#[utoipa::path(get, path = "/v1/health", tag = "server", operation_id = "health", security(()),
    responses((status = 200, description = "The server runs", body = Health)))]
pub async fn health() -> Json<Health> {
    Json(Health::OK)
}

/// Liveness probe
///
/// Touches nothing: a server that answers is alive.
#[utoipa::path(get, path = "/healthz", tag = "server", operation_id = "healthz", security(()),
    responses((status = 200, description = "The server runs", body = Health)))]
pub async fn healthz() -> Json<Health> {
    Json(Health::OK)
}

/// Readiness probe
///
/// Ready is a server that reaches its database, with at least one agent that lives.
#[utoipa::path(get, path = "/readyz", tag = "server", operation_id = "readyz", security(()),
    responses((status = 200, description = "Ready for sessions", body = Health), NoCapacity))]
pub async fn readyz(State(app): State<App>) -> Result<Json<Health>, Problem> {
    let mut tx = app.db.read().await.map_err(Error::from)?;
    let regions = regions::stored(&mut tx).await.map_err(Error::from)?;
    let agents: u64 = regions.iter().map(|region| region.agents).sum();
    if agents == 0 {
        let detail = "no agent is connected";
        return Err(Problem::new(Slug::InsufficientCapacity, detail).with_retry_after(1));
    }
    Ok(Json(Health::OK))
}

/// Public keys of connect tokens
///
/// A JSON Web Key Set (RFC 7517): the Ed25519 keys that connect tokens are signed with.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "server", operation_id = "jwks",
    security(()),
    responses((status = 200, description = "The living keys", body = Object,
        content_type = "application/json", example = json!({"keys": [{
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
            "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}))))]
pub async fn jwks(State(app): State<App>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], app.signer.jwks().to_string())
}

/// The page that a problem's `type` leads to.
pub async fn problem_page(Path(slug): Path<String>) -> Result<Html<String>, Problem> {
    let unknown = || Problem::new(Slug::NotFound, "no problem has this name");
    page(&slug).map(Html).ok_or_else(unknown)
}
