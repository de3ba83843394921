//! Ids: ULIDs, each of a type of its own, so that one cannot be passed for another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use ulid::Ulid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Ulid);

        impl $name {
            /// A new id, with the current time in its first 48 bits.
            pub fn generate() -> Self {
                Self(Ulid::generate())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            /// Only the canonical spelling is an id: 26 characters, upper case.
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                match Ulid::from_string(text) {
                    Ok(id) if id.to_string() == text => Ok(Self(id)),
                    _ => Err(NotAnId),
                }
            }
        }
    };
}

id!(
    /// A session: one Chrome lent to one caller.
    SessionId
);
id!(
    /// A workspace: whom sessions and keys belong to.
    WorkspaceId
);
id!(
    /// The record of an API key; the part of the key that is no secret.
    KeyId
);
id!(
    /// An agent, kept over its restarts.
    AgentId
);
id!(
    /// The record of a token that agents join with; the part of the token that is no secret.
    JoinTokenId
);
id!(
    /// One run of an agent's process.
    InstanceId
);
id!(
    /// A profile: cookies and storage, kept for sessions to begin with.
    ProfileId
);
id!(
    /// One reading of a browser's storage state.
    CaptureId
);
id!(
    /// One content of a file of a session.
    FileId
);
id!(
    /// Something that an agent has to do with an upload.
    FileOrderId
);
id!(
    /// A person.
    UserId
);
id!(
    /// An invitation to a workspace; the part of its link that is no secret.
    InvitationId
);
id!(
    /// A link or a pair of tokens that a person signs in with; the part that is no secret.
    SignInId
);

/// The text is not a ULID in its canonical spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a ULID")]
pub struct NotAnId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text() {
        let id = SessionId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn another_spelling_of_an_id_is_not_an_id() {
        let id = SessionId::generate().to_string();
        assert_eq!(id.to_lowercase().parse::<SessionId>(), Err(NotAnId));
        assert_eq!(format!("{id} ").parse::<SessionId>(), Err(NotAnId));
        assert_eq!("".parse::<SessionId>(), Err(NotAnId));
    }
}
