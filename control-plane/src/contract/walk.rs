//! Walks every route of the OpenAPI document. A new one is walked as soon as it is documented,
//! and the walk fails when it knows no example for what is new in its path.

use std::collections::BTreeMap;

use http::Method;
use proto::id::SessionId;
use serde_json::{Value, json};

use crate::{
    files::{self, Source},
    keys::{ADMIN, OWNER, READ, WRITE},
    people::Role,
    testing::{Answer, Call, TestApp, TestPerson, on_both_databases},
};

/// The operations that anybody may call.
const OPEN: &[&str] =
    &["health", "healthz", "jwks", "readyz", "refreshTokens", "requestMagicLink", "signIn"];

/// Whose credential an operation takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Anybody,
    Program,
    Person,
}

/// One operation of the document.
#[derive(Debug)]
struct Route {
    name: String,
    who: Who,
    /// What a credential must allow; `None`: it need only be good.
    scope: Option<String>,
    method: Method,
    template: String,
    /// The document's own example.
    body: Option<Value>,
}

impl Route {
    fn of(template: &str, method: &str, operation: &Value) -> Self {
        let (scheme, scopes) = match operation["security"][0].as_object().unwrap().iter().next() {
            None => ("", &Value::Null),
            Some((scheme, scopes)) => (scheme.as_str(), scopes),
        };
        let who = match scheme {
            "" => Who::Anybody,
            "api_key" => Who::Program,
            "access_token" => Who::Person,
            other => panic!("the walk knows no credential for {other}"),
        };
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let known = parameter["in"] == "path" || parameter["name"] == "Idempotency-Key";
            assert!(known || parameter["required"] != true, "{template} needs {parameter}");
        }
        let body = &operation["requestBody"]["content"]["application/json"]["example"];
        Self {
            name: operation["operationId"].as_str().unwrap().to_owned(),
            who,
            scope: scopes[0].as_str().map(str::to_owned),
            method: method.to_uppercase().parse().unwrap(),
            template: template.to_owned(),
            body: (!body.is_null()).then(|| body.clone()),
        }
    }

    /// A request to it on these things, with nobody's credential.
    fn call(&self, app: &TestApp, things: &Things) -> Call {
        self.call_below("", app, things)
    }

    fn call_below(&self, prefix: &str, app: &TestApp, things: &Things) -> Call {
        let call =
            app.open(self.method.clone(), &format!("{prefix}{}", things.fill(&self.template)));
        let call = call.header("idempotency-key", "walk");
        match &self.body {
            None => call,
            Some(body) => call.json(body),
        }
    }

    /// Under which its path is served.
    fn prefixes(&self) -> &'static [&'static str] {
        if self.template.starts_with("/v1/dashboard/") { &["", "/api"] } else { &[""] }
    }

    /// Whether only the operator's workspace may use it.
    fn is_operators(&self) -> bool {
        self.template.starts_with("/v1/agents")
    }

    fn parameters(&self) -> usize {
        self.template.matches('{').count()
    }
}

/// All operations of the document.
fn routes() -> Vec<Route> {
    let document = serde_json::to_value(crate::api::document()).unwrap();
    let mut routes = Vec::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            routes.push(Route::of(template, method, operation));
        }
    }
    routes
}

/// Those that need a credential.
fn closed() -> Vec<Route> {
    routes().into_iter().filter(|route| route.who != Who::Anybody).collect()
}

/// Something for each parameter of a path, by what comes before it: `sessions/{id}`.
#[derive(Clone, Debug)]
struct Things {
    ids: BTreeMap<&'static str, String>,
    /// A key of the operator's, for all that programs may read.
    key: String,
}

impl Things {
    /// One of each, all in the test's workspace.
    async fn make(app: &TestApp, owner: &TestPerson) -> Self {
        let id = |made: Value| made["id"].as_str().unwrap().to_owned();
        app.quick_agent("local", 1).await;
        let session = app.create("thing").send().await.expect(201);
        let profile = json!({"name": "thing", "storage_state": {}});
        let profile = app.call(Method::POST, "/v1/profiles").json(&profile).send().await;
        let invitation = json!({"email": "ada@thing.test", "role": "viewer"});
        let invitation = owner.ws(Method::POST, "/invitations").json(&invitation).send().await;
        let running = id(session);
        let of = running.parse().unwrap();
        let agent = app.session(of).await.agent_id.unwrap();
        for source in [Source::Caller(app.workspace), Source::Agent(agent)] {
            // It can be read as JSON, like all else here.
            files::tests::store(app, of, source, "thing.json", b"{}").await.unwrap();
        }
        let (key, _) = owner.key(&json!({"label": "thing"})).await;
        let ids = BTreeMap::from([
            ("agents/{id}", agent.to_string()),
            ("sessions/{id}", running),
            ("uploads/{name}", "thing.json".to_owned()),
            ("downloads/{name}", "thing.json".to_owned()),
            ("profiles/{id}", id(profile.expect(201))),
            ("ws/{slug}", "default".to_owned()),
            ("api-keys/{key_id}", key),
            ("members/{user_id}", app.person("grace", Role::Member).await.id.to_string()),
            ("invitations/{id}", id(invitation.expect(201))),
        ]);
        Self { ids, key: app.key_for(app.workspace, &[READ, WRITE, ADMIN]).await }
    }

    /// The same workspace with nothing in it but what this text may name.
    fn all(&self, text: &str) -> Self {
        let ids = self.ids.keys().map(|thing| (*thing, text.to_owned())).collect();
        Self { ids, key: self.key.clone() }.within(&self.ids["ws/{slug}"])
    }

    /// The same in another workspace.
    fn within(mut self, slug: &str) -> Self {
        self.ids.insert("ws/{slug}", slug.to_owned());
        self
    }

    fn all_ids(&self) -> impl Iterator<Item = &String> {
        self.ids.iter().filter(|(thing, _)| **thing != "ws/{slug}").map(|(_, id)| id)
    }

    fn fill(&self, template: &str) -> String {
        let mut filled = Vec::new();
        let mut before = "";
        for segment in template.split('/') {
            let thing = format!("{before}/{segment}");
            let id = || self.ids.get(&*thing).unwrap_or_else(|| panic!("no example of {thing}"));
            filled.push(if segment.starts_with('{') { id().as_str() } else { segment });
            before = segment;
        }
        filled.join("/")
    }
}

/// The same credential with another secret, and with another record's id.
fn forged(credential: &str) -> [String; 2] {
    let (head, secret) = credential.rsplit_once('.').unwrap();
    let reversed: String = secret.chars().rev().collect();
    [format!("{head}.{reversed}"), format!("{}{}.{secret}", &head[..3], SessionId::generate())]
}

/// What `who` may not come with.
async fn bad_credentials(app: &TestApp, owner: &TestPerson, who: Who) -> Vec<String> {
    let revoked = app.key_for(app.workspace, &[READ, WRITE, ADMIN]).await;
    app.sql("UPDATE api_keys SET revoked_us = 1 WHERE id = $1", &[&revoked[3..29]]).await;
    let gone = app.person("gone", Role::Owner).await;
    gone.call(Method::DELETE, "/auth/tokens").send().await.expect(204);
    let (good, of_others) = match who {
        Who::Person => (owner.token.as_str(), [&*app.key, &owner.refresh]),
        _ => (&*app.key, [owner.token.as_str(), &owner.refresh]),
    };
    let bad = forged(good).into_iter().chain(of_others.map(str::to_owned));
    let bad = bad.chain([revoked, gone.token, format!("{good}x"), String::new()]);
    let bad = bad.map(|credential| format!("Bearer {credential}"));
    bad.chain([String::new(), "Bearer".to_owned(), format!("Basic {good}")]).collect()
}

/// Somebody who owns another workspace, and the key to it.
struct Stranger {
    person: TestPerson,
    key: String,
}

impl Stranger {
    const SLUG: &str = "other";

    async fn come(app: &TestApp) -> Self {
        let person = app.person("mallory", Role::Viewer).await;
        let leave = person.ws(Method::DELETE, &format!("/members/{}", person.id));
        leave.send().await.expect(204);
        let own = json!({"slug": Self::SLUG, "name": "Other"});
        person.call(Method::POST, "/workspaces").json(&own).send().await.expect(201);
        let key = json!({"label": "k", "scopes": [READ, WRITE, ADMIN]});
        let keys = format!("/ws/{}/api-keys", Self::SLUG);
        let key = person.call(Method::POST, &keys).json(&key).send().await.expect(201);
        Self { person, key: key["secret"].as_str().unwrap().to_owned() }
    }

    async fn asks(&self, app: &TestApp, route: &Route, things: &Things) -> Answer {
        let credential = if route.who == Who::Person { &self.person.token } else { &self.key };
        route.call(app, things).key(credential).send().await
    }

    /// What they hear of something that is not there for them, but for what names the request.
    async fn misses(&self, app: &TestApp, route: &Route, things: &Things) -> Value {
        let (status, slug) =
            if route.is_operators() { (403, "forbidden") } else { (404, "not-found") };
        let mut problem = self.asks(app, route, things).await.problem(status, slug);
        for own in ["request_id", "instance"] {
            problem[own].take();
        }
        problem
    }
}

/// All that a workspace's owner can read of it, but for what time changes.
async fn shown(app: &TestApp, owner: &TestPerson, things: &Things) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for route in closed().into_iter().filter(|route| route.method == Method::GET) {
        let credential = if route.who == Who::Person { &owner.token } else { &things.key };
        let mut answer = route.call(app, things).key(credential).send().await.expect(200);
        forget_time(&mut answer);
        all.insert(route.name, answer);
    }
    all
}

/// Checks that nothing of it has changed.
async fn unchanged(
    app: &TestApp,
    owner: &TestPerson,
    things: &Things,
    before: BTreeMap<String, Value>,
) {
    let mut after = shown(app, owner, things).await;
    for (operation, before) in before {
        assert_eq!(after.remove(&operation), Some(before), "{operation}");
    }
}

/// A session's figures grow, and each answer has a connect token of its own.
fn forget_time(answer: &mut Value) {
    for volatile in ["usage", "connect_url"] {
        if let Some(value) = answer.get_mut(volatile) {
            value.take();
        }
    }
    if let Some(Value::Array(items)) = answer.get_mut("items") {
        items.iter_mut().for_each(forget_time);
    }
}

#[test]
fn nothing_is_open_but_what_has_to_be() {
    let open = routes().into_iter().filter(|route| route.who == Who::Anybody);
    let mut open: Vec<_> = open.map(|route| route.name).collect();
    open.sort();
    assert_eq!(open, OPEN);
    for route in closed() {
        assert!(route.scope.is_some() || route.who == Who::Person, "{route:?}");
        assert!(route.scope.is_some() || route.parameters() == 0, "{route:?}");
    }
}

on_both_databases! {
    async fn every_route_is_closed_without_a_good_credential(app: TestApp) {
        let owner = app.owner().await;
        let things = Things::make(&app, &owner).await;
        let mut all = Vec::new();
        for who in [Who::Program, Who::Person] {
            all.push((who, bad_credentials(&app, &owner, who).await));
        }
        let before = shown(&app, &owner, &things).await;
        for (who, bad) in all {
            for route in closed().iter().filter(|route| route.who == who) {
                for prefix in route.prefixes() {
                    let call = || route.call_below(prefix, &app, &things);
                    call().send().await.problem(401, "unauthorized");
                    for bad in &bad {
                        let answer = call().header("authorization", bad).send().await;
                        assert_eq!(answer.headers["www-authenticate"], "Bearer", "{route:?}");
                        answer.problem(401, "unauthorized");
                    }
                    let cookie = format!("ventus_access={}", forged(&owner.token)[0]);
                    call().header("cookie", &cookie).send().await.problem(401, "unauthorized");
                }
            }
        }
        unchanged(&app, &owner, &things, before).await;
    }

    async fn what_is_anothers_looks_like_what_is_not_there(app: TestApp) {
        let owner = app.owner().await;
        let things = Things::make(&app, &owner).await;
        let stranger = Stranger::come(&app).await;
        let unknown = SessionId::generate().to_string();
        let before = shown(&app, &owner, &things).await;
        for route in closed() {
            if route.parameters() > 0 {
                let missed = stranger.misses(&app, &route, &things).await;
                for nothing in [&unknown, &unknown.to_lowercase(), "nonsense"] {
                    let nothing = things.all(nothing).within("nope");
                    assert_eq!(stranger.misses(&app, &route, &nothing).await, missed, "{route:?}");
                }
            }
            // The way through the stranger's own workspace leads to nothing else.
            if route.who == Who::Person && route.parameters() > 1 {
                let through = things.clone().within(Stranger::SLUG);
                let missed = stranger.misses(&app, &route, &through).await;
                let nothing = things.all(&unknown).within(Stranger::SLUG);
                assert_eq!(stranger.misses(&app, &route, &nothing).await, missed, "{route:?}");
            } else if route.method == Method::GET && !route.template.contains("id}") {
                let through = things.clone().within(Stranger::SLUG);
                let text = stranger.asks(&app, &route, &through).await.text;
                assert!(things.all_ids().all(|id| !text.contains(id)), "{route:?}: {text}");
            }
        }
        unchanged(&app, &owner, &things, before).await;
    }

    async fn too_small_a_scope_is_told_before_anything_else(app: TestApp) {
        let owner = app.owner().await;
        let things = Things::make(&app, &owner).await;
        let unknown = things.all(&SessionId::generate().to_string());
        let all = [READ, WRITE, ADMIN];
        let mut keys = BTreeMap::new();
        for lacking in all {
            let others: Vec<_> = all.into_iter().filter(|scope| *scope != lacking).collect();
            keys.insert(lacking, app.key_for(app.workspace, &others).await);
        }
        // Every member may read; of the other scopes, the highest role that lacks it.
        let people = BTreeMap::from([
            (WRITE, app.person("viewer", Role::Viewer).await.token),
            (ADMIN, app.person("member", Role::Member).await.token),
            (OWNER, app.person("admin", Role::Admin).await.token),
        ]);
        let before = shown(&app, &owner, &things).await;
        let mut seen = 0;
        for route in closed() {
            let Some(scope) = route.scope.as_deref() else { continue };
            let lacking = match route.who {
                Who::Person if scope == READ => continue,
                Who::Person => &people[scope],
                _ => &keys[scope],
            };
            for call in [
                route.call(&app, &things),
                route.call(&app, &unknown),
                route.call(&app, &unknown).body("{"),
            ] {
                let problem = call.key(lacking).send().await.problem(403, "forbidden");
                assert!(problem["detail"].as_str().unwrap().contains(scope), "{route:?}");
            }
            seen += 1;
        }
        assert!(seen > 20, "{seen}");
        unchanged(&app, &owner, &things, before).await;
    }

    async fn a_database_that_is_away_is_worth_another_try(app: TestApp) {
        let owner = app.owner().await;
        let things = Things::make(&app, &owner).await;
        app.app.db.close().await;
        for route in closed() {
            let credential = if route.who == Who::Person { &owner.token } else { &things.key };
            let answer = route.call(&app, &things).key(credential).send().await;
            assert!(answer.headers.contains_key("retry-after"), "{route:?}");
            answer.problem(503, "insufficient-capacity");
        }
        app.get("/readyz").send().await.problem(503, "insufficient-capacity");
        app.get("/healthz").send().await.expect(200);
    }
}
