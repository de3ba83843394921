//! Every route in one place, and how errors look in the OpenAPI document.

use std::collections::BTreeMap;

use axum::{
    Router,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};
use utoipa::{
    IntoResponses, OpenApi, ToSchema,
    openapi::{
        Content, Ref, RefOr, ResponseBuilder,
        response::Response as Documented,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::SwaggerUi;

use crate::{
    agents, app::App, audit, document, files, health, invitations, keys, members, metrics, people,
    profiles, regions, sessions, sign_in, trace, workspaces,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Ventus",
        description = "Real browsers by API: create a session, drive it with any CDP client through its `connect_url`, release it.\n\nTimes are RFC 3339 in UTC with milliseconds. Every answer has an `X-Request-Id`; a request may bring its own (visible ASCII, at most 128 characters). Errors are problem documents (RFC 9457); their `type` is a page of this server that explains them.",
    ),
    components(schemas(ProblemDocument)),
    tags(
        (name = "sessions", description = "Browsers lent to you"),
        (name = "files", description = "What a session's browser uploads, and what it has downloaded"),
        (name = "profiles", description = "What browsers have stored, kept for later sessions"),
        (name = "agents", description = "Processes that launch browsers; for the operator of the server"),
        (name = "regions", description = "Where sessions can run"),
        (name = "sign-in", description = "Access tokens for people, by a link that is mailed"),
        (name = "people", description = "Who you are"),
        (name = "workspaces", description = "Whom sessions, profiles and keys belong to. All routes of the dashboard are also served below `/api/v1`"),
        (name = "members", description = "People in a workspace, and those who are invited"),
        (name = "api-keys", description = "Access for programs"),
        (name = "server", description = "Health and keys of the server itself; open to all"),
    ),
)]
struct Document;

fn documented() -> OpenApiRouter<App> {
    let mut document = Document::openapi();
    document.info.license = None;
    let components = document.components.get_or_insert_default();
    for (name, scheme) in security_schemes() {
        components.add_security_scheme(name, scheme);
    }
    OpenApiRouter::with_openapi(document)
        .routes(routes!(sessions::create::handler, sessions::list::handler))
        .routes(routes!(sessions::get::handler, sessions::end::patch, sessions::end::delete))
        .routes(routes!(sessions::keepalive::handler))
        .routes(routes!(sessions::save_profile::handler))
        .routes(routes!(sessions::force_stop::handler))
        .routes(routes!(sessions::events::handler))
        .routes(routes!(sessions::egress::handler))
        .routes(routes!(files::list::uploads))
        .routes(routes!(files::read::upload, files::upload::put, files::upload::delete))
        .routes(routes!(files::list::downloads))
        .routes(routes!(files::read::download))
        .routes(routes!(profiles::create::handler, profiles::list::handler))
        .routes(routes!(profiles::get::handler, profiles::change::patch, profiles::change::delete))
        .routes(routes!(profiles::get::storage_state))
        .routes(routes!(regions::handler))
        .routes(routes!(agents::list::list))
        .routes(routes!(agents::list::get))
        .routes(routes!(agents::drain::drain, agents::drain::undo))
        .routes(routes!(health::health))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::jwks))
        .merge(dashboard())
}

/// The routes for people.
fn dashboard() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(sign_in::link::handler))
        .routes(routes!(sign_in::exchange::handler, sign_in::sign_out::handler))
        .routes(routes!(sign_in::refresh::handler))
        .routes(routes!(people::me::handler))
        .routes(routes!(workspaces::create::handler))
        .routes(routes!(
            workspaces::get::handler,
            workspaces::change::handler,
            workspaces::delete::delete
        ))
        .routes(routes!(workspaces::delete::restore))
        .routes(routes!(keys::list::handler, keys::create::handler))
        .routes(routes!(keys::revoke::handler))
        .routes(routes!(members::list::handler))
        .routes(routes!(members::change::handler, members::remove::handler))
        .routes(routes!(invitations::list::handler, invitations::create::handler))
        .routes(routes!(invitations::withdraw::handler))
        .routes(routes!(audit::list::handler))
}

fn security_schemes() -> [(&'static str, SecurityScheme); 3] {
    let bearer = |format: &str, description: &str| {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format(format);
        SecurityScheme::Http(scheme.description(Some(description)).build())
    };
    let key = "An API key. Each operation lists the scope that it needs: `sessions:read`, \
               `sessions:write` or `admin`. Its workspace's plan limits how many requests it may \
               make in a minute and in a day, which the `X-RateLimit-*` headers of each answer \
               tell.";
    let token = "A person's access token, from signing in. Operations on a workspace list the \
                 scope that the person's role there must have: viewers have `sessions:read`, \
                 members also `sessions:write`, admins also `admin`, owners also \
                 `workspace:owner`.";
    let cookie = "The same token as a cookie, for browsers. Requests that change something must \
                  then carry this server's own `Origin`.";
    [
        ("api_key", bearer("vs_<ULID>.<32 characters>", key)),
        ("access_token", bearer("vd_<ULID>.<32 characters>", token)),
        (
            "access_cookie",
            SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
                "ventus_access",
                cookie,
            ))),
        ),
    ]
}

/// All routes of the control plane, its own documentation included.
pub fn router(app: App) -> Router {
    let (router, mut document) = documented().split_for_parts();
    document::complete(&mut document);
    let measured = axum::middleware::from_fn_with_state(app.clone(), metrics::http::measured);
    // The dashboard's routes by their other name.
    let (alias, _) = dashboard().split_for_parts();
    router
        .nest("/api", alias)
        .route("/sign-in", axum::routing::get(sign_in::page::handler))
        .layer(axum::middleware::map_response(not_stored))
        .route_layer(axum::middleware::from_fn(trace::request))
        .route("/errors/{slug}", axum::routing::get(health::problem_page))
        .with_state(app)
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document))
        .layer(measured)
}

/// Answers may hold connect tokens, and are out of date at once anyway.
async fn not_stored(response: impl IntoResponse) -> Response {
    let mut response = response.into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The OpenAPI document.
#[cfg(test)]
pub(crate) fn document() -> utoipa::openapi::OpenApi {
    let mut document = documented().into_openapi();
    document::complete(&mut document);
    document
}

/// An error (RFC 9457).
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "only described: `proto::problem` writes it")]
pub struct ProblemDocument {
    /// The kind of problem: a page of this server that explains it.
    #[schema(rename = "type", format = "uri", example = "http://127.0.0.1:8080/errors/not-found")]
    kind: String,
    /// The same few words for every problem of this kind.
    #[schema(example = "Not found")]
    title: String,
    #[schema(minimum = 400, maximum = 599, example = 404)]
    status: u16,
    /// What is wrong this time.
    #[schema(example = "no session has this id")]
    detail: String,
    /// The path of the request.
    #[schema(example = "/v1/sessions/01KAW3Y0R5M8T2N6Q4P1C7D9EF")]
    instance: String,
    /// Also in the `X-Request-Id` of the answer and in the server's log.
    #[schema(example = "01KAW3Y4E0S7V2G9J5H8K3M6PQ")]
    request_id: String,
    /// Every fault of the request, if it is its content that is wrong.
    #[schema(nullable = false)]
    errors: Option<Vec<Fault>>,
}

/// One fault of a request.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: `proto::problem` writes it")]
pub struct Fault {
    /// JSON pointer into the body, or `?name` for a parameter of the query.
    #[schema(example = "/viewport/width")]
    pointer: String,
    /// What is wrong with it.
    #[schema(example = "must be an integer from 100 to 7680")]
    detail: String,
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident { $($status:literal $meaning:literal)+ })+) => {$(
        $(#[$doc])*
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Documented>> {
                BTreeMap::from([$(($status.to_owned(), refusal($meaning)),)+])
            }
        }
    )+};
}

refusals! {
    /// How every authenticated operation can fail.
    Failure {
        "400" "The request is malformed: `errors` lists every fault"
        "401" "The API key is missing, malformed, unknown or revoked"
        "403" "The API key lacks the scope"
        "429" "The API key has made all requests of the minute or the day; `Retry-After` says when to try again"
        "500" "The server failed; its log says more"
        "503" "The database does not answer; `Retry-After` says when to try again"
    }
    /// How operations on one session can fail as well.
    NoSuchSession {
        "404" "No session of this workspace has this id"
    }
    /// How operations on one profile can fail as well.
    NoSuchProfile {
        "404" "No profile of this workspace has this id"
    }
    /// How operations on one agent can fail as well.
    NoSuchAgent {
        "404" "No agent has this id"
    }
    /// How operations on one file can fail as well.
    NoSuchFile {
        "404" "No session of this workspace has this id, or it has no file of this name"
    }
    /// How operations that take a part of a file can fail as well.
    BadRange {
        "416" "The file ends before the range; `Content-Range` says how long it is"
    }
    /// How putting a file can fail as well.
    UploadFailure {
        "409" "The session has no room for the file: `detail` says which limit it would be over"
        "410" "The session is over"
        "413" "The file is larger than 256 MiB"
    }
    /// How operations that change the browser's files can fail as well.
    NotPlaced {
        "503" "The browser does not have the change yet, after a minute or because its agent could not make it, or the database or the object store does not answer; `Retry-After` says when to try again"
    }
    /// How operations that need a certain state can fail as well.
    WrongState {
        "409" "The session is in another state"
    }
    /// How operations that ask the browser for something can fail as well.
    NotCaptured {
        "503" "The browser did not give its storage state, in a minute or at all, or the database or the object store does not answer; `Retry-After` says when to try again"
    }
    /// How operations with a body can fail as well.
    BodyFailure {
        "413" "The body is too large"
        "415" "The body is not `application/json`"
        "422" "The body makes no sense: `errors` lists every fault"
    }
    /// How every operation of a person can fail.
    PersonFailure {
        "400" "The request is malformed: `errors` lists every fault"
        "401" "The access token is missing, malformed, unknown, expired or revoked"
        "403" "Your role does not allow it, the workspace is closed, or a change by cookie came from another origin"
        "500" "The server failed; its log says more"
        "503" "The database does not answer; `Retry-After` says when to try again"
    }
    /// How operations in a workspace can fail as well.
    MemberFailure {
        "404" "No workspace of yours has this slug, or nothing in it has this id"
    }
    /// How operations that depend on the state of things can fail as well.
    Conflicting {
        "409" "It does not fit the state that the thing is in"
    }
    /// How operations that could take the last owner away can fail as well.
    LastOwner {
        "409" "The workspace would be left without an owner"
    }
    /// How operations that take a link's or a refresh token can fail as well.
    BadToken {
        "401" "The token is missing, malformed, unknown, expired, or was used already"
        "403" "The workspace of the invitation is suspended"
    }
    /// How operations that take a cookie can fail as well.
    OtherOrigin {
        "403" "A request by cookie came from another origin"
    }
    /// How operations that are open to all can fail.
    Busy {
        "400" "The request is malformed: `errors` lists every fault"
        "500" "The server failed; its log says more"
        "503" "The server is busy, or its database does not answer; `Retry-After` says when to try again"
    }
    /// How operations that make a session can fail as well.
    NoMoreSessions {
        "429" "The API key has made all requests of the minute or the day, or the workspace has as many sessions at once as it may have; `Retry-After` says when to try again"
    }
    /// How operations that need a slot can fail as well.
    NoCapacity {
        "503" "No slot became free in time, or no browser could be started; `Retry-After` says when to try again"
    }
}

fn refusal(meaning: &str) -> RefOr<Documented> {
    let schema = Ref::from_schema_name("Problem");
    ResponseBuilder::new()
        .description(meaning)
        .content("application/problem+json", Content::new(Some(schema)))
        .build()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a change of the API: `UPDATE_OPENAPI=1 cargo nextest run -p control-plane openapi`.
    #[test]
    fn the_openapi_file_is_what_the_code_says() {
        const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        let built = document().to_pretty_json().unwrap() + "\n";
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(PATH, &built).unwrap();
        }
        let committed = std::fs::read_to_string(PATH).unwrap_or_default();
        assert!(built == committed, "control-plane/openapi.json is not up to date");
    }
}
