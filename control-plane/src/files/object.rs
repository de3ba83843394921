//! Files as callers see them.

use serde::Serialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type},
};

use super::FileRow;
use crate::sessions::object::rfc3339;

/// A file that was put for a session's browser.
#[derive(Debug, Serialize, ToSchema)]
pub struct Upload {
    #[schema(example = "report.pdf")]
    name: String,
    #[schema(example = 20480)]
    size_bytes: u64,
    /// When this content was put.
    #[schema(format = DateTime, example = "2026-11-22T12:00:00.000Z")]
    created_at: String,
}

/// A file that a session's browser downloaded.
#[derive(Debug, Serialize, ToSchema)]
pub struct Download {
    /// What the page suggested, made safe; with a number if it is not the first of that name.
    #[schema(example = "report (1).pdf")]
    name: String,
    /// What the browser calls it in its events, `Browser.downloadWillBegin` for instance. As
    /// good as the name to get it by.
    #[schema(example = "8ab77585-6877-4199-b48c-5c532599f604")]
    guid: String,
    #[schema(example = 20480)]
    size_bytes: u64,
    /// When it was complete.
    #[schema(format = DateTime, example = "2026-11-22T12:00:00.000Z")]
    created_at: String,
}

/// What is in a file, in the form that generators of clients take for one.
pub struct Content;

impl PartialSchema for Content {
    fn schema() -> RefOr<Schema> {
        let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(binary)).into()
    }
}

impl ToSchema for Content {}

impl From<FileRow> for Upload {
    fn from(row: FileRow) -> Self {
        Self { name: row.name, size_bytes: row.size_bytes, created_at: rfc3339(row.created_us) }
    }
}

impl From<FileRow> for Download {
    fn from(row: FileRow) -> Self {
        Self {
            name: row.name,
            guid: row.guid.unwrap_or_default(),
            size_bytes: row.size_bytes,
            created_at: rfc3339(row.created_us),
        }
    }
}
