//! The commands of people and of operators, against a real server.

mod operator;
mod people;
mod states;

use harness::{Server, User, cdp::Cdp, command::Done};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use ulid::Ulid;

/// The columns of a table's line.
fn columns(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect()
}

/// What a card says of this.
fn told<'a>(card: &'a str, name: &str) -> &'a str {
    let line = card.lines().find(|line| line.starts_with(&format!("{name}  ")));
    line.unwrap_or_else(|| panic!("no {name} in\n{card}"))[name.len()..].trim()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_from_the_command_line() {
    let server = Server::up().capacity(1, 1).start().await;
    let user = User::beside(&server);
    assert_eq!(user.run(&["session", "list"]).await.err, "no sessions\n");

    let create = ["session", "create", "--timeout", "120", "--viewport", "800x600"];
    let card =
        user.says(&[&create[..], &["--label", "team=search", "--wait", "30"]].concat()).await;
    let id = told(&card, "Session");
    assert_eq!(told(&card, "Status"), "RUNNING");
    assert_eq!(told(&card, "Viewport"), "800x600");
    assert_eq!(told(&card, "Labels"), "team=search");

    // a connect URL by itself, for $(…)
    let url = user.says(&["session", "connect-url", id]).await;
    let mut cdp = Cdp::connect(&url).await;
    let version = cdp.call(None, "Browser.getVersion", json!({})).await;
    assert!(version["product"].is_string(), "{version}");
    cdp.close().await;

    let session = user.json(&["session", "get", id]).await;
    assert_eq!((&session["id"], &session["labels"]["team"]), (&json!(id), &json!("search")));
    let table =
        user.says(&["session", "list", "--status", "running", "--label", "team=search"]).await;
    let lines: Vec<_> = table.lines().map(columns).collect();
    assert_eq!(lines[0], ["ID", "STATUS", "REASON", "REGION", "CREATED", "DURATION", "LABELS"]);
    assert_eq!(lines.len(), 2, "{table}");
    assert_eq!((lines[1][0], lines[1][1], lines[1][2]), (id, "RUNNING", "local"));
    assert_eq!(user.json(&["session", "list", "--region", "other"]).await["items"], json!([]));

    // there is one slot
    let full = user.fails(6, &["session", "create", "--wait", "0"]).await;
    assert!(
        full.starts_with("error: No capacity (503): ") && full.contains("try again in"),
        "{full}"
    );

    follow_until_released(&user, id).await;
    let card = user.says(&["session", "get", id]).await;
    assert_eq!(told(&card, "Status"), "COMPLETED (released by request)");
    let events = user.says(&["session", "events", id]).await;
    let events: Vec<_> = events.lines().skip(1).map(|line| columns(line)[1]).collect();
    assert_eq!(events.last(), Some(&"COMPLETED"), "{events:?}");
    let over = user.fails(5, &["session", "connect-url", id]).await;
    assert_eq!(over, "error: the session is over: COMPLETED (released by request)\n");

    server.at_rest(1).await;
    server.stop().await;
}

/// Looks on while a session is released.
async fn follow_until_released(user: &User, id: &str) {
    let mut following = user.start(&["session", "events", id, "--follow", "--json"]);
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    assert!(first["status"].is_string() && first["at"].is_string(), "{first}");
    let said = user.says(&["session", "release", id]).await;
    assert_eq!(said, format!("released {id}"));
    let mut last = first;
    while let Some(line) = lines.next_line().await.unwrap() {
        last = serde_json::from_str(&line).unwrap();
    }
    assert_eq!(
        (&last["status"], &last["reason"]["code"]),
        (&json!("COMPLETED"), &json!("released"))
    );
    assert_eq!(Done::of(following).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_gives_the_same_session_and_all_pages_are_one_list() {
    let server = Server::up().capacity(3, 0).start().await;
    let user = User::beside(&server);
    let create = ["session", "create", "--async", "--idempotency-key", "mine"];
    let first = user.json(&create).await;
    assert_eq!(user.json(&create).await["id"], first["id"]);
    for _ in 0..2 {
        user.json(&["session", "create", "--async"]).await;
    }
    let page = user.run(&["session", "list", "--limit", "2", "--json"]).await;
    assert_eq!((page.code, page.err.as_str()), (0, ""));
    let page: Value = serde_json::from_str(&page.out).unwrap();
    assert_eq!((page["items"].as_array().unwrap().len(), &page["has_more"]), (2, &json!(true)));
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = user.json(&["session", "list", "--limit", "2", "--cursor", cursor]).await;
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    assert_eq!(rest["items"][0]["id"], first["id"]);
    let all = user.json(&["session", "list", "--limit", "1", "--all"]).await;
    assert_eq!(all["items"].as_array().unwrap().len(), 3);
    assert_eq!((&all["has_more"], &all["next_cursor"]), (&json!(false), &Value::Null));
    let hint = user.run(&["session", "list", "--limit", "2"]).await.err;
    assert!(hint.starts_with("there are more: --all, or --cursor "), "{hint}");

    let ids: Vec<_> =
        all["items"].as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap()).collect();
    let said = user.says(&[&["session", "release"], &ids[..]].concat()).await;
    assert_eq!(said.lines().count(), 3);
    server.at_rest(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_code_says_what_went_wrong() {
    let server = Server::up().capacity(1, 0).start().await;
    let user = User::beside(&server);
    let url = server.api.base_url.as_str();
    let unknown = Ulid::generate().to_string();

    // the command line itself
    user.fails(2, &["session"]).await;
    user.fails(2, &["session", "get", "x"]).await;
    user.fails(2, &["session", "create", "--viewport", "wide"]).await;
    user.fails(2, &["session", "create", "--storage-state", "/no/such/file"]).await;
    let visible = ["session", "create", "--proxy", "http://u:hunter2@proxy:1"];
    assert!(!user.fails(2, &visible).await.contains("hunter2"));
    // what the server makes of it
    let invalid =
        user.fails(2, &["session", "create", "--timeout", "1", "--keep-alive", "9999"]).await;
    assert!(invalid.contains("/timeout_seconds: ") && invalid.contains("/keep_alive_seconds: "));
    assert!(invalid.contains("request id "), "{invalid}");
    let problem = user.fails(4, &["session", "get", &unknown, "--json"]).await;
    let problem: Value = serde_json::from_str(&problem).unwrap();
    assert_eq!((&problem["status"], &problem["title"]), (&json!(404), &json!("Not found")));
    assert!(problem["request_id"].is_string());
    // who asks
    let stranger = User::nowhere().env("VENTUS_URL", url);
    let refused = stranger.fails(3, &["session", "list"]).await;
    assert!(refused.contains("VENTUS_API_KEY"), "{refused}");
    let wrong = format!("vs_{unknown}.{}", "x".repeat(32));
    let stranger = stranger.env("VENTUS_API_KEY", &wrong);
    let refused = stranger.fails(3, &["session", "list"]).await;
    assert!(refused.starts_with("error: Not authenticated (401)"), "{refused}");
    assert!(!refused.contains(&wrong));
    let stranger = stranger.env("VENTUS_API_KEY", &server.key().unwrap());
    assert_eq!(stranger.json(&["session", "list"]).await["items"], json!([]));
    user.fails(3, &["key", "list"]).await;
    // whatever is logged, the key is not
    let logged = stranger.run(&["session", "list", "--log", "trace"]).await;
    let key = server.key().unwrap();
    assert!(!logged.err.contains(key.split_once('.').unwrap().1), "{}", logged.err);
    assert!(logged.err.contains("DEBUG"), "{}", logged.err);

    let away = url.to_owned();
    server.stop().await;
    let gone = stranger.fails(7, &["session", "list"]).await;
    assert!(gone.starts_with(&format!("error: no answer from {away}: ")), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shells_complete_the_commands() {
    let user = User::nowhere();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = user.says(&["completion", shell]).await;
        for word in ["connect-url", "save-profile", "idempotency-key", "workspace"] {
            assert!(script.contains(word), "{word} for {shell}");
        }
    }
    user.fails(2, &["completion", "csh"]).await;
}
