//! Who may do what: a person by their access token, a member by their role in the workspace
//! that the path names.
//!
//! Refused in this order, so that nothing is told too early: no good token 401, a change by
//! cookie from another origin 403, a workspace that the person does not belong to 404, a role
//! that is too small 403. Only then is the rest of the request looked at.

use std::{collections::HashMap, marker::PhantomData};

use axum::extract::{FromRequestParts, Path};
use http::{HeaderMap, Method, header, request::Parts};
use proto::{
    id::{SignInId, UserId},
    problem::{Problem, Slug},
};
use url::Url;

use super::Role;
use crate::{
    app::App,
    audit::{Actor, Peer},
    credential,
    db::Tx,
    error::Error,
    keys::Needs,
    members,
    sign_in::{self, cookies},
    workspaces::{self, Status, WorkspaceRow},
};

/// A person whose access token is good.
#[derive(Clone, Debug)]
pub struct Person {
    /// Who.
    pub id: UserId,
    /// Their address.
    pub email: String,
    /// Who is to be named for what they do.
    pub actor: Actor,
    /// All tokens that came from the same sign-in.
    pub family: SignInId,
}

impl FromRequestParts<App> for Person {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let given = presented(&parts.headers)?;
        let mut tx = app.db.read().await.map_err(Error::from)?;
        let found = match credential::parse::<SignInId>(sign_in::ACCESS, given.token()) {
            Some((id, secret)) => {
                let pair = sign_in::store::find(&mut tx, id).await.map_err(Error::from)?;
                let known = pair.as_ref().map(|pair| pair.access_hash.as_slice());
                pair.as_ref().filter(|_| credential::matches(secret, known)).cloned()
            }
            None => None,
        };
        let now = tx.now_us().await.map_err(Error::from)?;
        let Some(pair) = found.filter(|pair| pair.access_expires_us > now) else {
            let detail = "the access token is malformed, unknown, expired or revoked: refresh it, or sign in again";
            return Err(Problem::new(Slug::Unauthorized, detail));
        };
        if let Presented::Cookie(_) = given {
            check_origin(&parts.method, &parts.headers, &app.config.public_url)?;
        }
        let actor = Actor::user(pair.user_id, &pair.email, Peer::of(parts));
        Ok(Self { id: pair.user_id, email: pair.email, actor, family: pair.family })
    }
}

/// An access token, and how it came.
enum Presented {
    Bearer(String),
    /// A browser sends it along whoever wrote the page that asks: see [`check_origin`].
    Cookie(String),
}

impl Presented {
    fn token(&self) -> &str {
        let (Self::Bearer(token) | Self::Cookie(token)) = self;
        token
    }
}

fn presented(headers: &HeaderMap) -> Result<Presented, Problem> {
    let refused = |detail| Problem::new(Slug::Unauthorized, detail);
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    match (given.next(), given.next()) {
        (Some(value), None) => credential::bearer(value.to_str().unwrap_or_default())
            .map(|token| Presented::Bearer(token.to_owned()))
            .ok_or_else(|| refused("the Authorization header must be: Bearer vd_<ULID>.<secret>")),
        (None, _) => cookies::access(headers)
            .map(Presented::Cookie)
            .ok_or_else(|| refused("sign in, and send the access token: Bearer vd_…")),
        (Some(_), Some(_)) => Err(refused("send one Authorization header")),
    }
}

/// A change that only a cookie vouches for must come from a page of this very server.
pub fn check_origin(method: &Method, headers: &HeaderMap, public_url: &str) -> Result<(), Problem> {
    if method.is_safe() {
        return Ok(());
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let own = text("origin").is_some_and(|origin| same_origin(origin, public_url));
    // Browsers set this themselves; no page can.
    if own || text("sec-fetch-site") == Some("same-origin") {
        return Ok(());
    }
    let detail = "a change that is authorised by a cookie must come from this server's own pages: \
                  send its Origin, or the token as bearer";
    Err(Problem::new(Slug::Forbidden, detail))
}

fn same_origin(origin: &str, public_url: &str) -> bool {
    match (Url::parse(origin), Url::parse(public_url)) {
        (Ok(origin), Ok(own)) => own.origin().is_tuple() && origin.origin() == own.origin(),
        _ => false,
    }
}

/// A person in the workspace that the path's `{slug}` names, whose role has the scope that
/// the route needs.
pub struct Member<S> {
    /// Who.
    pub person: Person,
    /// Where.
    pub workspace: WorkspaceRow,
    /// As what, when the request came. A change looks again: see [`Member::lock`].
    pub role: Role,
    scope: PhantomData<S>,
}

impl<S: Needs> FromRequestParts<App> for Member<S> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let person = Person::from_request_parts(parts, app).await?;
        let path = Path::<HashMap<String, String>>::from_request_parts(parts, app).await;
        let path = path.map(|Path(path)| path).unwrap_or_default();
        let slug = path.get("slug").map(String::as_str).unwrap_or_default();
        let mut tx = app.db.read().await.map_err(Error::from)?;
        let found = workspaces::store::of_member(&mut tx, slug, person.id).await;
        let Some((workspace, role)) = found.map_err(Error::from)? else {
            return Err(no_such_workspace().into());
        };
        check::<S>(&workspace, role)?;
        Ok(Self { person, workspace, role, scope: PhantomData })
    }
}

impl<S: Needs> Member<S> {
    /// Begins a change: holds the workspace against all other changes of its members, looks
    /// at the member again, and refuses when the workspace is closed. Says their role now.
    pub async fn lock(&self, tx: &mut Tx) -> Result<Role, Error> {
        let (workspace, role) = self.lock_closed(tx).await?;
        match workspace.status() {
            Status::Active => Ok(role),
            Status::Suspended => Err(Error::Forbidden(
                "the workspace is suspended: nothing in it can be changed; ask who runs this server"
                    .to_owned(),
            )),
            Status::Deleted => Err(Error::Forbidden(
                "the workspace is deleted: restore it before you change anything in it".to_owned(),
            )),
        }
    }

    /// The same for a change that closed workspaces allow.
    pub async fn lock_closed(&self, tx: &mut Tx) -> Result<(WorkspaceRow, Role), Error> {
        let locked = workspaces::store::lock(tx, self.workspace.id).await?;
        let workspace = locked.ok_or_else(no_such_workspace)?;
        let role = members::store::role(tx, workspace.id, self.person.id).await?;
        let role = role.ok_or_else(no_such_workspace)?;
        check::<S>(&workspace, role)?;
        Ok((workspace, role))
    }
}

fn check<S: Needs>(workspace: &WorkspaceRow, role: Role) -> Result<(), Error> {
    // A deleted workspace is there only for those who can bring it back.
    if workspace.status() == Status::Deleted && role != Role::Owner {
        return Err(no_such_workspace());
    }
    if role.allows(S::SCOPE) {
        Ok(())
    } else {
        Err(Error::Forbidden(format!("the role {role} lacks the scope {}", S::SCOPE)))
    }
}

fn no_such_workspace() -> Error {
    Error::NoSuch("no workspace of yours has this slug")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_compared_as_a_browser_would() {
        for (origin, own) in [
            ("https://v.example", "https://v.example"),
            ("https://v.example", "https://V.example:443"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ] {
            assert!(same_origin(origin, own), "{origin} {own}");
        }
        for (origin, own) in [
            ("http://v.example", "https://v.example"),
            ("https://v.example:8443", "https://v.example"),
            ("https://v.example.evil", "https://v.example"),
            ("null", "https://v.example"),
            ("", "https://v.example"),
        ] {
            assert!(!same_origin(origin, own), "{origin} {own}");
        }
    }
}
