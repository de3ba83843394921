//! People who sign in as they would: by the links in their mails.

use http::Method;
use proto::id::UserId;
use serde_json::{Value, json};

use super::{Answer, Call, TestApp, until};
use crate::{
    db::Link,
    members,
    people::{self, Role},
};

macro_rules! dump {
    ($($table:literal $columns:literal)+) => {
        const DUMP: &[(&str, &str)] = &[$((
            concat!("SELECT json_array(", $columns, ") FROM ", $table),
            concat!("SELECT row_to_json(t)::text FROM ", $table, " t"),
        )),+];
    };
}

dump! {
    "users" "id, email, email_key"
    "api_keys" "id, label, scopes, hex(secret_hash)"
    "invitations" "id, email, role, hex(secret_hash)"
    "magic_links" "id, user_id, hex(secret_hash)"
    "sign_ins" "id, family, hex(access_hash), hex(refresh_hash), successor"
    "audit" "id, action, target_id, detail"
}

impl TestApp {
    /// What the next mail to this address will have been sent, once `ask` has led to one: the
    /// token of its link.
    pub async fn mailed(&self, to: &str, ask: Call, status: u16) -> String {
        let all = || self.app.mailer.sent().into_iter().filter(|mail| mail.to.as_str() == to);
        let before = all().count();
        ask.send().await.expect(status);
        until(async || all().count() > before).await;
        let link = all().next_back().unwrap().link;
        let token = link.strip_prefix("http://ventus.test/sign-in#token=");
        token.unwrap_or_else(|| panic!("{link}")).to_owned()
    }

    /// The token of a link to sign in with.
    pub async fn link_for(&self, email: &str) -> String {
        let ask = self.open(Method::POST, "/v1/dashboard/auth/magic-links");
        self.mailed(email, ask.json(&json!({"email": email})), 202).await
    }

    /// Signs a person in who is known, as a browser would: access and refresh token.
    pub async fn sign_in(&self, email: &str) -> (String, String) {
        let token = self.link_for(email).await;
        let tokens = self.exchange(&token).await.expect(200);
        let text = |name: &str| tokens[name].as_str().unwrap().to_owned();
        (text("access_token"), text("refresh_token"))
    }

    /// Uses the token of a link.
    pub async fn exchange(&self, token: &str) -> Answer {
        let exchange = self.open(Method::POST, "/v1/dashboard/auth/tokens");
        exchange.json(&json!({"token": token})).send().await
    }

    /// A new person with a role in the test's workspace, signed in.
    pub async fn person(&self, name: &str, role: Role) -> TestPerson {
        let email = format!("{name}@ventus.test");
        let mut tx = self.tx().await;
        let user = people::store::ensure(&mut tx, &email.parse().unwrap()).await.unwrap();
        members::store::set(&mut tx, self.workspace, user.id, role).await.unwrap();
        tx.commit().await.unwrap();
        let (token, refresh) = self.sign_in(&email).await;
        TestPerson { app: self.clone(), id: user.id, email, token, refresh }
    }

    /// The owner whom the first start made, signed in.
    pub async fn owner(&self) -> TestPerson {
        self.person("owner", Role::Owner).await
    }

    /// What a person is in the test's workspace.
    pub async fn role_of(&self, person: &TestPerson) -> Option<Role> {
        let mut tx = self.app.db.read().await.unwrap();
        members::store::role(&mut tx, self.workspace, person.id).await.unwrap()
    }

    /// A request without a key.
    pub fn open(&self, method: Method, path: &str) -> Call {
        self.call(method, path).without("authorization")
    }

    /// All that people's tables hold, as text.
    pub async fn dump(&self) -> String {
        let mut tx = self.app.db.read().await.unwrap();
        let mut dump = String::new();
        for (sqlite, postgres) in DUMP {
            let rows: Vec<String> = match tx.link() {
                Link::Sqlite(db) => sqlx::query_scalar(*sqlite).fetch_all(db).await.unwrap(),
                Link::Postgres(db) => sqlx::query_scalar(*postgres).fetch_all(db).await.unwrap(),
            };
            dump.extend(rows);
        }
        dump
    }
}

/// Somebody who is signed in.
#[derive(Clone)]
pub(crate) struct TestPerson {
    app: TestApp,
    pub id: UserId,
    pub email: String,
    pub token: String,
    pub refresh: String,
}

impl TestPerson {
    /// A request to a route of the dashboard.
    pub fn call(&self, method: Method, path: &str) -> Call {
        self.app.call(method, &format!("/v1/dashboard{path}")).key(&self.token)
    }

    /// A request to a route of the test's workspace.
    pub fn ws(&self, method: Method, path: &str) -> Call {
        self.call(method, &format!("/ws/default{path}"))
    }

    /// Makes a key: its id and the key itself.
    pub async fn key(&self, body: &Value) -> (String, String) {
        let made = self.ws(Method::POST, "/api-keys").json(body).send().await.expect(201);
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("id"), text("secret"))
    }
}
