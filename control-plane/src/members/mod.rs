//! Members of a workspace. Each has one role; at least one of them is an owner, which every
//! change sees to under a lock on the workspace.
//!
//! Only owners hand out, change and take away the roles of admins and owners; admins move
//! people between viewer and member. Whoever wants to leave may, but the last owner.

pub mod change;
pub mod list;
pub mod remove;
pub mod store;

#[cfg(test)]
mod tests;

use proto::id::{UserId, WorkspaceId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{db::Tx, error::Error, people::Role, sessions::object::rfc3339};

/// A person in a workspace.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Member)]
pub struct MemberObject {
    /// A ULID.
    #[schema(example = "01KAW40Q2V8D6M3T7B9N5R1XKE")]
    user_id: String,
    #[schema(example = "ada@example.org")]
    email: String,
    role: Role,
    #[schema(format = DateTime, example = "2026-11-22T12:00:00.000Z")]
    joined_at: String,
}

impl From<store::MemberRow> for MemberObject {
    fn from(row: store::MemberRow) -> Self {
        Self {
            user_id: row.user_id.to_string(),
            email: row.email,
            role: row.role,
            joined_at: rfc3339(row.created_us),
        }
    }
}

/// The id in a path. What is no id names nobody.
fn named(id: &str) -> Result<UserId, Error> {
    id.parse().map_err(|_| no_such_member())
}

fn no_such_member() -> Error {
    Error::NoSuch("no member of this workspace has this id")
}

/// Refuses to take the last owner away. The workspace is locked.
async fn keep_an_owner(tx: &mut Tx, workspace: WorkspaceId, role: Role) -> Result<(), Error> {
    if role == Role::Owner && store::owners(tx, workspace).await? <= 1 {
        return Err(Error::LastOwner);
    }
    Ok(())
}
