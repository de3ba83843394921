//! The workspace as its members see it.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Plan, Status, WorkspaceRow};
use crate::{people::Role, sessions::object::rfc3339};

/// Whom sessions, profiles and keys belong to.
#[derive(Debug, Serialize, ToSchema)]
pub struct Workspace {
    /// A ULID.
    #[schema(example = "01KAW3X9T4C7Z1F5R8Y2G6H0JM")]
    id: String,
    /// Its name in paths. Never changes.
    #[schema(example = "search-team")]
    slug: String,
    /// Its name for people.
    #[schema(example = "Search team")]
    name: String,
    /// What you are in it.
    role: Role,
    plan: Plan,
    /// Most sessions that it may have at once; null: any number.
    #[schema(example = 100)]
    max_concurrent_sessions: Option<u32>,
    status: Status,
    #[schema(format = DateTime, example = "2026-11-22T12:00:00.000Z")]
    created_at: String,
    /// Since when it is deleted. It can be restored for 30 days from then.
    #[schema(format = DateTime)]
    deleted_at: Option<String>,
}

impl Workspace {
    /// A workspace, and what its reader is in it.
    pub fn of(row: WorkspaceRow, role: Role) -> Self {
        Self {
            id: row.id.to_string(),
            status: row.status(),
            max_concurrent_sessions: row.sessions_at_once(),
            slug: row.slug,
            name: row.name,
            role,
            plan: row.plan,
            created_at: rfc3339(row.created_us),
            deleted_at: row.deleted_us.map(rfc3339),
        }
    }
}
