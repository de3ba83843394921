//! Invitations: a link by mail that makes whoever has it a member, once, within 7 days. It
//! proves the address as a sign-in link does, so it signs in as well.

pub mod create;
pub mod list;
pub mod store;
pub mod withdraw;

use serde::Serialize;
use utoipa::ToSchema;

use crate::{people::Role, sessions::object::rfc3339};

/// What an invitation's token begins with.
pub const PREFIX: &str = "vi";
/// How long one is good, in days.
const DAYS: i64 = 7;

/// An invitation that is open.
#[derive(Debug, Serialize, ToSchema)]
pub struct Invitation {
    /// A ULID.
    #[schema(example = "01KAW42H7C3N9V5Z8S1Q6T4WMB")]
    id: String,
    #[schema(example = "grace@example.org")]
    email: String,
    /// What they will be.
    role: Role,
    #[schema(format = DateTime, example = "2026-11-22T12:00:00.000Z")]
    created_at: String,
    #[schema(format = DateTime, example = "2026-11-29T12:00:00.000Z")]
    expires_at: String,
}

impl From<store::InvitationRow> for Invitation {
    fn from(row: store::InvitationRow) -> Self {
        Self {
            id: row.id.to_string(),
            email: row.email,
            role: row.role,
            created_at: rfc3339(row.created_us),
            expires_at: rfc3339(row.expires_us),
        }
    }
}
