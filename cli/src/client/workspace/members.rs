//! Members of a workspace, and those who are asked to become one.

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    super::{ulid, whole},
    Chosen, Error, Person, Request, Result, Said, table, when,
};

/// What a member may do.
#[derive(Clone, Copy, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// List and read sessions
    Viewer,
    /// Also create and release them, and make keys
    Member,
    /// Also stop any session, ask people in and see all keys
    Admin,
    /// Everything
    Owner,
}

/// Flags of `ventus workspace role`.
#[derive(Debug, Args)]
pub struct Move {
    /// The member: their e-mail address or id
    who: String,
    /// What they may do from now on
    role: Role,
}

/// Flags of `ventus workspace remove`.
#[derive(Debug, Args)]
pub struct Remove {
    /// The member: their e-mail address or id
    who: String,
}

/// Flags of `ventus workspace invite`.
#[derive(Debug, Args)]
pub struct Invite {
    /// Their e-mail address
    email: String,
    /// What they may do
    #[arg(long, value_name = "ROLE", default_value = "member")]
    role: Role,
}

/// Flags of `ventus workspace uninvite`.
#[derive(Debug, Args)]
pub struct Uninvite {
    /// The invitation: its e-mail address or id
    who: String,
}

#[derive(Debug, Deserialize)]
struct Member {
    user_id: String,
    email: String,
    role: String,
    joined_at: String,
}

#[derive(Debug, Deserialize)]
struct Invitation {
    id: String,
    email: String,
    role: String,
    expires_at: String,
}

/// Something in either list, which goes by an address, too.
#[derive(Debug, Deserialize)]
struct Addressed {
    #[serde(alias = "user_id")]
    id: String,
    email: String,
}

/// The path of the one in a list that is meant.
async fn path_of(person: &Person, list: String, who: &str) -> Result<String> {
    if let Ok(id) = ulid(who) {
        return Ok(format!("{list}/{id}"));
    }
    let listed = whole::<Addressed>(person.send(Request::get(&list)).await?)?;
    let found = listed.items.into_iter().find(|item| item.email.eq_ignore_ascii_case(who));
    let found = found.ok_or_else(|| Error::Absent(format!("nobody here is {who}")))?;
    Ok(format!("{list}/{}", found.id))
}

/// `ventus workspace members`
pub async fn list(person: &Person, chosen: &Chosen) -> Result<Said> {
    let request = Request::get(person.path(chosen, "/members").await?);
    let listed = whole::<Member>(person.send(request).await?)?;
    Ok(listed.said("members", |members| {
        let rows = members
            .into_iter()
            .map(|member| [member.email, member.role, when(&member.joined_at), member.user_id]);
        table(["E-MAIL", "ROLE", "JOINED", "ID"], rows)
    }))
}

/// `ventus workspace invitations`
pub async fn invitations(person: &Person, chosen: &Chosen) -> Result<Said> {
    let request = Request::get(person.path(chosen, "/invitations").await?);
    let listed = whole::<Invitation>(person.send(request).await?)?;
    Ok(listed.said("invitations", |invitations| {
        let rows =
            invitations.into_iter().map(|one| [one.email, one.role, when(&one.expires_at), one.id]);
        table(["E-MAIL", "ROLE", "UNTIL", "ID"], rows)
    }))
}

impl Move {
    pub async fn run(self, person: &Person, chosen: &Chosen) -> Result<Said> {
        let members = person.path(chosen, "/members").await?;
        let path = path_of(person, members, &self.who).await?;
        let request = Request::patch(path).json(&json!({ "role": self.role }))?;
        let answer = person.send(request).await?;
        let member: Member = answer.read()?;
        Ok(Said::new(answer, format!("{} is {} now", member.email, member.role)))
    }
}

impl Remove {
    pub async fn run(self, person: &Person, chosen: &Chosen) -> Result<Said> {
        let members = person.path(chosen, "/members").await?;
        let path = path_of(person, members, &self.who).await?;
        person.send(Request::delete(path)).await?;
        Ok(Said::done(format!("removed {}", self.who)))
    }
}

impl Invite {
    pub async fn run(self, person: &Person, chosen: &Chosen) -> Result<Said> {
        let body = json!({ "email": self.email, "role": self.role });
        let request = Request::post(person.path(chosen, "/invitations").await?).json(&body)?;
        let answer = person.send(request).await?;
        let made: Invitation = answer.read()?;
        let until = when(&made.expires_at);
        Ok(Said::new(answer, format!("{} is asked in as {}, until {until}", made.email, made.role)))
    }
}

impl Uninvite {
    pub async fn run(self, person: &Person, chosen: &Chosen) -> Result<Said> {
        let invitations = person.path(chosen, "/invitations").await?;
        let path = path_of(person, invitations, &self.who).await?;
        person.send(Request::delete(path)).await?;
        Ok(Said::done(format!("the invitation of {} is taken back", self.who)))
    }
}
