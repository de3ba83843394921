//! `ventus login` and `ventus logout`: a link by mail, redeemed for tokens that are kept in
//! the user's configuration.

mod mail;

use std::{env, process::ExitCode};

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use self::mail::Mail;
use super::{
    EXIT_CODES, Error, Options, Person, Request, Said,
    error::Result,
    options::same_server,
    person::{Me, only},
    report,
    said::plain,
    sign_ins::{SignIn, Tokens},
};
use crate::control_plane::OWNER_EMAIL;

/// Flags of `ventus login`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Login {
    #[command(flatten)]
    options: Options,
    /// Your e-mail address [default: on the server's own machine, its first owner's]
    #[arg(value_name = "EMAIL")]
    email: Option<String>,
    /// Do not send a link: paste one that you have, an invitation's for instance
    #[arg(long, conflicts_with = "email")]
    link: bool,
}

/// Flags of `ventus logout`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Logout {
    #[command(flatten)]
    options: Options,
}

/// What a link is redeemed for.
#[derive(Deserialize)]
struct SignedIn {
    #[serde(flatten)]
    tokens: Tokens,
    user: User,
    /// What an invitation was for.
    #[serde(default)]
    workspace: Option<Joined>,
}

#[derive(Deserialize)]
struct User {
    email: String,
}

#[derive(Deserialize)]
struct Joined {
    slug: String,
}

/// Signs in.
pub async fn login(login: Login) -> ExitCode {
    let json = login.options.json;
    report(json, async { login.run(&Person::find(&login.options)?, ask).await }).await
}

/// Signs out.
pub async fn logout(logout: Logout) -> ExitCode {
    let json = logout.options.json;
    report(json, async { sign_out(&Person::find(&logout.options)?).await }).await
}

impl Login {
    /// `ask` has people paste a link or its token.
    async fn run(
        &self,
        person: &Person,
        ask: impl AsyncFnOnce() -> Result<String>,
    ) -> Result<Said> {
        let token = match self.link {
            true => pasted(&ask().await?)?,
            false => self.mailed(person, ask).await?,
        };
        let request =
            Request::post("/v1/dashboard/auth/tokens").json(&json!({ "token": token }))?;
        let SignedIn { tokens, user, workspace: joined } =
            person.api().send(request).await?.read()?;
        let email = user.email.clone();
        person
            .keep(|before| {
                let same = before.filter(|before| before.email == user.email);
                let workspace = joined.map(|joined| joined.slug);
                let workspace = workspace.or_else(|| same.and_then(|before| before.workspace));
                Some(SignIn { email: user.email, workspace, tokens })
            })
            .await?;
        let (me, answer) = person.me().await?;
        let said = format!("signed in at {} as {}", person.api().base_url(), plain(&email));
        let chosen = person.kept()?.and_then(|sign_in| sign_in.workspace);
        Ok(Said::new(answer, said).note(next(chosen.as_deref(), &me)))
    }

    /// Has a link sent, and gets hold of its token.
    async fn mailed(
        &self,
        person: &Person,
        ask: impl AsyncFnOnce() -> Result<String>,
    ) -> Result<String> {
        let url = person.api().base_url();
        let here = self.options.kept().is_some_and(|kept| same_server(&kept.base_url, url));
        let email = match (&self.email, here) {
            (Some(email), _) => email.clone(),
            (None, true) => owner(env::var("VENTUS_OWNER_EMAIL").ok()),
            (None, false) => {
                return Err(Error::usage("say who you are: ventus login you@example.com"));
            }
        };
        let mail = if here { Some(Mail::of(&self.options.data_dir()?)) } else { None };
        let request = Request::post("/v1/dashboard/auth/magic-links");
        person.api().send(request.json(&json!({ "email": email }))?).await?;
        if let Some(mail) = mail
            && let Some(link) = mail.link_to(&email).await
        {
            eprintln!("the link for {email}, used up now:\n{}", plain(&link));
            return pasted(&link);
        }
        eprintln!("a link was sent to {email}, if {url} knows that address");
        pasted(&ask().await?)
    }
}

/// Who signs in on the server's own machine when nobody is named.
fn owner(configured: Option<String>) -> String {
    configured.filter(|email| !email.is_empty()).unwrap_or_else(|| OWNER_EMAIL.to_owned())
}

/// The token in what people pasted: it, or a link with it.
fn pasted(text: &str) -> Result<String> {
    let token = mail::token_in(text).map(str::to_owned);
    token.ok_or_else(|| Error::usage("this is neither a sign-in link nor the token of one"))
}

async fn ask() -> Result<String> {
    eprint!("Paste the link, or the token in it: ");
    let reading = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    Ok(reading.await.map_err(anyhow::Error::from)?.map_err(anyhow::Error::from)?)
}

/// What to do next, for people.
fn next(chosen: Option<&str>, me: &Me) -> String {
    match (chosen.or(only(me)), me.workspaces.is_empty()) {
        (Some(slug), _) => format!("commands are about the workspace {slug}"),
        (None, true) => "you have no workspace yet: ventus workspace create SLUG".into(),
        (None, false) => "choose a workspace: ventus workspace list, and use SLUG".into(),
    }
}

async fn sign_out(person: &Person) -> Result<Said> {
    let url = person.api().base_url().to_owned();
    let told = person.send(Request::delete("/v1/dashboard/auth/tokens")).await;
    // Here it is forgotten whatever the server says.
    person.keep(|_| None).await?;
    match told {
        Err(error) if !error.is_unauthorized() && !matches!(error, Error::SignedOut(_)) => {
            Err(error)
        }
        _ => Ok(Said::done(format!("signed out at {url}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use serde_json::Value;

    use super::*;
    use crate::{
        client::{
            person::tests::{signed_in, tokens},
            sign_ins::SignIns,
            stand_in::{Asked, StandIn},
        },
        data_dir::credentials_path,
    };

    const TOKEN: &str = "vm_01KAW3Y0R5M8T2N6Q4P1C7D9EF.abc";

    fn answer(asked: &Asked) -> (u16, Value) {
        let workspace = json!({"slug": "team", "name": "T", "role": "owner", "status": "ACTIVE"});
        match asked.line().as_str() {
            "POST /v1/dashboard/auth/magic-links" => (202, json!({})),
            "POST /v1/dashboard/auth/tokens" => (200, tokens(1, 600)),
            "GET /v1/dashboard/me" => {
                (200, json!({"id": "01U", "email": "a@x", "workspaces": [workspace]}))
            }
            "DELETE /v1/dashboard/auth/tokens" => (204, Value::Null),
            _ => (404, json!({"title": "Not found"})),
        }
    }

    fn person(url: &str, dir: &Path, email: Option<&str>, link: bool) -> (Login, Person) {
        let options = Options { url: Some(url.into()), data_dir: Some(dir.into()), json: false };
        let person = Person::at(&options, SignIns::at(dir.join("config"))).unwrap();
        (Login { options, email: email.map(str::to_owned), link }, person)
    }

    #[tokio::test]
    async fn a_pasted_link_signs_in() {
        let dir = tempfile::tempdir().unwrap();
        let server = StandIn::start(answer).await;
        let (login, person) = person(&server.url, dir.path(), Some("a@x"), false);
        let paste = async || Ok(format!("https://v.example/sign-in#token={TOKEN}\n"));
        let said = login.run(&person, paste).await.unwrap();
        assert_eq!(said.people(), format!("signed in at {} as a@x", server.url));
        assert_eq!(said.noted(), "commands are about the workspace team");
        assert!(!said.for_programs().contains("vd_"), "tokens are for the file alone");
        let asked = server.asked();
        assert_eq!(asked[0].body, json!({"email": "a@x"}));
        assert_eq!(asked[1].body, json!({"token": TOKEN}));
        assert_eq!(asked[2].headers["authorization"], "Bearer vd_1");
        let kept = person.kept().unwrap().unwrap();
        assert_eq!((kept.email.as_str(), kept.tokens.refresh_token.as_str()), ("a@x", "vr_1"));
    }

    #[tokio::test]
    async fn an_invitations_link_needs_no_mail() {
        let dir = tempfile::tempdir().unwrap();
        let server = StandIn::start(|asked| {
            let (status, mut body) = answer(asked);
            if asked.uri.ends_with("/tokens") {
                body["workspace"] = json!({"slug": "theirs", "name": "Theirs"});
            }
            (status, body)
        })
        .await;
        let (login, person) = person(&server.url, dir.path(), None, true);
        let said = login.run(&person, async || Ok("vi_01K.x".into())).await.unwrap();
        assert_eq!(server.asked()[0].body, json!({"token": "vi_01K.x"}));
        assert_eq!(said.noted(), "commands are about the workspace theirs");
    }

    #[tokio::test]
    async fn on_the_servers_own_machine_the_mail_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let mails = dir.path().join("mail");
        fs::create_dir(&mails).unwrap();
        let mail =
            |to: &str, token: &str| format!("To: <{to}>\r\n\r\nhttp://h/sign-in#token={token}\r\n");
        fs::write(mails.join("old.eml"), mail("owner@localhost", "vm_old")).unwrap();
        let server = StandIn::start(move |asked| {
            if asked.uri.ends_with("/magic-links") {
                fs::write(mails.join("a.eml"), mail("other@x", "vm_other")).unwrap();
                fs::write(mails.join("b.eml"), mail("owner@localhost", TOKEN)).unwrap();
            }
            answer(asked)
        })
        .await;
        let kept = json!({"base_url": server.url, "api_key": "vs_x"});
        fs::write(credentials_path(dir.path()), kept.to_string()).unwrap();
        let (login, person) = person(&server.url, dir.path(), None, false);
        let never = async || panic!("there is nothing to ask");
        login.run(&person, never).await.unwrap();
        let asked = server.asked();
        assert_eq!(asked[0].body, json!({"email": owner(None)}));
        assert_eq!(asked[1].body, json!({"token": TOKEN}));
    }

    #[tokio::test]
    async fn nonsense_is_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        let server = StandIn::start(answer).await;
        let (login, someone) = person(&server.url, dir.path(), None, false);
        let error = login.run(&someone, async || Ok(TOKEN.into())).await.unwrap_err();
        assert_eq!(error.exit_code(), 2, "nobody is named");
        let (login, someone) = person(&server.url, dir.path(), None, true);
        let error = login.run(&someone, async || Ok("hello\n".into())).await.unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(server.asked().is_empty());
    }

    #[tokio::test]
    async fn signing_out_tells_the_server_and_forgets() {
        let dir = tempfile::tempdir().unwrap();
        let server = StandIn::start(answer).await;
        let person = signed_in(&server.url, dir.path(), 600).await;
        sign_out(&person).await.unwrap();
        assert_eq!(server.lines(), ["DELETE /v1/dashboard/auth/tokens"]);
        assert!(person.kept().unwrap().is_none());
        sign_out(&person).await.unwrap();
    }

    #[tokio::test]
    async fn signing_out_where_no_server_answers_is_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let server = StandIn::start(|_| (500, json!({"title": "Internal error"}))).await;
        let person = signed_in(&server.url, dir.path(), 600).await;
        assert_eq!(sign_out(&person).await.unwrap_err().exit_code(), 1);
        assert!(person.kept().unwrap().is_none());
    }
}
