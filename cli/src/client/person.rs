//! Someone who is signed in: requests of theirs carry a token that is renewed when its time
//! comes.

use clap::Args;
use serde::Deserialize;
use serde_json::json;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Answer, Api, Options, Request,
    error::{Error, Result},
    sign_ins::{SignIn, SignIns, Tokens},
};

/// A token is renewed when it has less than this to live.
const SPARE: Duration = Duration::seconds(30);

/// Someone at a server.
pub struct Person {
    api: Api,
    sign_ins: SignIns,
}

/// Which workspace a command is about.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Chosen {
    /// The workspace [default: the one of `ventus workspace use`, else your only one]
    #[arg(long, global = true, env = "VENTUS_WORKSPACE", value_name = "SLUG", value_parser = slug, help_heading = "Server")]
    pub workspace: Option<String>,
}

/// `GET /v1/dashboard/me`
#[derive(Debug, Deserialize)]
pub struct Me {
    /// Where they are members.
    pub workspaces: Vec<Membership>,
}

/// A workspace as one of its members sees it.
#[derive(Debug, Deserialize)]
pub struct Membership {
    /// Names it in URLs.
    pub slug: String,
    /// Names it for people.
    pub name: String,
    /// What the member may do.
    pub role: String,
    /// `ACTIVE`, `SUSPENDED` or `DELETED`.
    pub status: String,
}

impl Person {
    /// Whoever is signed in at the server that the options mean.
    pub fn find(options: &Options) -> Result<Self> {
        Self::at(options, SignIns::of_user()?)
    }

    /// The same, with sign-ins kept in another place.
    pub fn at(options: &Options, sign_ins: SignIns) -> Result<Self> {
        let url = options.url_or(sign_ins.read()?.current);
        Ok(Self { api: Api::new(url)?, sign_ins })
    }

    /// The server, without a credential.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// What is kept of this sign-in.
    pub fn kept(&self) -> Result<Option<SignIn>> {
        Ok(self.sign_ins.read()?.servers.remove(self.api.base_url()))
    }

    /// Changes what is kept of it; `None` forgets it.
    pub async fn keep(&self, change: impl FnOnce(Option<SignIn>) -> Option<SignIn>) -> Result<()> {
        let url = self.api.base_url();
        let locked = self.sign_ins.lock().await?;
        let mut kept = locked.read()?;
        let before = kept.servers.remove(url);
        match change(before) {
            Some(sign_in) => {
                kept.servers.insert(url.to_owned(), sign_in);
                kept.current = Some(url.to_owned());
            }
            None => kept.current = kept.current.filter(|current| current != url),
        }
        Ok(locked.write(&kept)?)
    }

    /// Sends a request of theirs.
    ///
    /// # Errors
    ///
    /// Also when they are not signed in, or not any more.
    pub async fn send(&self, request: Request) -> Result<Answer> {
        let token = self.token(None).await?;
        let answer = self.api.with(&token).send(request.clone()).await;
        match answer {
            // The server may have ended the token before its time, or our clocks differ.
            Err(error) if error.is_unauthorized() => {
                let token = self.token(Some(&token)).await?;
                self.api.with(token).send(request).await
            }
            answer => answer,
        }
    }

    /// A token that is good for a while, and not the one that was refused.
    async fn token(&self, refused: Option<&str>) -> Result<String> {
        let out = || Error::SignedOut(self.api.base_url().to_owned());
        let good = |tokens: &Tokens| {
            refused != Some(&tokens.access_token) && lives_until(tokens) - now() > SPARE
        };
        let tokens = self.kept()?.ok_or_else(out)?.tokens;
        if good(&tokens) {
            return Ok(tokens.access_token);
        }
        let locked = self.sign_ins.lock().await?;
        let mut kept = locked.read()?;
        let sign_in = kept.servers.get_mut(self.api.base_url()).ok_or_else(out)?;
        // Another process may have been faster.
        if good(&sign_in.tokens) {
            return Ok(sign_in.tokens.access_token.clone());
        }
        match self.refreshed(&sign_in.tokens.refresh_token).await {
            Ok(tokens) => {
                let token = tokens.access_token.clone();
                sign_in.tokens = tokens;
                locked.write(&kept)?;
                Ok(token)
            }
            Err(error) if error.is_unauthorized() => {
                kept.servers.remove(self.api.base_url());
                locked.write(&kept)?;
                Err(out())
            }
            Err(error) => Err(error),
        }
    }

    /// The next tokens. The server takes the second of two such requests, soon after the
    /// first, for the first.
    async fn refreshed(&self, refresh_token: &str) -> Result<Tokens> {
        let body = json!({ "refresh_token": refresh_token });
        let request = Request::post("/v1/dashboard/auth/refresh").json(&body)?.repeatable();
        self.api.send(request).await?.read()
    }

    /// Who they are, and where they are members.
    pub async fn me(&self) -> Result<(Me, Answer)> {
        let answer = self.send(Request::get("/v1/dashboard/me")).await?;
        Ok((answer.read()?, answer))
    }

    /// The slug of the workspace that a command is about.
    ///
    /// # Errors
    ///
    /// When that is not clear.
    pub async fn workspace(&self, chosen: &Chosen) -> Result<String> {
        if let Some(slug) = &chosen.workspace {
            return Ok(slug.clone());
        }
        if let Some(slug) = self.kept()?.and_then(|sign_in| sign_in.workspace) {
            return Ok(slug);
        }
        let (me, _) = self.me().await?;
        only(&me).map(str::to_owned).ok_or_else(|| {
            let slugs: Vec<_> = me.workspaces.iter().map(|w| w.slug.as_str()).collect();
            let known = if slugs.is_empty() { "none".to_owned() } else { slugs.join(", ") };
            Error::usage(format!(
                "say which workspace: --workspace, or `ventus workspace use` (yours: {known})"
            ))
        })
    }

    /// The path of something in the workspace that a command is about.
    pub async fn path(&self, chosen: &Chosen, rest: &str) -> Result<String> {
        Ok(format!("/v1/dashboard/ws/{}{rest}", self.workspace(chosen).await?))
    }
}

/// Someone's one workspace, or the one of several that is in use.
pub fn only(me: &Me) -> Option<&str> {
    let active = |workspace: &&Membership| workspace.status == "ACTIVE";
    let mut meant = me.workspaces.iter().filter(|one| me.workspaces.len() == 1 || active(one));
    meant.next().filter(|_| meant.next().is_none()).map(|workspace| workspace.slug.as_str())
}

/// Reads a slug, which is safe in a path.
pub fn slug(text: &str) -> std::result::Result<String, String> {
    let safe = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if text.is_empty() || !text.bytes().all(safe) {
        return Err("a slug is lowercase letters, digits and hyphens".into());
    }
    Ok(text.to_owned())
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn lives_until(tokens: &Tokens) -> OffsetDateTime {
    OffsetDateTime::parse(&tokens.access_expires_at, &Rfc3339).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::{path::Path, sync::Arc};

    use serde_json::Value;

    use super::*;
    use crate::client::stand_in::{Asked, StandIn};

    /// Tokens that live this long, the nth of their kind.
    pub fn tokens(n: u32, seconds: i64) -> Value {
        let expires = (now() + Duration::seconds(seconds)).format(&Rfc3339).unwrap();
        json!({
            "access_token": format!("vd_{n}"), "access_expires_at": expires,
            "refresh_token": format!("vr_{n}"), "refresh_expires_at": expires,
            "user": {"id": "01U", "email": "a@x"},
        })
    }

    /// Someone who is signed in at a server, with tokens that live this long.
    pub async fn signed_in(url: &str, dir: &Path, seconds: i64) -> Person {
        let options = Options { url: Some(url.into()), data_dir: Some(dir.into()), json: false };
        let person = Person::at(&options, SignIns::at(dir.join("config"))).unwrap();
        let tokens = serde_json::from_value(tokens(0, seconds)).unwrap();
        let sign_in = SignIn { email: "a@x".into(), workspace: Some("team".into()), tokens };
        person.keep(|_| Some(sign_in)).await.unwrap();
        person
    }

    fn bearer(asked: &Asked) -> &str {
        asked.headers.get("authorization").map_or("", |value| value.to_str().unwrap())
    }

    /// A server that hands out new tokens, each refresh token once, and knows only the last
    /// access token.
    async fn server() -> (StandIn, Arc<AtomicU32>) {
        let last = Arc::new(AtomicU32::new(0));
        let known = last.clone();
        let server = StandIn::start(move |asked| {
            let n = known.load(Ordering::SeqCst);
            if asked.uri.ends_with("/refresh") {
                return if asked.body["refresh_token"] == format!("vr_{n}") {
                    known.store(n + 1, Ordering::SeqCst);
                    (200, tokens(n + 1, 3600))
                } else {
                    (401, json!({"title": "Not authenticated"}))
                };
            }
            let good = bearer(asked) == format!("Bearer vd_{n}");
            (if good { 200 } else { 401 }, json!({"title": "x"}))
        });
        (server.await, last)
    }

    #[tokio::test]
    async fn a_living_token_is_used_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (server, _) = server().await;
        let person = signed_in(&server.url, dir.path(), 600).await;
        person.send(Request::get("/x")).await.unwrap();
        assert_eq!(bearer(&server.only()), "Bearer vd_0");
    }

    #[tokio::test]
    async fn many_at_once_renew_a_token_once() {
        let dir = tempfile::tempdir().unwrap();
        let (server, last) = server().await;
        let person = Arc::new(signed_in(&server.url, dir.path(), 10).await);
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..12 {
            let person = person.clone();
            all.spawn(async move { person.send(Request::get("/x")).await.map(drop) });
        }
        assert!(all.join_all().await.iter().all(Result::is_ok));
        assert_eq!(last.load(Ordering::SeqCst), 1);
        let kept = person.kept().unwrap().unwrap();
        assert_eq!((kept.tokens.refresh_token.as_str(), kept.email.as_str()), ("vr_1", "a@x"));
        assert_eq!(kept.workspace.as_deref(), Some("team"));
    }

    #[tokio::test]
    async fn a_token_that_the_server_ended_early_is_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let (server, last) = server().await;
        let person = signed_in(&server.url, dir.path(), 600).await;
        // Somebody else's renewal: the file knows nothing of it, but its refresh token is good.
        let kept = json!({"access_token": "vd_old", "access_expires_at": "2999-01-01T00:00:00Z",
            "refresh_token": "vr_0"});
        let tokens = serde_json::from_value(kept).unwrap();
        person.keep(|before| before.map(|b| SignIn { tokens, ..b })).await.unwrap();
        person.send(Request::get("/x")).await.unwrap();
        assert_eq!(last.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_sign_in_that_is_over_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let server = StandIn::start(|_| (401, json!({"title": "Not authenticated"}))).await;
        let person = signed_in(&server.url, dir.path(), 600).await;
        let error = person.send(Request::get("/x")).await.unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains("ventus login"), "{error}");
        assert!(person.kept().unwrap().is_none());
        let error = person.send(Request::get("/x")).await.unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert_eq!(server.lines(), ["GET /x", "POST /v1/dashboard/auth/refresh"]);
    }

    #[tokio::test]
    async fn the_workspace_is_the_one_named_or_chosen_or_the_only_one() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = |slug: &str, status: &str| json!({"slug": slug, "name": slug, "role": "owner", "status": status});
        let mine = [workspace("a", "ACTIVE"), workspace("b", "DELETED")];
        let me = json!({"id": "01U", "email": "a@x", "workspaces": mine});
        let server = StandIn::start(move |_| (200, me.clone())).await;
        let person = signed_in(&server.url, dir.path(), 600).await;
        let named = Chosen { workspace: Some("named".into()) };
        assert_eq!(person.workspace(&named).await.unwrap(), "named");
        let open = Chosen { workspace: None };
        assert_eq!(person.workspace(&open).await.unwrap(), "team");
        let forget = |before: Option<SignIn>| before.map(|b| SignIn { workspace: None, ..b });
        person.keep(forget).await.unwrap();
        assert_eq!(person.path(&open, "/members").await.unwrap(), "/v1/dashboard/ws/a/members");
    }

    #[test]
    fn ones_only_workspace_is_meant_even_when_it_is_closed() {
        let me = |statuses: &[&str]| {
            let of = |(n, status): (usize, &&str)| Membership {
                slug: format!("w{n}"),
                name: String::new(),
                role: "owner".into(),
                status: (*status).to_owned(),
            };
            Me { workspaces: statuses.iter().enumerate().map(of).collect() }
        };
        for (statuses, meant) in [
            (&["SUSPENDED"][..], Some("w0")),
            (&["DELETED", "ACTIVE"], Some("w1")),
            (&["ACTIVE", "ACTIVE"], None),
            (&["DELETED", "SUSPENDED"], None),
            (&[], None),
        ] {
            assert_eq!(only(&me(statuses)), meant, "{statuses:?}");
        }
    }

    #[test]
    fn a_slug_is_safe_in_a_path() {
        assert_eq!(slug("my-team-2"), Ok("my-team-2".into()));
        for bad in ["", "a/b", "..", "A", "a b", "a?b"] {
            assert!(slug(bad).is_err(), "{bad}");
        }
    }
}
