//! No secret is where it must not be: each is planted, used in every way, well and badly, and
//! then looked for in the store, in the logs at `trace`, in traces, in what runs, and in what is
//! answered.

use std::{collections::BTreeSet, fs, process::Stdio};

use harness::{
    Api, PATIENCE, Proxy, Server, Site,
    api::Answer,
    cdp::Cdp,
    collector::StandInCollector,
    eventually,
    fleet::{agent, control_plane, database, free_port},
    rows,
    server::Plan,
    tls::Certificate,
};
use http::Method;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio_tungstenite::{connect_async, tungstenite::Error};
use ulid::Ulid;

/// No secret, but in all places: whoever does not find it there does not look well.
const DECOY: &str = "planted-decoy-7c1e";
const JOIN_TOKEN: &str = "planted-join-token-e83b";
const COLLECTOR_KEY: &str = "planted-collector-key-51d0";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_shows_on_sqlite_with_all_in_one_process() {
    let server = logging(Server::up().capacity(2, 0)).start().await;
    let mut story = Story::begin(&server).await;
    story.everything(&[&server]).await;
    let (secrets, store) = (story.finish(&[&server]), server.store());
    let stopped = server.stop_process().await;
    secrets.nowhere(&[("the store at rest", DECOY, rows::everything(&store).await)]);
    drop(stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_shows_on_postgresql_with_two_halves() {
    let database = database().await;
    let hub = free_port();
    let collector = StandInCollector::start().await;
    let join = |plan: Plan| {
        let plan = collector.of(plan).env("VENTUS_LOG_FORMAT", "json");
        let headers = format!("authorization={COLLECTOR_KEY}");
        let plan = plan.env("OTEL_EXPORTER_OTLP_HEADERS", headers);
        logging(plan.env("VENTUS_JOIN_TOKEN", JOIN_TOKEN))
    };
    let control = join(control_plane(&database, hub)).start().await;
    let agent = join(agent(hub)).start().await;
    let mut story = Story::begin(&control).await;
    story.plant("the join token", JOIN_TOKEN);
    story.plant("the key of the collector", COLLECTOR_KEY);
    story.everything(&[&control, &agent]).await;
    let session = story.session.clone();
    let secrets = story.finish(&[&control, &agent]);
    agent.stop_process().await;
    control.stop().await;
    let spans: String = collector.spans().iter().map(|span| format!("{span:?}")).collect();
    secrets.nowhere(&[
        ("the store at rest", DECOY, rows::everything(&database).await),
        ("a span", &session, spans.into_bytes()),
    ]);
}

/// A filter that also asks for what libraries would tell of requests as they are.
fn logging(plan: Plan) -> Plan {
    let filter = "trace,hyper::proto=trace,h2::codec=trace,h2::hpack=trace,reqwest::connect=trace,\
                  tungstenite::protocol=trace,sqlx::query=trace";
    plan.env("VENTUS_LOG", filter)
}

/// What is planted, and all that was answered while it was used.
struct Story<'a> {
    control: &'a Server,
    secrets: Secrets,
    /// Refusals, and what lists and other reads show.
    answers: String,
    mails: BTreeSet<String>,
    /// A session that every log tells of.
    session: String,
    decoy: Child,
}

impl<'a> Story<'a> {
    async fn begin(control: &'a Server) -> Self {
        let mut decoy = Command::new("sh");
        decoy.args(["-c", "read line", DECOY]).env("DECOY", DECOY).kill_on_drop(true);
        let decoy = decoy.stdin(Stdio::piped()).spawn().unwrap();
        let mut story = Self {
            control,
            secrets: Secrets::default(),
            answers: String::new(),
            mails: BTreeSet::new(),
            session: String::new(),
            decoy,
        };
        story.plant("the first API key", &control.key().unwrap());
        story.plant("the proxy's password", Proxy::PASSWORD);
        story
    }

    /// Of a credential or a connect token only what is secret in it.
    fn plant(&mut self, what: &'static str, secret: &str) {
        let secret = secret.rsplit('.').next().unwrap();
        assert!(secret.len() >= 16, "{what} is too short to be looked for");
        self.secrets.0.push((what, secret.to_owned()));
    }

    /// Sends a request and checks its status. Secrets may only be in what succeeds.
    async fn ask(
        &mut self,
        key: &str,
        method: &str,
        path: &str,
        body: Value,
        status: u16,
    ) -> Value {
        let answer = self.send(key, method, path, &body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        answer.body
    }

    async fn send(&mut self, key: &str, method: &str, path: &str, body: &Value) -> Answer {
        let method: Method = method.parse().unwrap();
        let api = Api::new(&self.control.api.base_url, Some(key).filter(|key| !key.is_empty()));
        let once = Ulid::generate().to_string();
        let body = Some(body).filter(|body| !body.is_null());
        let answer = api.send(method.clone(), path, &[("idempotency-key", &once)], body).await;
        if answer.status >= 400 || (method == Method::GET && !path.ends_with("storage-state")) {
            self.answers += &answer.body.to_string();
        }
        answer
    }

    /// Everything, while all is looked at from outside.
    async fn everything(&mut self, servers: &[&Server]) {
        let certificate = Certificate::new().await;
        let proxy = Proxy::start("http", &certificate).await;
        let site = Site::start().await;
        let key = self.control.key().unwrap();
        self.ask(&key, "GET", &format!("/v1/sessions/{DECOY}"), Value::Null, 404).await;
        self.sessions(&key, &proxy, &site, servers).await;
        self.refusals(&key, &proxy).await;
        let access = self.people().await;
        self.keys(&access).await;
        for path in ["/v1/sessions", "/v1/profiles", "/v1/regions", "/metrics"] {
            self.send(&key, "GET", path, &Value::Null).await;
        }
        self.nothing_shows(servers).await;
        let at_rest = || async { (self.control.api.in_use().await == 0).then_some(()) };
        eventually("every slot is free", PATIENCE, at_rest).await;
    }

    /// A session with secrets of its own, and one that begins with what it has stored. The
    /// first is left running.
    async fn sessions(&mut self, key: &str, proxy: &Proxy, site: &Site, servers: &[&Server]) {
        let (cookie, item, record) = (planted("cookie"), planted("item"), planted("record"));
        self.plant("a cookie", &cookie);
        self.plant("an item of local storage", &item);
        self.plant("a record of IndexedDB", &record);
        let store = json!({"name": "s", "autoIncrement": false, "indexes": [],
            "records": [{"key": "k", "value": record}]});
        let state = json!({
            "cookies": [{"name": "sid", "value": cookie, "domain": "localhost", "path": "/"}],
            "origins": [{
                "origin": site.url,
                "localStorage": [{"name": "token", "value": item}],
                "indexedDB": [{"name": "d", "version": 1, "stores": [store]}],
            }],
        });
        let body = json!({
            "proxy": proxy.named(), "storage_state": state, "labels": {"decoy": DECOY},
        });
        let session = self.ask(key, "POST", "/v1/sessions", body, 201).await;
        let url = session["connect_url"].as_str().unwrap();
        self.plant("a connect token", url);
        let mut cdp = Cdp::connect(url).await;
        let (_, page) = cdp.page("about:blank").await;
        let navigate = json!({"url": format!("{}/index.html", site.url)});
        cdp.call(Some(&page), "Page.navigate", navigate).await;
        assert_eq!(cdp.evaluate(Some(&page), "localStorage.getItem('token')").await, item);
        cdp.close().await;
        self.nothing_shows(servers).await;

        let id = session["id"].as_str().unwrap().to_owned();
        let saved = format!("/v1/sessions/{id}/save-profile");
        let profile = self.ask(key, "POST", &saved, json!({"name": "planted"}), 201).await;
        let profile = profile["id"].as_str().unwrap();
        let path = format!("/v1/profiles/{profile}/storage-state");
        let held = self.ask(key, "GET", &path, Value::Null, 200).await.to_string();
        assert!(held.contains(&cookie) && held.contains(&item) && held.contains(&record));
        let next = json!({"profile_id": profile});
        let next = self.ask(key, "POST", "/v1/sessions", next, 201).await;
        let over = next["connect_url"].as_str().unwrap();
        self.plant("the connect token of a session that is over", over);
        let path = format!("/v1/sessions/{}", next["id"].as_str().unwrap());
        self.ask(key, "DELETE", &path, Value::Null, 204).await;
        for url in [over, &format!("{over}x"), &url.replace(&id, &Ulid::generate().to_string())] {
            self.answers += &refused(url).await;
        }
        self.session = id;
    }

    /// Secrets in requests that are wrong.
    async fn refusals(&mut self, key: &str, proxy: &Proxy) {
        let value = planted("refused");
        self.plant("a value in a request that is refused", &value);
        let cookie = |name: &str, same_site: &str| {
            json!({"name": name, "value": value, "domain": "localhost", "path": "/",
                "sameSite": same_site})
        };
        let state = |cookie: Value| json!({"storage_state": {"cookies": [cookie]}});
        let with_userinfo = proxy.url.replace("://", &format!("://u:{value}@"));
        let mut named = proxy.named();
        named["password"] = json!(["not", "text", value]);
        for (body, status) in [
            (state(cookie("a", &value)), 422),
            (json!({"storage_state": value}), 422),
            (json!({"storage_state": {"cookies": [value]}}), 422),
            (json!({"proxy": {"url": format!("{with_userinfo}:x")}}), 422),
            (json!({"proxy": {"url": format!("ftp://u:{value}@localhost")}}), 422),
            (json!({"proxy": named}), 422),
            (json!({"region": "nowhere", "proxy": {"url": with_userinfo}}), 422),
            // The browser itself refuses this one.
            (state(cookie("__Secure-a", "Lax")), 503),
        ] {
            self.ask(key, "POST", "/v1/sessions", body, status).await;
        }
        let save = format!("/v1/sessions/{}/save-profile", self.session);
        self.ask(key, "POST", &save, json!({"profile_id": [value]}), 422).await;
        let head = key.rsplit_once('.').unwrap().0;
        let wrong: String = "w".repeat(24) + &Ulid::generate().to_string()[18..];
        self.plant("the secret of a wrong key", &wrong);
        for (credential, path) in [
            (format!("{head}.{wrong}"), "/v1/sessions"),
            (format!("vd{}.{wrong}", &head[2..]), "/v1/dashboard/me"),
            (key.to_owned(), "/v1/dashboard/me"),
        ] {
            self.ask(&credential, "GET", path, Value::Null, 401).await;
        }
        let wrong = format!("vm{}.{wrong}", &head[2..]);
        self.ask("", "POST", "/v1/dashboard/auth/tokens", json!({"token": wrong}), 401).await;
        let unknown = json!({"refresh_token": format!("vr{}", &wrong[2..])});
        self.ask("", "POST", "/v1/dashboard/auth/refresh", unknown, 401).await;
    }

    /// Signs the owner in, renews the tokens, and lets somebody else in. Answers the owner's
    /// access token.
    async fn people(&mut self) -> String {
        let body = json!({"email": "owner@localhost"});
        self.ask("", "POST", "/v1/dashboard/auth/magic-links", body, 202).await;
        let link = self.mailed("a magic link").await;
        let first = self.exchange(&link, 200).await;
        self.exchange(&link, 401).await;
        let refresh = json!({"refresh_token": first["refresh_token"]});
        let path = "/v1/dashboard/auth/refresh";
        let second = self.ask("", "POST", path, refresh, 200).await;
        self.plant_tokens(&second);
        let access = second["access_token"].as_str().unwrap().to_owned();
        let invitation = json!({"email": "ada@planted.test", "role": "member"});
        let path = "/v1/dashboard/ws/default/invitations";
        self.ask(&access, "POST", path, invitation, 201).await;
        let link = self.mailed("an invitation").await;
        let theirs = self.exchange(&link, 200).await;
        let theirs = theirs["access_token"].as_str().unwrap();
        self.by_cookie(theirs).await;
        self.ask(theirs, "GET", path, Value::Null, 403).await;
        self.ask(theirs, "DELETE", "/v1/dashboard/auth/tokens", Value::Null, 204).await;
        self.ask(theirs, "GET", "/v1/dashboard/me", Value::Null, 401).await;
        for path in ["me", "ws/default", "ws/default/members", "ws/default/invitations"] {
            self.ask(&access, "GET", &format!("/v1/dashboard/{path}"), Value::Null, 200).await;
        }
        access
    }

    /// The token of the link in the next mail.
    async fn mailed(&mut self, what: &'static str) -> String {
        let folder = self.control.data().join("mail");
        let known = &self.mails;
        let (name, text) = eventually(what, PATIENCE, || async {
            let files = fs::read_dir(&folder).into_iter().flatten().flatten();
            let files = files.map(|file| (file.file_name().to_string_lossy().into_owned(), file));
            let mut new = files.filter(|(name, _)| name.ends_with(".eml") && !known.contains(name));
            let (name, file) = new.next()?;
            Some((name, fs::read_to_string(file.path()).ok()?))
        })
        .await;
        self.mails.insert(name);
        let token = text.split_once("#token=").expect("a link").1;
        let token = token.split_whitespace().next().unwrap().to_owned();
        self.plant(what, &token);
        token
    }

    async fn exchange(&mut self, token: &str, status: u16) -> Value {
        let body = json!({"token": token});
        let tokens = self.ask("", "POST", "/v1/dashboard/auth/tokens", body, status).await;
        if status == 200 {
            self.plant_tokens(&tokens);
        }
        tokens
    }

    fn plant_tokens(&mut self, tokens: &Value) {
        self.plant("an access token", tokens["access_token"].as_str().unwrap());
        self.plant("a refresh token", tokens["refresh_token"].as_str().unwrap());
    }

    async fn by_cookie(&mut self, access: &str) {
        let api = Api::new(&self.control.api.base_url, None);
        let cookie = format!("ventus_access={access}");
        let me = api.send(Method::GET, "/v1/dashboard/me", &[("cookie", &cookie)], None).await;
        assert_eq!(me.status, 200, "{}", me.body);
        // From nobody's page: it changes nothing.
        let path = "/v1/dashboard/auth/tokens";
        let out = api.send(Method::DELETE, path, &[("cookie", &cookie)], None).await;
        assert_eq!(out.status, 403, "{}", out.body);
        self.answers += &out.body.to_string();
    }

    /// Makes a key that may stop sessions, stops one, and revokes the key.
    async fn keys(&mut self, access: &str) {
        let keys = "/v1/dashboard/ws/default/api-keys";
        let body = json!({"label": "planted", "scopes": ["sessions:read", "admin"]});
        let made = self.ask(access, "POST", keys, body, 201).await;
        let secret = made["secret"].as_str().unwrap();
        self.plant("an API key", secret);
        self.ask(secret, "POST", "/v1/sessions", json!({}), 403).await;
        let stop = format!("/v1/sessions/{}/force-stop", self.session);
        self.ask(secret, "POST", &stop, Value::Null, 204).await;
        let revoke = format!("{keys}/{}", made["id"].as_str().unwrap());
        self.ask(access, "DELETE", &revoke, Value::Null, 204).await;
        self.ask(secret, "GET", "/v1/sessions", Value::Null, 401).await;
        for path in [keys, "/v1/dashboard/ws/default/audit?limit=100"] {
            self.ask(access, "GET", path, Value::Null, 200).await;
        }
    }

    /// Looks everywhere while all runs.
    async fn nothing_shows(&self, servers: &[&Server]) {
        let (arguments, environments) = self.running(servers);
        self.secrets.nowhere(&[
            ("the store", DECOY, rows::everything(&self.control.store()).await),
            ("some process's arguments", DECOY, arguments),
            ("a browser's environment", DECOY, environments),
        ]);
    }

    /// Arguments of all that runs on this machine, and the environments of what the servers
    /// have started, with that of the decoy.
    fn running(&self, servers: &[&Server]) -> (Vec<u8>, Vec<u8>) {
        let of =
            |pid: &str, file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let all = fs::read_dir("/proc").unwrap().flatten();
        let all = all.filter_map(|entry| entry.file_name().into_string().ok());
        let arguments = all.flat_map(|pid| of(&pid, "cmdline")).collect();
        let browsers = servers.iter().flat_map(|server| server.processes());
        let pids = browsers.map(|process| process.pid.to_string());
        let pids = pids.chain([self.decoy.id().unwrap().to_string()]);
        (arguments, pids.flat_map(|pid| of(&pid, "environ")).collect())
    }

    /// Looks into what was answered and logged, and hands on what to look for.
    fn finish(self, servers: &[&Server]) -> Secrets {
        let mut places = vec![("an answer", DECOY, self.answers.into_bytes())];
        let logs = servers.iter().map(|server| server.log().into_bytes());
        places.extend(logs.map(|log| ("a log", self.session.as_str(), log)));
        self.secrets.nowhere(&places);
        self.secrets
    }
}

/// What a client hears that is not let in, as soon as the agent knows that it is not to. Until
/// then it is let in: never is it told that the server fails.
async fn refused(url: &str) -> String {
    let refused = || async {
        let Err(Error::Http(response)) = connect_async(url).await else { return None };
        let body = response.body().as_deref().unwrap_or_default();
        let body = String::from_utf8_lossy(body).into_owned();
        assert!(response.status().is_client_error(), "{}: {body}", response.status());
        Some(body)
    };
    eventually("a client is refused", PATIENCE, refused).await
}

fn planted(what: &str) -> String {
    format!("planted-{what}-{}", Ulid::generate())
}

/// What to look for.
#[derive(Default)]
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    /// Fails when one of them is in one of these places, as it is or in hexadecimal. Of each
    /// place: its name, what must be found in it, and all that it holds.
    fn nowhere(&self, places: &[(&str, &str, Vec<u8>)]) {
        let mut found = Vec::new();
        for (place, sign, held) in places {
            assert!(contains(held, sign), "{place} was not looked through");
            for (what, secret) in &self.0 {
                let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
                if contains(held, secret) || contains(held, &hex) {
                    found.push(format!("{what} is in {place}"));
                }
            }
        }
        assert!(found.is_empty(), "{found:#?}");
    }
}

fn contains(held: &[u8], part: &str) -> bool {
    memchr::memmem::find(held, part.as_bytes()).is_some()
}
