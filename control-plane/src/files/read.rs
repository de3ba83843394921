//! `GET /v1/sessions/{id}/uploads/{name}` and `GET /v1/sessions/{id}/downloads/{name}`

use axum::{
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use proto::{
    id::WorkspaceId,
    problem::{Problem, Slug},
};

use super::{
    FileRow, Kind, content, name,
    object::Content,
    range::{self, Answer},
    store,
};
use crate::{
    api::{BadRange, Failure, NoSuchFile},
    app::App,
    error::Error,
    keys::{Caller, Read},
    request::Query,
    sessions::{self, get::named},
};

/// What may stand for itself in `filename*` (RFC 8187).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Get an upload
///
/// The file as it was put. Parts of it can be asked for by `Range`.
#[utoipa::path(get, path = "/v1/sessions/{id}/uploads/{name}", tag = "files",
    operation_id = "getUpload",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("name" = String, Path, description = "The file's name", max_length = 255),
        ("Range" = Option<String>, Header, description = "One range of bytes (RFC 9110)", example = "bytes=0-1023"),
    ),
    security(("api_key" = ["sessions:read"])),
    responses(
        (status = 200, description = "The file", body = inline(Content), content_type = "application/octet-stream"),
        (status = 206, description = "A part of it", body = inline(Content), content_type = "application/octet-stream"),
        (status = 304, description = "`If-None-Match` named its `ETag`"),
        BadRange, NoSuchFile, Failure,
    ))]
pub async fn upload(
    State(app): State<App>,
    caller: Caller<Read>,
    Path((id, name)): Path<(String, String)>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    query.allow_none()?;
    let file = find(&app, caller.workspace, &id, Kind::Upload, &name).await?;
    answer(app, file, &headers)
}

/// Get a download
///
/// A file that the session's browser has downloaded, by its name or its `guid`. Parts of it
/// can be asked for by `Range`.
#[utoipa::path(get, path = "/v1/sessions/{id}/downloads/{name}", tag = "files",
    operation_id = "getDownload",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("name" = String, Path, description = "The file's name, or its `guid`", max_length = 255),
        ("Range" = Option<String>, Header, description = "One range of bytes (RFC 9110)", example = "bytes=0-1023"),
    ),
    security(("api_key" = ["sessions:read"])),
    responses(
        (status = 200, description = "The file", body = inline(Content), content_type = "application/octet-stream"),
        (status = 206, description = "A part of it", body = inline(Content), content_type = "application/octet-stream"),
        (status = 304, description = "`If-None-Match` named its `ETag`"),
        BadRange, NoSuchFile, Failure,
    ))]
pub async fn download(
    State(app): State<App>,
    caller: Caller<Read>,
    Path((id, name)): Path<(String, String)>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    query.allow_none()?;
    let file = find(&app, caller.workspace, &id, Kind::Download, &name).await?;
    answer(app, file, &headers)
}

async fn find(
    app: &App,
    workspace: WorkspaceId,
    session: &str,
    kind: Kind,
    name: &str,
) -> Result<FileRow, Error> {
    let id = named(session)?;
    let mut tx = app.db.read().await?;
    sessions::store::get_in(&mut tx, workspace, id).await?.ok_or(Error::NoSuchSession)?;
    // No file has such a name, and PostgreSQL takes no NUL.
    name::check(name).map_err(|_| Error::NoSuchFile)?;
    store::get(&mut tx, id, kind, name).await?.ok_or(Error::NoSuchFile)
}

/// The file, or the part of it that is wanted. What it holds is anybody's: it is to be saved,
/// never to be shown.
fn answer(app: App, file: FileRow, headers: &HeaderMap) -> Result<Response, Problem> {
    let tag = format!("\"{}\"", file.id);
    let size = file.size_bytes;
    let (status, part) = match range::wanted(headers, size, &tag) {
        Answer::Whole => (StatusCode::OK, 0..size),
        Answer::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Answer::Unchanged => {
            return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
        }
        Answer::Unsatisfiable => {
            let problem = Problem::new(
                Slug::RangeNotSatisfiable,
                format!("the file has {size} bytes, and none of them is in the range"),
            );
            let size = HeaderValue::from_str(&format!("bytes */{size}"));
            return Err(match size {
                Ok(size) => problem.with_header(header::CONTENT_RANGE, size),
                Err(_) => problem,
            });
        }
    };
    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, part.end - part.start)
        .header(header::CONTENT_DISPOSITION, disposition(&file.name))
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::CACHE_CONTROL, "no-store")
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::ETAG, tag);
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        response = response.header(header::CONTENT_RANGE, range);
    }
    let body = Body::from_stream(content::read(app, file, part)?);
    Ok(response.body(body).map_err(|error| Error::from(anyhow::Error::from(error)))?)
}

/// RFC 6266: the name for those who read only ASCII, then the name.
fn disposition(name: &str) -> String {
    let ascii = |c: char| if c.is_ascii() && !c.is_control() && c != '"' { c } else { '_' };
    let fallback: String = name.chars().map(ascii).collect();
    format!(
        "attachment; filename=\"{fallback}\"; filename*=UTF-8''{}",
        utf8_percent_encode(name, PLAIN)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_read_by_all() {
        assert_eq!(
            disposition("a \"b\" ü.pdf"),
            "attachment; filename=\"a _b_ _.pdf\"; filename*=UTF-8''a%20%22b%22%20%C3%BC.pdf"
        );
    }
}
