//! Roles, and what each allows: the one table that everything else asks.

use std::{fmt, str::FromStr};

use serde::Serialize;
use utoipa::ToSchema;

use crate::keys::{ADMIN, OWNER, READ, WRITE};

/// What a person is in a workspace. Each role may do all that those before it may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks on.
    Viewer,
    /// Uses sessions, and makes API keys for programs.
    Member,
    /// Looks after members and keys, and may stop any session.
    Admin,
    /// Looks after the workspace itself.
    Owner,
}

/// The text is no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a role")]
pub struct NotARole;

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Member, Self::Admin, Self::Owner];
    /// What a text that is no role is told.
    pub const RULE: &str = "must be \"viewer\", \"member\", \"admin\" or \"owner\"";

    /// The scopes of whoever has it.
    pub const fn scopes(self) -> &'static [&'static str] {
        match self {
            Self::Viewer => &[READ],
            Self::Member => &[READ, WRITE],
            Self::Admin => &[READ, WRITE, ADMIN],
            Self::Owner => &[READ, WRITE, ADMIN, OWNER],
        }
    }

    /// Whether it has a scope.
    pub fn allows(self, scope: &str) -> bool {
        self.scopes().contains(&scope)
    }

    /// Whether it may hand out, change and take away another role: owners all of them,
    /// admins only those below their own.
    pub fn governs(self, other: Self) -> bool {
        match self {
            Self::Owner => true,
            Self::Admin => other <= Self::Member,
            Self::Viewer | Self::Member => false,
        }
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = NotARole;

    fn from_str(text: &str) -> Result<Self, NotARole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(NotARole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_has_all_scopes_of_those_before_it() {
        for pair in Role::ALL.windows(2) {
            assert!(pair[1].scopes().starts_with(pair[0].scopes()));
            assert!(pair[0] < pair[1]);
        }
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        assert_eq!("Owner".parse::<Role>(), Err(NotARole));
    }
}
