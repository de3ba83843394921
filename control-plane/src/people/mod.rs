//! People: who they are, what their role in a workspace lets them do, and the extractors
//! that a dashboard route begins with.

pub mod access;
mod email;
pub mod me;
mod role;
pub mod store;

pub use access::{Member, Person};
pub use email::Email;
pub use role::Role;
