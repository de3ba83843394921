//! `PUT` and `DELETE /v1/sessions/{id}/uploads/{name}`

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use http::{HeaderMap, StatusCode, header};
use proto::{
    id::{SessionId, WorkspaceId},
    problem::Problem,
};

use super::{
    Kind, Source,
    content::{New, Stored, Writer},
    name,
    object::{Content, Upload},
    orders::{self, Order},
    store, sweep,
};
use crate::{
    api::{Failure, NoSuchFile, NoSuchSession, NotPlaced, UploadFailure},
    app::App,
    error::Error,
    keys::{Caller, Write},
    request::{Query, announced_length},
    sessions::{self, get::named},
};

/// Put a file for a session's browser
///
/// The body is the file, of any type, at most 256 MiB; a session has room for 1000 uploads of
/// 1 GiB together. When this answers the file is at the browser: pages get it by
/// `DOM.setFileInputFiles` with `uploads/<name>` as the path. Putting it again replaces it.
#[utoipa::path(put, path = "/v1/sessions/{id}/uploads/{name}", tag = "files",
    operation_id = "putUpload",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("name" = String, Path, description = "What the file is to be called: 1 to 255 bytes, no slash, backslash or control character, no dot in front", max_length = 255),
    ),
    request_body(content = inline(Content), content_type = "application/octet-stream", description = "The file; an empty body is an empty file"),
    security(("api_key" = ["sessions:write"])),
    responses(
        (status = 200, description = "Another file in the place of the former", body = Upload),
        (status = 201, description = "The new file", body = Upload,
            headers(("Location" = String, description = "The file's path"))),
        NoSuchSession, UploadFailure, NotPlaced, Failure,
    ))]
pub async fn put(
    State(app): State<App>,
    caller: Caller<Write>,
    Path((id, name)): Path<(String, String)>,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    query.allow_none()?;
    let session = named(&id)?;
    let size_bytes = announced_length(&headers);
    // In a task of its own: a caller that goes away leaves nothing half written.
    let putting = app.tasks.spawn({
        let app = app.clone();
        async move { take(&app, caller.workspace, session, name, size_bytes, body).await }
    });
    let stored = putting.await.map_err(|error| Error::from(anyhow::Error::from(error)))??;
    let location = location(session, &stored.file.name);
    let upload = Json(Upload::from(stored.file));
    Ok(match stored.replaced {
        true => upload.into_response(),
        false => (StatusCode::CREATED, [(header::LOCATION, location)], upload).into_response(),
    })
}

fn location(session: SessionId, name: &str) -> String {
    let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
    format!("/v1/sessions/{session}/uploads/{name}")
}

async fn take(
    app: &App,
    workspace: WorkspaceId,
    session: SessionId,
    name: String,
    size_bytes: Option<u64>,
    body: Body,
) -> Result<Stored, Error> {
    if let Err(wrong) = name::check(&name) {
        // Nothing is told of a name before it is clear that the session is the caller's.
        let mut tx = app.db.read().await?;
        let session = sessions::store::get_in(&mut tx, workspace, session).await?;
        return Err(session.map_or(Error::NoSuchSession, |_| wrong));
    }
    let source = Source::Caller(workspace);
    let mut writer =
        Writer::begin(app, New { session, source, name, guid: None, size_bytes }).await?;
    if let Err(error) = write(app, &mut writer, body).await {
        writer.give_up().await;
        return Err(error);
    }
    let stored = writer.finish().await?;
    if let Some(order) = &stored.order {
        orders::carried_out(app, stored.session.agent_id, order).await?;
    }
    Ok(stored)
}

async fn write(app: &App, writer: &mut Writer, body: Body) -> Result<(), Error> {
    let mut body = body.into_data_stream();
    loop {
        let piece = tokio::select! {
            () = app.stop.cancelled() => {
                return Err(Error::NotPlaced("the server is stopping".to_owned()));
            }
            piece = body.next() => piece,
        };
        match piece {
            None => return Ok(()),
            Some(Ok(piece)) => writer.write(&piece).await?,
            Some(Err(_)) => return Err(Error::CutShort),
        }
    }
}

/// Remove an upload
///
/// From the server and from the browser's directory. What a page has read of it stays with
/// the page.
#[utoipa::path(delete, path = "/v1/sessions/{id}/uploads/{name}", tag = "files",
    operation_id = "deleteUpload",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("name" = String, Path, description = "The file's name", max_length = 255),
    ),
    security(("api_key" = ["sessions:write"])),
    responses((status = 204, description = "Removed"), NoSuchFile, NotPlaced, Failure))]
pub async fn delete(
    State(app): State<App>,
    caller: Caller<Write>,
    Path((id, name)): Path<(String, String)>,
    query: Query,
) -> Result<StatusCode, Problem> {
    query.allow_none()?;
    let session = named(&id)?;
    let removing = app.tasks.spawn({
        let app = app.clone();
        async move { remove(&app, caller.workspace, session, &name).await }
    });
    removing.await.map_err(|error| Error::from(anyhow::Error::from(error)))??;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(app: &App, workspace: WorkspaceId, id: SessionId, name: &str) -> Result<(), Error> {
    let mut tx = app.db.begin().await?;
    let session = sessions::store::lock_in(&mut tx, workspace, id).await?;
    let session = session.ok_or(Error::NoSuchSession)?;
    name::check(name).map_err(|_| Error::NoSuchFile)?;
    let order: Option<Order> = match store::get(&mut tx, id, Kind::Upload, name).await? {
        // A removal that was not answered in time is gone on with.
        None => orders::asked_for_removal(&mut tx, id, name).await?,
        Some(file) => {
            store::give_up(&mut tx, file.id).await?;
            Some(orders::ask(&mut tx, id, name, 0, true).await?)
        }
    };
    tx.commit().await?;
    sweep::soon(app);
    let order = order.ok_or(Error::NoSuchFile)?;
    match orders::carried_out(app, session.agent_id, &order).await {
        // With the browser its directory is gone.
        Err(Error::Over) => Ok(()),
        carried_out => carried_out,
    }
}
