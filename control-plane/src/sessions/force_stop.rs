//! `POST /v1/sessions/{id}/force-stop`

use axum::extract::{Path, State};
use http::StatusCode;
use proto::{problem::Problem, session::EndReason};

use super::{end::end, get::named};
use crate::{
    api::{Failure, NoSuchSession},
    app::App,
    keys::{Admin, Caller},
    request::Query,
};

/// Stop a session at once
///
/// Kills the browser without waiting for anything. Stopping a session that is over changes
/// nothing but a browser that is still on its way out, and answers the same. The request has
/// no body.
#[utoipa::path(post, path = "/v1/sessions/{id}/force-stop", tag = "sessions",
    operation_id = "forceStopSession",
    params(("id" = String, Path, description = "The session's id")),
    security(("api_key" = ["admin"])),
    responses(
        (status = 204, description = "Stopped, now or before"),
        NoSuchSession,
        Failure,
    ))]
pub async fn handler(
    State(app): State<App>,
    caller: Caller<Admin>,
    Path(id): Path<String>,
    query: Query,
) -> Result<StatusCode, Problem> {
    query.allow_none()?;
    let (id, reason) = (named(&id)?, EndReason::ForceStopped);
    end(&app, caller.workspace, &caller.actor, id, reason).await?;
    Ok(StatusCode::NO_CONTENT)
}
