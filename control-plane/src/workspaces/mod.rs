//! Workspaces: whom sessions, profiles and keys belong to.
//!
//! ```text
//! ACTIVE ─▶ SUSPENDED (an operator)  keys 401, sessions end, people may look but not change
//!    └────▶ DELETED   (an owner)     the same, seen by owners alone; after a grace of 30 days
//!                                    it is purged with all that is in it, and its slug is free
//! ```
//!
//! Closing a workspace is one column. That its sessions end, whoever made them and however
//! late, is for [`upkeep`] to see to.

pub mod change;
pub mod create;
pub mod delete;
pub mod get;
mod object;
pub mod operator;
mod purge;
pub mod store;
pub mod upkeep;

#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use proto::id::WorkspaceId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    audit::{self, Actor, Deed},
    db::{Db, Tx},
    keys, members,
    people::{self, Email, Role},
};

pub use store::insert;

/// The workspace that the very first start makes.
const FIRST: &str = "default";
/// How long a deleted workspace can be restored, in days.
pub const GRACE_DAYS: i64 = 30;
/// The same in microseconds.
const GRACE_US: i64 = GRACE_DAYS * 24 * 3_600 * 1_000_000;
/// Longest slug: a label of a host name.
const SLUG_MAX: usize = 63;
/// Longest name, in characters.
const NAME_MAX: usize = 128;

/// A workspace as the store has it. Times are Unix microseconds.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns explain themselves; see the migration")]
pub struct WorkspaceRow {
    pub id: WorkspaceId,
    pub slug: String,
    pub name: String,
    pub plan: Plan,
    /// Sessions at once, in place of what the plan says.
    pub session_limit: Option<u32>,
    pub created_us: i64,
    pub suspended_us: Option<i64>,
    pub deleted_us: Option<i64>,
    /// Whether its administrators run the server itself.
    pub is_operator: bool,
}

impl WorkspaceRow {
    /// How many sessions it may have at once; `None`: as many as there is room for.
    pub fn sessions_at_once(&self) -> Option<u32> {
        self.session_limit.or(self.plan.sessions_at_once())
    }

    /// What can be done in it.
    pub fn status(&self) -> Status {
        match (self.deleted_us, self.suspended_us) {
            (Some(_), _) => Status::Deleted,
            (None, Some(_)) => Status::Suspended,
            (None, None) => Status::Active,
        }
    }
}

/// What can be done in a workspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schema(as = WorkspaceStatus)]
pub enum Status {
    /// Everything.
    Active,
    /// Nothing but to look.
    Suspended,
    /// Nothing but to restore it, within the grace.
    Deleted,
}

impl Status {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Suspended => "SUSPENDED",
            Self::Deleted => "DELETED",
        }
    }
}

/// How much a workspace may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Plan {
    /// The smallest.
    Starter,
    /// The middle one.
    Pro,
    /// As the server is configured.
    Enterprise,
}

/// The text is no plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a plan: it must be starter, pro or enterprise")]
pub struct NotAPlan;

impl Plan {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starter => "starter",
            Self::Pro => "pro",
            Self::Enterprise => "enterprise",
        }
    }

    /// How many sessions a workspace may have at once, unless an operator says otherwise;
    /// `None`: as many as there is room for.
    pub const fn sessions_at_once(self) -> Option<u32> {
        match self {
            Self::Starter => Some(10),
            Self::Pro => Some(100),
            Self::Enterprise => None,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Plan {
    type Err = NotAPlan;

    fn from_str(text: &str) -> Result<Self, NotAPlan> {
        let all = [Self::Starter, Self::Pro, Self::Enterprise];
        all.into_iter().find(|plan| plan.as_str() == text).ok_or(NotAPlan)
    }
}

/// Whether a workspace may have this slug.
fn is_slug(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=SLUG_MAX).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// At the very first start of all replicas: a workspace, and a key to it: the one that is given,
/// or else a new one, which is returned. At every start: an owner for each workspace that has none.
pub async fn bootstrap(
    db: &Db,
    owner: &Email,
    given: Option<keys::Given>,
) -> anyhow::Result<Option<String>> {
    let mut tx = db.begin().await?;
    store::lock_all(&mut tx).await?;
    let mut first_key = None;
    if store::count(&mut tx).await? == 0 {
        let id = insert(&mut tx, FIRST, "Default").await?;
        store::set_operator(&mut tx, id).await?;
        let scopes = [keys::READ, keys::WRITE];
        let label = "first key";
        match given {
            Some(given) => keys::record(&mut tx, id, &given, label, &scopes).await?,
            None => first_key = Some(keys::create(&mut tx, id, label, &scopes).await?),
        }
    }
    let ownerless = store::without_owner(&mut tx).await?;
    if !ownerless.is_empty() {
        let owner = people::store::ensure(&mut tx, owner).await?;
        for workspace in ownerless {
            make_owner(&mut tx, workspace, &owner).await?;
        }
    }
    tx.commit().await?;
    Ok(first_key)
}

/// Makes a person an owner, whatever they were, in the server's own name.
async fn make_owner(
    tx: &mut Tx,
    workspace: WorkspaceId,
    owner: &people::store::UserRow,
) -> sqlx::Result<()> {
    members::store::set(tx, workspace, owner.id, Role::Owner).await?;
    let deed = Deed {
        action: "member.add",
        target_kind: "user",
        target_id: &owner.id.to_string(),
        detail: &[("email", owner.email.as_str().into()), ("role", Role::Owner.as_str().into())],
    };
    audit::record(tx, workspace, &Actor::system(), deed).await
}
