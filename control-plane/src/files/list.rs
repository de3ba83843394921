//! `GET /v1/sessions/{id}/uploads` and `GET /v1/sessions/{id}/downloads`

use axum::{
    Json,
    extract::{Path, State},
};
use proto::{id::WorkspaceId, problem::Problem};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    FileRow, Kind,
    object::{Download, Upload},
    store,
};
use crate::{
    api::{Failure, NoSuchSession},
    app::App,
    error::Error,
    keys::{Caller, Read},
    paging::{Filters, Wanted, unfiltered},
    request::Query,
    sessions::{self, get::named},
};

unfiltered!(Uploads, "uploads");
unfiltered!(Downloads, "downloads");

/// One page of uploads, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct UploadPage {
    items: Vec<Upload>,
    /// Give it as `cursor` for the next page. Null on the last one.
    next_cursor: Option<String>,
    /// Whether there is a next page.
    has_more: bool,
}

/// One page of downloads, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct DownloadPage {
    items: Vec<Download>,
    /// Give it as `cursor` for the next page. Null on the last one.
    next_cursor: Option<String>,
    /// Whether there is a next page.
    has_more: bool,
}

/// List a session's uploads
///
/// The files that were put for its browser, newest first.
#[utoipa::path(get, path = "/v1/sessions/{id}/uploads", tag = "files",
    operation_id = "listUploads",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Most items of a page; 50 if not given"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
    ),
    security(("api_key" = ["sessions:read"])),
    responses((status = 200, description = "A page", body = UploadPage), NoSuchSession, Failure))]
pub async fn uploads(
    State(app): State<App>,
    caller: Caller<Read>,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<UploadPage>, Problem> {
    let wanted = Wanted::<Uploads>::read(query)?;
    let (rows, next_cursor) = page(&app, caller.workspace, &id, Kind::Upload, &wanted).await?;
    let items = rows.into_iter().map(Upload::from).collect();
    Ok(Json(UploadPage { items, has_more: next_cursor.is_some(), next_cursor }))
}

/// List a session's downloads
///
/// The files that its browser has downloaded to their end, newest first; also after the
/// session's own end. A download is here a moment after the browser has told of its
/// completion.
#[utoipa::path(get, path = "/v1/sessions/{id}/downloads", tag = "files",
    operation_id = "listDownloads",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Most items of a page; 50 if not given"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
    ),
    security(("api_key" = ["sessions:read"])),
    responses((status = 200, description = "A page", body = DownloadPage), NoSuchSession, Failure))]
pub async fn downloads(
    State(app): State<App>,
    caller: Caller<Read>,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<DownloadPage>, Problem> {
    let wanted = Wanted::<Downloads>::read(query)?;
    let (rows, next_cursor) = page(&app, caller.workspace, &id, Kind::Download, &wanted).await?;
    let items = rows.into_iter().map(Download::from).collect();
    Ok(Json(DownloadPage { items, has_more: next_cursor.is_some(), next_cursor }))
}

async fn page<F: Filters>(
    app: &App,
    workspace: WorkspaceId,
    session: &str,
    kind: Kind,
    wanted: &Wanted<F>,
) -> Result<(Vec<FileRow>, Option<String>), Problem> {
    let after = wanted.after(&app.secrets, workspace)?;
    let id = named(session)?;
    let read = async {
        let mut tx = app.db.read().await?;
        sessions::store::get_in(&mut tx, workspace, id).await?.ok_or(Error::NoSuchSession)?;
        Ok::<_, Error>(store::page(&mut tx, id, kind, after, wanted.rows()).await?)
    };
    let mut rows = read.await?;
    let next = wanted.cut(&mut rows, &app.secrets, workspace, |row| row.id);
    Ok((rows, next))
}
