//! The client commands: what a person or a script asks of a server, over its public API and
//! nothing else.
//!
//! A command sends its requests and returns what it has [`Said`]; [`report`] alone prints it,
//! as a table or as the API's own JSON, and turns what went wrong into an exit code.

pub mod agents;
pub mod error;
mod http;
pub mod key;
pub mod login;
mod options;
mod page;
mod person;
pub mod profile;
mod said;
pub mod session;
mod sign_ins;
#[cfg(test)]
mod stand_in;
pub mod workspace;

use std::process::ExitCode;

use self::{
    error::{Error, Result},
    http::Answer,
    options::Options,
    page::{Paging, page, whole},
    person::Person,
    said::{Said, card},
};
pub use self::{
    http::{Api, Request},
    said::{table, when},
};

/// What a client command's exit code means, for its help.
pub const EXIT_CODES: &str = "\
Exit codes of the client commands:
  0  done
  1  failed
  2  the command line, or what it asks for, is not valid
  3  not signed in, no or no good API key, or not allowed
  4  not found
  5  in conflict with what is: already over, the last owner, a name that is taken
  6  no capacity, or too many requests: try again later
  7  the server cannot be reached";

/// Waits for a command, prints what it has to say, and answers how it went.
pub async fn report(json: bool, command: impl Future<Output = Result<Said>>) -> ExitCode {
    match command.await {
        Ok(said) => said.print(json),
        Err(error) => {
            error.print(json);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Reads a ULID in its canonical spelling. Whose it is, is for the server to say.
fn ulid(text: &str) -> std::result::Result<String, String> {
    let id = text.parse::<proto::id::KeyId>().map_err(|_| "not an id of 26 characters")?;
    Ok(id.to_string())
}
