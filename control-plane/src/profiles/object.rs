//! The profile as callers see it.

use serde::Serialize;
use utoipa::ToSchema;

use super::ProfileRow;
use crate::sessions::object::rfc3339;

/// Cookies and storage, kept for sessions to begin with.
#[derive(Debug, Serialize, ToSchema)]
pub struct Profile {
    /// A ULID.
    #[schema(example = "01KAW4D2T7R9V3X5Z8B6C1F4GH")]
    id: String,
    /// Your own name for it; several may have the same.
    #[schema(example = "shop login")]
    name: String,
    /// Of its storage state as JSON.
    #[schema(example = 20480)]
    size_bytes: u64,
    #[schema(format = DateTime, example = "2026-11-22T12:00:00.000Z")]
    created_at: String,
    /// When its name or its content last changed.
    #[schema(format = DateTime, example = "2026-11-22T12:00:00.000Z")]
    updated_at: String,
}

impl From<ProfileRow> for Profile {
    fn from(row: ProfileRow) -> Self {
        Self {
            id: row.id.to_string(),
            name: row.name,
            size_bytes: row.size_bytes,
            created_at: rfc3339(row.created_us),
            updated_at: rfc3339(row.updated_us),
        }
    }
}
